//! The keys that sign desired state: `signing.key` in the state directory, mode 0600, and during a
//! rotation `signing.next.key` next to it.
//!
//! ```text
//! rotate ─► next is made ─► host by host: old key names both ─► acknowledged ─► next names itself
//! retire ─► next takes the place of the old file, in one rename
//! ```
//!
//! The progress of each host is in the database; what a document for it looks like follows from
//! that alone, so that no step of a rotation has to be remembered.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use buddo_shared::host_wire::signed::{PublicKey, SignError, Signer};

use crate::domain::host_trust::Trusts;
use crate::process::secret_file::{self, SecretFileError};

const CURRENT: &str = "signing.key";
const NEXT: &str = "signing.next.key";

/// The signing keys cannot be used or changed.
#[derive(Debug, thiserror::Error)]
pub enum SigningKeyError {
    /// A file cannot be used.
    #[error("cannot use the signing key")]
    File(#[from] SecretFileError),
    /// The file holds no valid key. Every host would refuse a new one, so none is made.
    #[error("cannot read the signing key; restore signing.key from its backup")]
    Key(#[from] SignError),
    /// A rotation cannot start during another.
    #[error(
        "a rotation of the signing key is already under way, to {0}; end it first with \
         `buddo-coordinator key retire`, or look at `buddo-coordinator key list`"
    )]
    UnderWay(String),
    /// Only the older of two keys can be retired.
    #[error(
        "{0:?} is not the older of two signing keys; `buddo-coordinator key list` shows which can \
         be retired, `key rotate` makes another"
    )]
    NotOld(String),
}

/// The keys at one point in time.
#[derive(Debug)]
pub struct Keys {
    current: Signer,
    next: Option<Signer>,
}

/// Who signs a host's next document, and which keys it names.
#[derive(Debug)]
pub struct Plan<'a> {
    pub signer: &'a Signer,
    /// The keys that the host is to trust.
    pub names: Vec<PublicKey>,
}

impl Keys {
    /// The key that signs after the rotation: the next one, if there is one.
    pub fn newest(&self) -> &Signer {
        self.next.as_ref().unwrap_or(&self.current)
    }

    /// The key being replaced, while there are two.
    pub fn old(&self) -> Option<&Signer> {
        self.next.as_ref().map(|_| &self.current)
    }

    /// Who signs the next document of a host that trusts `trusts`, and which keys it names. Pure.
    ///
    /// ```text
    /// trusts the newest key ─► the newest signs and names itself alone
    /// does not yet          ─► the old one signs and names both
    /// ```
    pub fn plan(&self, trusts: Option<&Trusts>) -> Plan<'_> {
        let newest = self.newest();
        let public = |signer: &Signer| signer.public().clone();
        let trusted = |signer: &Signer| {
            trusts.is_some_and(|trusts| trusts.keys.contains(&signer.public().kid))
        };
        match self.old() {
            Some(old) if !trusted(newest) => {
                Plan { signer: old, names: vec![public(old), public(newest)] }
            }
            _ => Plan { signer: newest, names: vec![public(newest)] },
        }
    }

    /// The other of the two keys than the one with this id.
    pub fn other(&self, kid: &str) -> Option<&Signer> {
        let next = self.next.as_ref()?;
        Some(if self.current.public().kid == kid { next } else { &self.current })
    }
}

/// The key files, and the keys as last read.
#[derive(Debug)]
pub struct SigningKeyring {
    directory: PathBuf,
    keys: ArcSwap<Keys>,
}

impl SigningKeyring {
    /// The file of the first key.
    pub const FILE: &str = CURRENT;

    /// Reads the keys in `directory`; makes the first one if there is none.
    pub fn open(directory: &Path) -> Result<Self, SigningKeyError> {
        let make = || Ok(Signer::generate()?.to_text());
        secret_file::read_or_create::<SigningKeyError>(&directory.join(CURRENT), make)?;
        Self::open_existing(directory)
    }

    /// Reads the keys in `directory`, which must exist.
    pub fn open_existing(directory: &Path) -> Result<Self, SigningKeyError> {
        let keys = ArcSwap::from_pointee(read(directory)?);
        Ok(Self { directory: directory.to_owned(), keys })
    }

    /// The current keys; they do not change for the holder of the answer.
    pub fn keys(&self) -> Arc<Keys> {
        self.keys.load_full()
    }

    /// Reads the files again: another process may have started or ended a rotation.
    pub fn reload(&self) -> Result<(), SigningKeyError> {
        self.keys.store(Arc::new(read(&self.directory)?));
        Ok(())
    }

