//! Secrets at rest: AES-256-GCM under a master key that is a file of its own, apart from the
//! database and its backups.
//!
//! A ciphertext is `key id (8 bytes) | nonce (12) | sealed text and tag`. The owner's id is the
//! associated data, so that a ciphertext cannot be moved to another owner.

use std::path::Path;

use aws_lc_rs::aead::{AES_256_GCM, Aad, Nonce, RandomizedNonceKey};
use aws_lc_rs::{digest, hmac};
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64;
use buddo_shared::secret::Secret;
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::random::{self, Random};
use crate::secret_file::{self, SecretFileError};

const KEY_ID: usize = 8;
const NONCE: usize = 12;

/// The master key.
pub struct Vault {
    key: RandomizedNonceKey,
    id: [u8; KEY_ID],
    fingerprints: hmac::Key,
}

impl std::fmt::Debug for Vault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Vault([redacted])")
    }
}

/// A secret cannot be encrypted or read.
#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    /// The key file cannot be used.
    #[error("cannot use the master key")]
    File(#[from] SecretFileError),
    /// The key file holds something else.
    #[error("the master key file does not hold 32 bytes in base64url; restore it from its backup")]
    Key,
    /// The ciphertext was made with another master key.
    #[error("a stored secret was encrypted with another master key; restore master.key")]
    OtherKey,
    /// The ciphertext was changed or belongs to another owner.
    #[error("a stored secret does not decrypt; the database was changed from outside")]
    Open,
    /// The cipher refused.
    #[error("cannot encrypt a secret")]
    Seal,
}

impl Vault {
    /// Reads the key file, or makes it.
    pub fn open(path: &Path, random: &dyn Random) -> Result<Self, VaultError> {
        let text = secret_file::read_or_create::<VaultError>(path, || {
            let key = Zeroizing::new(random::bytes::<32>(random));
            Ok(Secret::new(BASE64.encode(key.as_slice())))
        })?;
        let key = BASE64.decode(text.expose().trim()).map_err(|_| VaultError::Key)?;
        Self::new(&Zeroizing::new(key))
    }

    fn new(key: &[u8]) -> Result<Self, VaultError> {
        let hash = digest::digest(&digest::SHA256, &[b"buddo master key id", key].concat());
        let id = hash.as_ref().first_chunk().copied().ok_or(VaultError::Key)?;
        let derived = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), b"buddo fingerprints");
        let fingerprints = hmac::Key::new(hmac::HMAC_SHA256, derived.as_ref());
        let key = RandomizedNonceKey::new(&AES_256_GCM, key).map_err(|_| VaultError::Key)?;
        Ok(Self { key, id, fingerprints })
    }

    /// Encrypts `plain` for `owner`.
    pub fn seal(&self, owner: &Uuid, plain: &Secret) -> Result<Vec<u8>, VaultError> {
        let mut text = plain.expose().as_bytes().to_vec();
        let nonce = self
            .key
            .seal_in_place_append_tag(Aad::from(owner.as_bytes()), &mut text)
            .map_err(|_| VaultError::Seal)?;
        Ok([&self.id, nonce.as_ref().as_slice(), &text].concat())
    }

    /// A keyed hash, by which texts that may hold secrets can be compared without keeping them.
    pub fn fingerprint(&self, text: &[u8]) -> [u8; 32] {
        let mut hash = [0; 32];
        // HMAC-SHA256 has 32 bytes.
        hash.copy_from_slice(hmac::sign(&self.fingerprints, text).as_ref());
        hash
    }

    /// Decrypts what [`seal`](Self::seal) made for `owner`.
    pub fn open_sealed(&self, owner: &Uuid, sealed: &[u8]) -> Result<Secret, VaultError> {
        let (id, rest) = sealed.split_first_chunk::<KEY_ID>().ok_or(VaultError::Open)?;
        if *id != self.id {
            return Err(VaultError::OtherKey);
        }
        let (nonce, text) = rest.split_first_chunk::<NONCE>().ok_or(VaultError::Open)?;
        let mut text = Zeroizing::new(text.to_vec());
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let plain = self
            .key
            .open_in_place(nonce, Aad::from(owner.as_bytes()), &mut text)
            .map_err(|_| VaultError::Open)?;
        std::str::from_utf8(plain).map(Secret::new).map_err(|_| VaultError::Open)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::SystemRandom;

    fn vault(key: u8) -> Vault {
        Vault::new(&[key; 32]).unwrap()
    }

    #[test]
    fn opens_for_its_owner_and_key_only() {
        let (owner, other) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let sealed = vault(1).seal(&owner, &Secret::new("DATABASE_URL")).unwrap();
        assert!(!sealed.windows(8).any(|window| window == b"DATABASE"));
        let opened = vault(1).open_sealed(&owner, &sealed).unwrap();
        assert_eq!(opened.expose(), "DATABASE_URL");
        assert!(matches!(vault(1).open_sealed(&other, &sealed), Err(VaultError::Open)));
        assert!(matches!(vault(2).open_sealed(&owner, &sealed), Err(VaultError::OtherKey)));
    }

    #[test]
    fn every_changed_byte_is_noticed() {
        let owner = Uuid::from_u128(1);
        let sealed = vault(1).seal(&owner, &Secret::new("x")).unwrap();
        for index in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[index] ^= 1;
            assert!(vault(1).open_sealed(&owner, &changed).is_err(), "byte {index}");
            assert!(vault(1).open_sealed(&owner, &sealed[..index]).is_err(), "cut at {index}");
        }
    }

    #[test]
    fn a_damaged_key_file_is_no_new_key() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("master.key");
        Vault::open(&path, &SystemRandom).unwrap();
        std::fs::write(&path, "short").unwrap();
        assert!(matches!(Vault::open(&path, &SystemRandom), Err(VaultError::Key)));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "short");
    }
}
