//! Values that only one host can read: HPKE (RFC 9180), base mode, DHKEM(X25519, HKDF-SHA256)
//! with AES-256-GCM.
//!
//! The associated data binds a sealed value to its purpose and its owner, so that a value
//! cannot be moved to another deployment or read as something else.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64;
use rustls::crypto::aws_lc_rs::hpke::DH_KEM_X25519_HKDF_SHA256_AES_256 as SUITE;
use rustls::crypto::hpke::{EncapsulatedSecret, Hpke as _, HpkePrivateKey, HpkePublicKey};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::model::id::DeploymentId;
use crate::model::secret::Secret;

const INFO: &[u8] = b"buddo sealed v1";

/// A value encrypted to one host's key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sealed {
    /// The encapsulated key, base64url.
    enc: String,
    /// The ciphertext with its tag, base64url.
    ct: String,
}

/// Sealing or opening failed. Deliberately without detail: the reasons look alike to the reader.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// The recipient's key is not an X25519 public key.
    #[error("the host's sealing key is malformed; let the host join again")]
    Key,
    /// The value was sealed to another key, for another owner or purpose, or was changed.
    #[error("the sealed value does not open with this host's key")]
    Open,
}

/// The public half of a host's sealing key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SealingKey(String);

/// The private half. Never printed.
pub struct OpeningKey(Zeroizing<Vec<u8>>);

impl std::fmt::Debug for OpeningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("OpeningKey([redacted])")
    }
}

impl OpeningKey {
    /// Generates a key pair.
    pub fn generate() -> Result<(Self, SealingKey), SealError> {
        let (public, private) = SUITE.generate_key_pair().map_err(|_| SealError::Key)?;
        let private = Zeroizing::new(private.secret_bytes().to_vec());
        Ok((Self(private), SealingKey(BASE64.encode(public.0))))
    }

    /// Parses a key that [`to_text`](Self::to_text) wrote.
    pub fn from_text(text: &Secret) -> Result<Self, SealError> {
        let bytes = BASE64.decode(text.expose().trim()).map_err(|_| SealError::Key)?;
        if bytes.len() == 32 { Ok(Self(Zeroizing::new(bytes))) } else { Err(SealError::Key) }
    }

    /// The key as text, for its owner's 0600 file.
    pub fn to_text(&self) -> Secret {
        Secret::new(BASE64.encode(&*self.0))
    }
}

impl Sealed {
    /// Purpose of a sealed environment.
    pub const ENVIRONMENT: &str = "environment";
    /// Purpose of sealed registry credentials.
    pub const REGISTRY: &str = "registry";

    /// Seals `plain` to `key`, bound to `purpose` and `owner`.
    pub fn seal(
        key: &SealingKey,
        purpose: &str,
        owner: DeploymentId,
        plain: &Secret,
    ) -> Result<Self, SealError> {
        let public = BASE64.decode(&key.0).map_err(|_| SealError::Key)?;
        let aad = associated_data(purpose, owner);
        let (enc, ct) = SUITE
            .seal(INFO, &aad, plain.expose().as_bytes(), &HpkePublicKey(public))
            .map_err(|_| SealError::Key)?;
        Ok(Self { enc: BASE64.encode(enc.0), ct: BASE64.encode(ct) })
    }

    /// Opens the value if it was sealed to `key` for this `purpose` and `owner`.
    pub fn open(
        &self,
        key: &OpeningKey,
        purpose: &str,
        owner: DeploymentId,
    ) -> Result<Secret, SealError> {
        let enc = BASE64.decode(&self.enc).map_err(|_| SealError::Open)?;
        let ct = BASE64.decode(&self.ct).map_err(|_| SealError::Open)?;
        let private = HpkePrivateKey::from(key.0.to_vec());
        let aad = associated_data(purpose, owner);
        let plain = SUITE
            .open(&EncapsulatedSecret(enc), INFO, &aad, &ct, &private)
            .map_err(|_| SealError::Open)?;
        String::from_utf8(plain).map(Secret::new).map_err(|_| SealError::Open)
    }
}

fn associated_data(purpose: &str, owner: DeploymentId) -> Vec<u8> {
    format!("{purpose}\n{owner}").into_bytes()
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn owner(n: u128) -> DeploymentId {
        DeploymentId::new(Uuid::from_u128(n))
    }

    #[test]
    fn opens_for_its_owner_and_purpose_only() {
        let (opening, sealing) = OpeningKey::generate().unwrap();
        let opening = OpeningKey::from_text(&opening.to_text()).unwrap();
        let sealed =
            Sealed::seal(&sealing, Sealed::ENVIRONMENT, owner(1), &Secret::new("value")).unwrap();
        assert_eq!(sealed.open(&opening, Sealed::ENVIRONMENT, owner(1)).unwrap().expose(), "value");
        assert_eq!(sealed.open(&opening, Sealed::ENVIRONMENT, owner(2)), Err(SealError::Open));
        assert_eq!(sealed.open(&opening, Sealed::REGISTRY, owner(1)), Err(SealError::Open));
        let (other, _) = OpeningKey::generate().unwrap();
        assert_eq!(sealed.open(&other, Sealed::ENVIRONMENT, owner(1)), Err(SealError::Open));
    }

    #[test]
    fn a_changed_ciphertext_does_not_open() {
        let (opening, sealing) = OpeningKey::generate().unwrap();
        let mut sealed =
            Sealed::seal(&sealing, Sealed::ENVIRONMENT, owner(1), &Secret::new("value")).unwrap();
        let flipped = if sealed.ct.starts_with('A') { "B" } else { "A" };
        sealed.ct.replace_range(0..1, flipped);
        assert_eq!(sealed.open(&opening, Sealed::ENVIRONMENT, owner(1)), Err(SealError::Open));
    }
}
