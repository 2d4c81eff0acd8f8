//! The key files, opened together with the database that depends on them.
//!
//! A key is made once, at the first start. If the database already has hosts or encrypted values, a
//! replacement for a lost key would be refused by every host, or could decrypt nothing; and the
//! next backup would overwrite the one that has the right key.

use std::path::Path;
use std::sync::Arc;

use buddo_runtime::clock::Clock;

use crate::config::Config;
use crate::crypto::ca::{CaError, HostCa};
use crate::crypto::random::Random;
use crate::crypto::signing::{SigningKeyError, SigningKeyring};
use crate::crypto::vault::{Vault, VaultError};
use crate::process::secret_file::{self, SecretFileError};
use crate::store::StoreError;
use crate::store::sqlite::snapshot::{self, Holds};

/// Keys cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// A key is missing and cannot be replaced.
    #[error(
        "{path} is missing, and {who} in the database {database} depend on it. No other key can \
         take its place, so none is made: put {path} back from its backup, with mode 0600 and \
         owned by the user that serves. If state_dir was changed by mistake, correct that. \
         Without a backup: docs/operations.md, \"A key that is lost\""
    )]
    Missing {
        path: String,
        /// What depends on it.
        who: &'static str,
        database: String,
    },
    /// The database cannot be asked.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The state directory cannot be made.
    #[error(transparent)]
    Directory(#[from] SecretFileError),
    /// The CA's files cannot be used.
    #[error(transparent)]
    Ca(#[from] CaError),
    /// The signing keys cannot be used.
    #[error(transparent)]
    Signing(#[from] SigningKeyError),
    /// The master key cannot be used.
    #[error(transparent)]
    Vault(#[from] VaultError),
}

/// Opens keys; makes missing ones that nothing depends on yet.
#[derive(Debug)]
pub struct Keys<'a> {
    config: &'a Config,
    holds: Holds,
}

impl<'a> Keys<'a> {
    /// Checks what depends on the keys. Without a database, nothing does.
    pub fn of(config: &'a Config) -> Result<Self, KeysError> {
        secret_file::make_directory(&config.state_dir)?;
        let database = config.database();
        let holds = if database.exists() { snapshot::holds(&database)? } else { Holds::default() };
        Ok(Self { config, holds })
    }

    /// The CA of hosts.
    pub fn ca(&self, clock: Arc<dyn Clock>) -> Result<HostCa, KeysError> {
        let (directory, names) = (&self.config.state_dir, &self.config.api.names);
        if !self.holds.hosts {
            return Ok(HostCa::open(directory, names, clock)?);
        }
        for file in HostCa::FILES {
            self.require(&directory.join(file), HOSTS)?;
        }
        Ok(HostCa::open_existing(directory, names, clock)?)
    }

    /// The keys that sign documents.
    pub fn signing(&self) -> Result<SigningKeyring, KeysError> {
        let directory = &self.config.state_dir;
        if !self.holds.hosts {
            return Ok(SigningKeyring::open(directory)?);
        }
        self.require(&directory.join(SigningKeyring::FILE), HOSTS)?;
        Ok(SigningKeyring::open_existing(directory)?)
    }

    /// The key of secrets at rest.
    pub fn vault(&self, random: &dyn Random) -> Result<Vault, KeysError> {
        let path = self.config.master_key();
        if !self.holds.sealed {
            return Ok(Vault::open(&path, random)?);
        }
        self.require(&path, "encrypted environments or one-time-code secrets")?;
        Ok(Vault::open_existing(&path)?)
    }

    fn require(&self, path: &Path, who: &'static str) -> Result<(), KeysError> {
        // An existing file that cannot be read is reported by the code that reads it.
        if !matches!(path.try_exists(), Ok(false)) {
            return Ok(());
        }
        Err(KeysError::Missing {
            path: path.display().to_string(),
            who,
            database: self.config.database().display().to_string(),
        })
    }
}

const HOSTS: &str = "hosts";

#[cfg(test)]
mod tests;
