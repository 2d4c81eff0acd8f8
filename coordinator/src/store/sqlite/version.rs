//! The version of the database, for caches.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rusqlite::Connection;

use crate::store::cache::Version;

/// Asks SQLite whether anybody has committed, without a thread of its own: it costs a few
/// microseconds, and nothing is read but a page that is in memory. Handing the question to a reader
/// thread and back would cost as much as the read that it saves.
#[derive(Debug)]
pub(super) struct Versions<Lock> {
    /// Makes no changes itself: `data_version` counts those of all other connections.
    connection: Mutex<Connection>,
    commits: AtomicU64,
    #[cfg(test)]
    faults: Arc<super::faults::Faults>,
    /// Dropped after the connection.
    _held: Arc<Lock>,
}

impl<Lock> Versions<Lock> {
    /// `connection` is used for nothing else. `held` is dropped with it.
    pub(super) fn new(connection: Connection, held: Arc<Lock>) -> rusqlite::Result<Self> {
        // Whoever asks is not to wait for another process, such as one that recovers the WAL.
        connection.busy_timeout(Duration::ZERO)?;
        let (connection, commits) = (Mutex::new(connection), AtomicU64::new(0));
        Ok(Self {
            connection,
            commits,
            #[cfg(test)]
            faults: super::faults::here(),
            _held: held,
        })
    }

    /// This process has committed, or tried to.
    pub(super) fn rise(&self) {
        self.commits.fetch_add(1, Ordering::SeqCst);
    }

    pub(super) fn current(&self) -> Version {
        let commits = self.commits.load(Ordering::SeqCst);
        #[cfg(test)]
        if let Some(told) = self.faults.version(commits) {
            return told;
        }
        let connection = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
        let asked = connection.prepare_cached("PRAGMA data_version");
        match asked.and_then(|mut asked| asked.query_row([], |row| row.get(0))) {
            Ok(of_database) => Version::new(commits, of_database),
            Err(error) => {
                tracing::debug!(%error, "the database does not tell its version");
                Version::unknown()
            }
        }
    }
}
