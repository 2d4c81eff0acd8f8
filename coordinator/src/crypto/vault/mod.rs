//! Secrets at rest: AES-256-GCM with a master key in its own file, apart from the database and its
//! backups.
//!
//! A ciphertext is `"BDV2" | key id (8 bytes) | nonce (12) | sealed text and tag`. The header and
//! the [`EncryptionContext`] are the associated data, so that a ciphertext cannot be moved to
//! another table, column or row. The first format began with the key id and was bound only to its
//! owner; only [`Vault::renew`] reads it, once, at the first start after the upgrade.
//!
//! ```text
//! rotate ─► file: new key and old one ─► each value under the new one ─► file: new key
//! ```
//!
//! A process serving meanwhile checks the file before each encryption, within its transaction, so
//! that no value under the old key appears after the final check for such values.

mod keyring;

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use aws_lc_rs::aead::{Aad, Nonce, RandomizedNonceKey};
use aws_lc_rs::hmac;
use buddo_shared::model::secret::Secret;
use data_encoding::HEXLOWER;
use zeroize::Zeroizing;

use self::keyring::{Key, MasterKeyring};
use crate::crypto::random::Random;
use crate::domain::encryption::{EncryptionContext, FORM, HEAD, KEY_ID};
use crate::process::secret_file::{self, SecretFileError};

const NONCE: usize = 12;
/// A secret cannot be encrypted or read.
#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    /// The key file cannot be used.
    #[error("cannot use the master key")]
    File(#[from] SecretFileError),
    /// The key file holds something else.
    #[error("the master key file is invalid; restore it from its backup")]
    Key,
    /// The ciphertext was made with another master key.
    #[error("a stored secret was encrypted with another master key; restore master.key")]
    OtherKey,
    /// The ciphertext was changed or belongs to another row.
    #[error("a stored secret does not decrypt; the database was modified externally")]
    Open,
    #[error("cannot encrypt a secret")]
    Seal,
}

/// The master keys: the current one, and earlier ones that are or were in the file.
pub struct Vault {
    path: PathBuf,
    held: ArcSwap<Held>,
}

/// The keys as last read.
struct Held {
    ring: MasterKeyring,
    /// Keys that the file held earlier: values read back then are opened with them.
    past: Vec<Key>,
    stamp: Stamp,
}

/// Detects a replaced file: each change is a rename, and so another inode.
type Stamp = (u64, u64, i64, i64);

impl std::fmt::Debug for Vault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Vault([redacted])")
    }
}

impl Vault {
    /// Reads the key file, or creates it.
    pub fn open(path: &Path, random: &dyn Random) -> Result<Self, VaultError> {
        let make = || Ok(MasterKeyring::generate(random)?.to_text());
        secret_file::read_or_create::<VaultError>(path, make)?;
        Self::open_existing(path)
    }

    /// Reads the key file, which must exist.
    pub fn open_existing(path: &Path) -> Result<Self, VaultError> {
        let (ring, stamp) = read(path)?;
        let held = ArcSwap::from_pointee(Held { ring, past: Vec::new(), stamp });
        Ok(Self { path: path.to_owned(), held })
    }

    /// Encrypts `plain` for its context. Call it within the transaction that stores it, or
    /// [`seal_again`](Self::seal_again) there.
    pub fn seal(&self, context: EncryptionContext, plain: &Secret) -> Result<Vec<u8>, VaultError> {
        self.refresh()?;
        seal(&self.held.load().ring.current, context, plain)
    }

    /// Re-encrypts what was encrypted before the transaction that stores it, if the master key was
    /// rotated in between: the rotation may have ended, and its old key be gone.
    pub fn seal_again(
        &self,
        context: EncryptionContext,
        plain: &Secret,
        sealed: Vec<u8>,
    ) -> Result<Vec<u8>, VaultError> {
        self.refresh()?;
        if sealed.starts_with(&self.head()) { Ok(sealed) } else { self.seal(context, plain) }
    }

    /// A keyed hash, to compare texts that may contain secrets without keeping them. It survives
    /// master key rotations.
    pub fn fingerprint(&self, text: &[u8]) -> [u8; 32] {
        let mut hash = [0; 32];
        // HMAC-SHA256 has 32 bytes.
        let key = self.held.load().ring.fingerprints();
        hash.copy_from_slice(hmac::sign(&key, text).as_ref());
        hash
    }

    /// Decrypts what [`seal`](Self::seal) made for this context.
    pub fn open_sealed(
        &self,
        context: EncryptionContext,
        sealed: &[u8],
    ) -> Result<Secret, VaultError> {
        let (head, _) = sealed.split_first_chunk::<HEAD>().ok_or(VaultError::Open)?;
        let (form, id) = head.split_at(FORM.len());
        if form != FORM {
            return Err(VaultError::Open);
        }
        let cipher = self.cipher(id)?;
        open(&cipher, sealed, HEAD, &context.bound(head))
    }

    /// The value under the current key; `None`: it already is. `first_form`: whether the first
    /// format is accepted.
    pub fn renew(
        &self,
        context: EncryptionContext,
        sealed: &[u8],
        first_form: bool,
    ) -> Result<Option<Vec<u8>>, VaultError> {
        if sealed.starts_with(&self.head()) {
            return Ok(None);
        }
        let plain = if sealed.starts_with(&FORM) || !first_form {
            self.open_sealed(context, sealed)?
        } else {
            let (id, _) = sealed.split_first_chunk::<KEY_ID>().ok_or(VaultError::Open)?;
            open(&self.cipher(id)?, sealed, KEY_ID, context.owner().as_bytes())?
        };
        self.seal(context, &plain).map(Some)
    }

