//! The master key file.
//!
//! ```text
//! buddo-master-keys 1
//! current KEY
//! old KEY                 while it is rotated
//! fingerprints KEY        stays the same over rotations
//! ```
//!
//! KEY is 32 bytes in base64url. Older files hold only the current key, on one line.

use aws_lc_rs::aead::{AES_256_GCM, RandomizedNonceKey};
use aws_lc_rs::{digest, hmac};
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64;
use buddo_shared::model::secret::Secret;
use zeroize::Zeroizing;

use super::VaultError;
use crate::crypto::random::{self, Random};
use crate::domain::encryption::KEY_ID;

const HEADER: &str = "buddo-master-keys 1";
type Bytes = Zeroizing<[u8; 32]>;

#[derive(Clone)]
pub(super) struct Key {
    bytes: Bytes,
    pub(super) id: [u8; KEY_ID],
}

impl Key {
    fn new(bytes: Bytes) -> Result<Self, VaultError> {
        let named = Zeroizing::new([b"buddo master key id", bytes.as_slice()].concat());
        let hash = digest::digest(&digest::SHA256, &named);
        let id = hash.as_ref().first_chunk().copied().ok_or(VaultError::Key)?;
        Ok(Self { bytes, id })
    }

    fn generate(random: &dyn Random) -> Result<Self, VaultError> {
        Self::new(Zeroizing::new(random::bytes::<32>(random)))
    }

    pub(super) fn cipher(&self) -> Result<RandomizedNonceKey, VaultError> {
        RandomizedNonceKey::new(&AES_256_GCM, self.bytes.as_slice()).map_err(|_| VaultError::Key)
    }
}

/// The content of the file.
#[derive(Clone)]
pub(super) struct MasterKeyring {
    pub(super) current: Key,
    /// The previous key, while values encrypted with it may be left.
    pub(super) old: Option<Key>,
    fingerprints: Bytes,
}

impl MasterKeyring {
    pub(super) fn generate(random: &dyn Random) -> Result<Self, VaultError> {
        let fingerprints = Zeroizing::new(random::bytes::<32>(random));
        Ok(Self { current: Key::generate(random)?, old: None, fingerprints })
    }

    /// A copy with a new current key; the previous one becomes the old one.
    pub(super) fn rotated(&self, random: &dyn Random) -> Result<Self, VaultError> {
        let fingerprints = self.fingerprints.clone();
        Ok(Self { current: Key::generate(random)?, old: Some(self.current.clone()), fingerprints })
    }

    /// A copy without the old key.
    pub(super) fn settled(&self) -> Self {
        Self { old: None, ..self.clone() }
    }

    pub(super) fn fingerprints(&self) -> hmac::Key {
        hmac::Key::new(hmac::HMAC_SHA256, self.fingerprints.as_slice())
    }

    pub(super) fn parse(text: &Secret) -> Result<Self, VaultError> {
        let text = text.expose().trim();
        let Some(lines) = text.strip_prefix(HEADER) else { return Self::first_form(text) };
        let (mut current, mut old, mut fingerprints) = (None, None, None);
        for line in lines.lines().map(str::trim).filter(|line| !line.is_empty()) {
            let (name, key) = line.split_once(' ').ok_or(VaultError::Key)?;
            let slot = match name {
                "current" => &mut current,
                "old" => &mut old,
                "fingerprints" => &mut fingerprints,
                _ => return Err(VaultError::Key),
            };
            if slot.replace(decode(key)?).is_some() {
                return Err(VaultError::Key);
            }
        }
        let (current, fingerprints) = current.zip(fingerprints).ok_or(VaultError::Key)?;
        Ok(Self { current: Key::new(current)?, old: old.map(Key::new).transpose()?, fingerprints })
    }

    fn first_form(text: &str) -> Result<Self, VaultError> {
        let bytes = decode(text)?;
        let key = hmac::Key::new(hmac::HMAC_SHA256, bytes.as_slice());
        let derived = hmac::sign(&key, b"buddo fingerprints");
        let fingerprints = derived.as_ref().try_into().map_err(|_| VaultError::Key)?;
        let fingerprints = Zeroizing::new(fingerprints);
        Ok(Self { current: Key::new(bytes)?, old: None, fingerprints })
    }

    pub(super) fn to_text(&self) -> Secret {
        let line = |name: &str, key: &Bytes| format!("{name} {}\n", BASE64.encode(key.as_slice()));
        let old = self.old.as_ref().map(|old| line("old", &old.bytes)).unwrap_or_default();
        let current = line("current", &self.current.bytes);
        let fingerprints = line("fingerprints", &self.fingerprints);
        Secret::new(format!("{HEADER}\n{current}{old}{fingerprints}"))
    }
}

fn decode(text: &str) -> Result<Bytes, VaultError> {
    let bytes = Zeroizing::new(BASE64.decode(text).map_err(|_| VaultError::Key)?);
    bytes.as_slice().try_into().map(Zeroizing::new).map_err(|_| VaultError::Key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::random::SystemRandom;

    #[test]
    fn a_key_file_round_trips_and_an_old_one_keeps_its_fingerprints() {
        let first = Secret::new(BASE64.encode([7; 32]));
        let old = MasterKeyring::parse(&first).unwrap();
        let rotated = old.rotated(&SystemRandom).unwrap();
        let read = MasterKeyring::parse(&rotated.to_text()).unwrap();
        assert_eq!(read.old.as_ref().unwrap().id, old.current.id);
        assert_ne!(read.current.id, old.current.id);
        assert_eq!(read.fingerprints, old.fingerprints);
        let settled = MasterKeyring::parse(&read.settled().to_text()).unwrap();
        assert!(settled.old.is_none() && settled.current.id == rotated.current.id);
        assert_eq!(settled.fingerprints, old.fingerprints);
    }

    #[test]
    fn malformed_key_files_are_refused() {
        let key = BASE64.encode([7; 32]);
        for text in [
            String::new(),
            "short".to_owned(),
            HEADER.to_owned(),
            format!("{HEADER}\ncurrent {key}\n"),
            format!("{HEADER}\ncurrent {key}\ncurrent {key}\nfingerprints {key}\n"),
            format!("{HEADER}\ncurrent {key}\nfingerprints {key}\nmore {key}\n"),
            format!("{HEADER}\ncurrent {}\nfingerprints {key}\n", &key[1..]),
        ] {
            assert!(MasterKeyring::parse(&Secret::new(&*text)).is_err(), "{text}");
        }
    }
}