    /// Starts a rotation: makes the next key and returns its id.
    pub fn rotate(&self) -> Result<String, SigningKeyError> {
        self.reload()?;
        if let Some(next) = &self.keys().next {
            return Err(SigningKeyError::UnderWay(next.public().kid.clone()));
        }
        let next = Signer::generate()?;
        secret_file::create(&self.directory.join(NEXT), &next.to_text())?;
        self.reload()?;
        Ok(self.keys().newest().public().kid.clone())
    }

    /// The id of the key that `kid` is a prefix of, if it can be retired.
    pub fn retirable(&self, kid: &str) -> Result<String, SigningKeyError> {
        self.reload()?;
        let keys = self.keys();
        let named = keys.old().map(|old| &old.public().kid).filter(|old| old.starts_with(kid));
        named
            .filter(|_| kid.len() >= 8)
            .cloned()
            .ok_or_else(|| SigningKeyError::NotOld(kid.to_owned()))
    }

    /// Ends a rotation: the next key replaces the old one, whose private half is deleted.
    pub fn retire(&self, kid: &str) -> Result<(), SigningKeyError> {
        self.retirable(kid)?;
        secret_file::rename(&self.directory.join(NEXT), &self.directory.join(CURRENT))?;
        self.reload()
    }
}

fn read(directory: &Path) -> Result<Keys, SigningKeyError> {
    let text = secret_file::read(&directory.join(CURRENT))?;
    let current = Signer::from_text(&text)?;
    let next = match secret_file::read(&directory.join(NEXT)) {
        Ok(text) => Some(Signer::from_text(&text)?),
        Err(SecretFileError::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            None
        }
        Err(error) => return Err(error.into()),
    };
    Ok(Keys { current, next })
}

#[cfg(test)]
mod tests {
    use buddo_shared::model::secret::Secret;

    use super::*;

    fn trusting(keys: &[&str]) -> Trusts {
        Trusts { keys: keys.iter().map(|kid| (*kid).to_owned()).collect(), cas: Vec::new() }
    }

    #[test]
    fn the_key_is_created_once_and_a_damaged_one_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        let kid = || {
            let keyring = SigningKeyring::open(directory.path())?;
            Ok::<_, SigningKeyError>(keyring.keys().newest().public().kid.clone())
        };
        assert_eq!(kid().unwrap(), kid().unwrap());
        for file in [NEXT, CURRENT] {
            secret_file::create(&directory.path().join(file), &Secret::new("x")).unwrap();
            std::fs::write(directory.path().join(file), "damaged").unwrap();
            assert!(matches!(kid(), Err(SigningKeyError::Key(_))), "{file}");
            std::fs::remove_file(directory.path().join(file)).unwrap();
        }
    }

    #[test]
    fn a_rotation_moves_each_host_in_two_steps() {
        let directory = tempfile::tempdir().unwrap();
        let keyring = SigningKeyring::open(directory.path()).unwrap();
        let old = keyring.keys().newest().public().kid.clone();
        // Before: one key, which names itself.
        let keys = keyring.keys();
        let plan = keys.plan(Some(&trusting(&[&old])));
        assert_eq!((plan.signer.public().kid.clone(), plan.names.len()), (old.clone(), 1));
        let new = keyring.rotate().unwrap();
        assert!(matches!(keyring.rotate(), Err(SigningKeyError::UnderWay(kid)) if kid == new));
        let keys = keyring.keys();
        let plan = |trusts: Option<&Trusts>| {
            let plan = keys.plan(trusts);
            let names = plan.names.into_iter().map(|key| key.kid).collect::<Vec<_>>();
            (plan.signer.public().kid.clone(), names)
        };
        let first = (old.clone(), vec![old.clone(), new.clone()]);
        let second = (new.clone(), vec![new.clone()]);
        assert_eq!(plan(Some(&trusting(&[&old]))), first);
        // A host that was never asked is assumed to know the old key.
        assert_eq!(plan(None), first);
        assert_eq!(plan(Some(&trusting(&[&old, &new]))), second);
        assert_eq!(plan(Some(&trusting(&[&new]))), second);
        // After: only the new one, no matter what a host trusts.
        for not_old in [&new, "", &old[..4], "unknown-key"] {
            assert!(matches!(keyring.retire(not_old), Err(SigningKeyError::NotOld(_))));
        }
        keyring.retire(&old[..12]).unwrap();
        assert_eq!(
            SigningKeyring::open(directory.path()).unwrap().keys().newest().public().kid,
            new
        );
        assert!(keyring.keys().old().is_none());
        assert_eq!(keyring.keys().plan(None).signer.public().kid, new);
    }
}