    /// The prefix of every value under the current key.
    pub fn head(&self) -> [u8; HEAD] {
        let mut head = [0; HEAD];
        head[..FORM.len()].copy_from_slice(&FORM);
        head[FORM.len()..].copy_from_slice(&self.held.load().ring.current.id);
        head
    }

    /// The current key's id, for display.
    pub fn key_id(&self) -> String {
        HEXLOWER.encode(&self.held.load().ring.current.id)
    }

    /// The id of the key being replaced, during a rotation.
    pub fn old_key_id(&self) -> Option<String> {
        self.held.load().ring.old.as_ref().map(|old| HEXLOWER.encode(&old.id))
    }

    /// Adds the keys of another file to its own, to read values with.
    pub fn learn(&self, other: &Self) {
        let (held, more) = (self.held.load_full(), other.held.load_full());
        let past = [&[more.ring.current.clone()][..], &more.past, &held.past].concat();
        let past = past.into_iter().chain(more.ring.old.clone()).collect();
        self.held.store(Arc::new(Held { ring: held.ring.clone(), past, stamp: held.stamp }));
    }

    /// Starts a rotation: values are encrypted with a new key from now on. Durable when it returns.
    pub fn begin_rotation(&self, random: &dyn Random) -> Result<(), VaultError> {
        self.refresh()?;
        let held = self.held.load_full();
        if held.ring.old.is_some() {
            // Another rotation was started meanwhile; a third key would drop the first.
            return Ok(());
        }
        let ring = held.ring.rotated(random)?;
        secret_file::replace(&self.path, &ring.to_text())?;
        self.refresh()
    }

    /// Ends a rotation: drops the old key.
    pub fn end_rotation(&self) -> Result<(), VaultError> {
        self.refresh()?;
        let ring = self.held.load().ring.settled();
        secret_file::replace(&self.path, &ring.to_text())?;
        self.refresh()
    }

    /// Encrypts in the first format, as earlier versions did.
    #[cfg(test)]
    pub(crate) fn seal_first_form(&self, context: EncryptionContext, plain: &Secret) -> Vec<u8> {
        let held = self.held.load();
        let mut text = plain.expose().as_bytes().to_vec();
        let bound = Aad::from(context.owner().as_bytes());
        let cipher = held.ring.current.cipher().unwrap();
        let nonce = cipher.seal_in_place_append_tag(bound, &mut text).unwrap();
        [&held.ring.current.id[..], nonce.as_ref(), &text].concat()
    }

    fn cipher(&self, id: &[u8]) -> Result<RandomizedNonceKey, VaultError> {
        if let Some(key) = self.held.load().key(id) {
            return key.cipher();
        }
        // Another process may have rotated it meanwhile.
        self.refresh()?;
        self.held.load().key(id).ok_or(VaultError::OtherKey)?.cipher()
    }

    /// Reads the file again if it was replaced.
    fn refresh(&self) -> Result<(), VaultError> {
        let held = self.held.load_full();
        if stamp(&self.path)? == held.stamp {
            return Ok(());
        }
        let (ring, stamp) = read(&self.path)?;
        let mut past = held.past.clone();
        past.push(held.ring.current.clone());
        past.extend(held.ring.old.clone());
        past.retain(|key| key.id != ring.current.id);
        self.held.store(Arc::new(Held { ring, past, stamp }));
        Ok(())
    }
}

impl Held {
    fn key(&self, id: &[u8]) -> Option<&Key> {
        let current = std::iter::once(&self.ring.current);
        current.chain(&self.ring.old).chain(&self.past).find(|key| key.id == id)
    }
}

fn read(path: &Path) -> Result<(MasterKeyring, Stamp), VaultError> {
    // The stamp first: a file replaced in between is read again.
    let stamp = stamp(path)?;
    Ok((MasterKeyring::parse(&secret_file::read(path)?)?, stamp))
}

fn stamp(path: &Path) -> Result<Stamp, SecretFileError> {
    let failed = |source| SecretFileError::Read { path: path.display().to_string(), source };
    let file = std::fs::metadata(path).map_err(failed)?;
    Ok((file.dev(), file.ino(), file.mtime(), file.mtime_nsec()))
}

fn seal(key: &Key, context: EncryptionContext, plain: &Secret) -> Result<Vec<u8>, VaultError> {
    let head = [&FORM[..], &key.id].concat();
    let mut text = plain.expose().as_bytes().to_vec();
    let nonce = key
        .cipher()?
        .seal_in_place_append_tag(Aad::from(context.bound(&head)), &mut text)
        .map_err(|_| VaultError::Seal)?;
    Ok([&head, nonce.as_ref().as_slice(), &text].concat())
}

fn open(
    cipher: &RandomizedNonceKey,
    sealed: &[u8],
    head: usize,
    bound: &[u8],
) -> Result<Secret, VaultError> {
    let rest = sealed.get(head..).ok_or(VaultError::Open)?;
    let (nonce, text) = rest.split_first_chunk::<NONCE>().ok_or(VaultError::Open)?;
    let mut text = Zeroizing::new(text.to_vec());
    let nonce = Nonce::assume_unique_for_key(*nonce);
    let plain =
        cipher.open_in_place(nonce, Aad::from(bound), &mut text).map_err(|_| VaultError::Open)?;
    std::str::from_utf8(plain).map(Secret::new).map_err(|_| VaultError::Open)
}

#[cfg(test)]
mod tests;
