//! The key that desired state is signed with: `signing.key` in the state directory, mode 0600.

use std::path::Path;

use buddo_shared::signed::{SignError, Signer};

use crate::secret_file::{self, SecretFileError};

/// The signing key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SigningKeyError {
    /// Its file cannot be used.
    #[error("cannot use the signing key")]
    File(#[from] SecretFileError),
    /// The file holds no key. A new one would be refused by every host, so none is made.
    #[error("cannot read the signing key; restore signing.key from its backup")]
    Key(#[from] SignError),
}

/// Reads the signing key, or makes it.
pub fn open(path: &Path) -> Result<Signer, SigningKeyError> {
    let text =
        secret_file::read_or_create::<SigningKeyError>(path, || Ok(Signer::generate()?.to_text()))?;
    Ok(Signer::from_text(&text)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_is_made_once_and_a_damaged_one_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("signing.key");
        let first = open(&path).unwrap();
        assert_eq!(open(&path).unwrap().public(), first.public());
        std::fs::write(&path, "damaged").unwrap();
        assert!(matches!(open(&path), Err(SigningKeyError::Key(_))));
    }
}
