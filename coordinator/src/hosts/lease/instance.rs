//! Which coordinator this is, to the others: the same after a restart.

use std::fs::File;
use std::path::Path;

use buddo_shared::model::secret::Secret;
use uuid::Uuid;

use crate::crypto::random::{self, Random};
use crate::process::secret_file::{self, SecretFileError};

/// The lock that shows that nobody else goes by this id.
const LOCK: &str = "instance.lock";
const ID: &str = "instance";

/// The state directory does not say which coordinator this is.
#[derive(Debug, thiserror::Error)]
pub(in crate::hosts) enum InstanceError {
    #[error(transparent)]
    File(#[from] SecretFileError),
    #[error("{path} holds no id; delete it, and the coordinator writes a new one")]
    Malformed {
        path: String,
        #[source]
        source: uuid::Error,
    },
}

/// An id that no other live process uses, as long as this is held.
#[derive(Debug)]
pub(in crate::hosts) struct Instance {
    id: Uuid,
    _lock: Option<File>,
}

impl Instance {
    /// The id kept in `directory`. A process that was killed leaves its lock to the next one, which
    /// thereby has its leases at once: the lock proves that nobody is left who might still push.
    /// Where the lock is taken, another process serves from the same directory, and this one goes
    /// by an id of its own.
    pub(in crate::hosts) fn claim(
        directory: &Path,
        random: &dyn Random,
    ) -> Result<Self, InstanceError> {
        let Some(lock) = secret_file::lock(&directory.join(LOCK))? else {
            tracing::info!("another coordinator serves from {}, too", directory.display());
            return Ok(Self::new(random));
        };
        let path = directory.join(ID);
        let make = || Ok::<_, SecretFileError>(Secret::new(random::uuid(random).to_string()));
        let text = secret_file::read_or_create(&path, make)?;
        let id = text.expose().trim().parse().map_err(|source| InstanceError::Malformed {
            path: path.display().to_string(),
            source,
        })?;
        Ok(Self { id, _lock: Some(lock) })
    }

    /// A new id, for the life of this process.
    pub(in crate::hosts) fn new(random: &dyn Random) -> Self {
        Self { id: random::uuid(random), _lock: None }
    }

    pub(in crate::hosts) fn id(&self) -> Uuid {
        self.id
    }
}
