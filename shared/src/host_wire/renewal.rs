//! How a host requests its next certificate: a statement signed with its own key.
//!
//! ```text
//! host.key ─ signs ─► Statement { host, number it has, id of the request, TLS connection }
//!                         │ JWS (RFC 7515), ES256
//!                         ▼
//!       coordinator: known key ─► signature ─► this connection ─► number ─► next certificate
//! ```
//!
//! The statement names the TLS connection it is sent over (RFC 9266, `tls-exporter`), so it is
//! worthless on any other: no nonce has to be requested or remembered.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::host_wire::jws::Flattened;
use crate::model::id::HostId;

/// `typ` of a statement (RFC 7515, 4.1.9).
const TYPE: &str = "buddo-renewal+jws";

/// Label of the exporter that binds a statement to its connection (RFC 9266, 2).
pub const BINDING_LABEL: &[u8] = b"EXPORTER-Channel-Binding";

/// DER of a `SubjectPublicKeyInfo` up to the point of an uncompressed P-256 key (RFC 5480, 2).
const P256: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a,
    0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];

/// Answer to `POST /v1/renew`, whose body is a signed [`Statement`].
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Renewed {
    /// The host's next certificate, PEM, for its existing key.
    pub certificate: String,
}

/// A value known only to the two ends of one TLS connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Binding(pub [u8; 32]);

/// The public key of a host: ECDSA on P-256.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostKey(Vec<u8>);

/// The bytes are not a P-256 public key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the host's key is not an ECDSA key on P-256; let the agent make new keys")]
pub struct HostKeyError;

impl HostKey {
    /// Reads a DER `SubjectPublicKeyInfo`.
    pub fn from_spki(der: &[u8]) -> Result<Self, HostKeyError> {
        match der.strip_prefix(&P256) {
            Some([4, rest @ ..]) if rest.len() == 64 => Ok(Self(der.to_vec())),
            _ => Err(HostKeyError),
        }
    }

    /// The DER `SubjectPublicKeyInfo`.
    pub fn spki(&self) -> &[u8] {
        &self.0
    }

    fn point(&self) -> &[u8] {
        &self.0[P256.len()..]
    }
}

/// The statement of a host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Statement {
    /// The host that the certificate is for.
    pub host_id: HostId,
    /// The number of its current certificate. Two copies of one host sooner or later differ in it.
    pub number: u32,
    /// The same for each retry of this request, so that a lost answer can be fetched again.
    pub request: Uuid,
    /// The connection's binding, base64url.
    binding: String,
}

impl Statement {
    /// A statement for the connection that `binding` names.
    pub fn new(host_id: HostId, number: u32, request: Uuid, binding: Binding) -> Self {
        Self { host_id, number, request, binding: BASE64.encode(binding.0) }
    }

    /// Signs it with the host's private key, in PKCS#8 form.
    pub fn sign(&self, pkcs8: &[u8]) -> Result<Vec<u8>, RenewalError> {
        let header =
            Header { typ: Some(TYPE.to_owned()), kid: None, ..Header::new(Algorithm::ES256) };
        let key = EncodingKey::from_ec_der(pkcs8);
        let signed = Flattened::sign(&header, self, &key).map_err(RenewalError::Sign)?;
        serde_json::to_vec(&signed).map_err(|_| RenewalError::Malformed)
    }
}

/// A statement cannot be made or is not accepted.
#[derive(Debug, thiserror::Error)]
pub enum RenewalError {
    /// The private key cannot sign.
    #[error("cannot sign with the host's key")]
    Sign(#[source] jsonwebtoken::errors::Error),
    /// Not a JWS of the accepted form.
    #[error("the statement is malformed")]
    Malformed,
    /// Signed with a key other than the host's, or changed.
    #[error("the statement is not signed with the host's key")]
    Signature,
    /// Made for another connection: replayed or relayed.
    #[error("the statement was made for another connection")]
    Binding,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Protected {
    alg: String,
    typ: String,
}

/// An unverified statement: only the claimed host can be read.
pub struct Claim {
    signed: Flattened,
    statement: Statement,
}

impl Claim {
    /// Parses a statement without verifying it.
    pub fn read(bytes: &[u8]) -> Result<Self, RenewalError> {
        let malformed = |_| RenewalError::Malformed;
        let signed: Flattened = serde_json::from_slice(bytes).map_err(malformed)?;
        let decode = |text: &str| BASE64.decode(text).map_err(|_| RenewalError::Malformed);
        let header: Protected =
            serde_json::from_slice(&decode(&signed.protected)?).map_err(malformed)?;
        if header.alg != "ES256" || header.typ != TYPE {
            return Err(RenewalError::Malformed);
        }
        let statement = serde_json::from_slice(&decode(&signed.payload)?).map_err(malformed)?;
        Ok(Self { signed, statement })
    }

    /// The host that it claims to be from.
    pub fn host_id(&self) -> HostId {
        self.statement.host_id
    }

    /// The statement, if `key` signed it for the connection that `binding` names.
    pub fn verify(&self, key: &HostKey, binding: Binding) -> Result<Statement, RenewalError> {
        if !self.signed.is_signed_by(&DecodingKey::from_ec_der(key.point()), Algorithm::ES256) {
            return Err(RenewalError::Signature);
        }
        // Not a secret between these two, so a timing leak does not matter.
        if self.statement.binding != BASE64.encode(binding.0) {
            return Err(RenewalError::Binding);
        }
        Ok(self.statement.clone())
    }
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING as ALGORITHM, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _,
    };

    use super::*;

    fn pair() -> (Vec<u8>, HostKey) {
        let rng = aws_lc_rs::rand::SystemRandom::new();
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ALGORITHM, &rng).unwrap();
        let key = EcdsaKeyPair::from_pkcs8(&ALGORITHM, pkcs8.as_ref()).unwrap();
        let spki = [&P256[..], key.public_key().as_ref()].concat();
        (pkcs8.as_ref().to_vec(), HostKey::from_spki(&spki).unwrap())
    }

    fn statement(binding: Binding) -> Statement {
        let host = HostId::new(Uuid::from_u128(1));
        Statement::new(host, 7, Uuid::from_u128(9), binding)
    }

    #[test]
    fn a_statement_is_bound_to_its_key_and_connection() {
        let (private, public) = pair();
        let here = Binding([1; 32]);
        let bytes = statement(here).sign(&private).unwrap();
        let read = || Claim::read(&bytes).unwrap();
        assert_eq!(read().verify(&public, here).unwrap(), statement(here));
        assert!(matches!(read().verify(&pair().1, here), Err(RenewalError::Signature)));
        let elsewhere = read().verify(&public, Binding([2; 32]));
        assert!(matches!(elsewhere, Err(RenewalError::Binding)));
    }

    #[test]
    fn a_changed_statement_is_refused() {
        let (private, public) = pair();
        let here = Binding([1; 32]);
        let bytes = statement(here).sign(&private).unwrap();
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            let accepted = Claim::read(&changed).and_then(|claim| claim.verify(&public, here));
            assert!(accepted.is_err(), "byte {at} was changed");
            assert!(Claim::read(&bytes[..at]).is_err(), "cut off at {at}");
        }
    }

    #[test]
    fn only_p256_keys_are_host_keys() {
        let rng = aws_lc_rs::rand::SystemRandom::new();
        let other = Ed25519KeyPair::generate_pkcs8(&rng).unwrap();
        for bad in [&[][..], &P256, other.as_ref(), &[&P256[..], &[4; 66]].concat()] {
            assert_eq!(HostKey::from_spki(bad), Err(HostKeyError));
        }
    }
}
