//! The contract on SQLite: one writer thread that commits in groups, a few reader threads.
//!
//! WAL with `synchronous=FULL`: a commit that was answered survives a power cut. Work that waits
//! while a commit is being synced joins the next one, so that a burst costs few syncs.

mod accounts;
mod acts;
mod administration;
mod api_keys;
mod audit;
mod changes;
mod clock;
mod column;
mod consents;
mod deployments;
mod devices;
mod documents;
mod factors;
mod hosts;
mod idempotency;
mod invitations;
mod ledger;
mod logins;
mod mails;
mod migrate;
mod oauth;
mod orgs;
mod query;
mod revisions;
mod sealed;
pub mod snapshot;
mod teams;
mod tiers;
mod trust;
mod worker;

use std::cell::Cell;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use rusqlite::{Connection, ErrorCode};
use tokio::sync::{mpsc, oneshot};

use super::Waiting;
use super::contract::{StoreError, Tables};
use super::memo::Version;
use crate::secret_file;
use worker::{Job, ReadJob};

/// Jobs that may wait for the writer; one more is refused with [`StoreError::Busy`].
const WRITE_QUEUE: usize = 4096;
/// Jobs that may wait for a reader.
const READ_QUEUE: usize = 4096;
/// Reader threads, each with a connection of its own.
const READERS: usize = 2;

/// One transaction.
pub(super) struct Tx<'c> {
    pub(super) connection: &'c Connection,
    failure: Cell<Option<ErrorCode>>,
}

/// A database file and its threads, which end when the last clone is dropped.
#[derive(Debug, Clone)]
pub struct Sqlite {
    writer: mpsc::Sender<Job>,
    readers: mpsc::Sender<ReadJob>,
    commits: Arc<AtomicU64>,
}

impl Sqlite {
    /// Opens the file, brings its schema up to date and starts the threads.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let open = |source| StoreError::Open { path: path.display().to_string(), source };
        migrate::alone(path)?;
        let lock = secret_file::lock_shared(&snapshot::lock_path(path));
        let lock = lock.map_err(|error| open(error.into()))?;
        let lock =
            lock.ok_or_else(|| open("it is being restored; wait until that has ended".into()))?;
        // Each thread holds it until its connection is closed: a restore takes it alone.
        let lock = Arc::new(lock);
        let writer = migrate::open(path)?;
        let (write_jobs, queue) = mpsc::channel(WRITE_QUEUE);
        let commits = Arc::new(AtomicU64::new(0));
        let (held, counted) = (Arc::clone(&lock), Arc::clone(&commits));
        let write = move || {
            worker::write_loop(writer, queue, &counted);
            drop(held);
        };
        worker::spawn("store-writer", write).map_err(|error| open(error.into()))?;
        let (read_jobs, queue) = mpsc::channel(READ_QUEUE);
        let queue = Arc::new(Mutex::new(queue));
        for _ in 0..READERS {
            let connection = migrate::open_reader(path)?;
            let queue = Arc::clone(&queue);
            let held = Arc::clone(&lock);
            let read = move || {
                worker::read_loop(connection, &queue);
                drop(held);
            };
            worker::spawn("store-reader", read).map_err(|error| open(error.into()))?;
        }
        Ok(Self { writer: write_jobs, readers: read_jobs, commits })
    }

    /// See [`super::Store::version`].
    pub fn version(&self) -> Version {
        Version(self.commits.load(Ordering::SeqCst))
    }

    /// See [`super::Store::waiting`].
    pub fn waiting(&self) -> Waiting {
        Waiting {
            reads: self.readers.max_capacity() - self.readers.capacity(),
            writes: self.writer.max_capacity() - self.writer.capacity(),
        }
    }

    /// See [`super::Store::write`].
    pub async fn write<T, E, F>(&self, work: F) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
        F: FnOnce(&mut dyn Tables) -> Result<T, E> + Send + 'static,
    {
        let (answer, received) = oneshot::channel();
        let job = Job::new(work, answer);
        self.writer.try_send(job).map_err(|error| refused(&error))?;
        received.await.map_err(|_| StoreError::Closed)?
    }

    /// See [`super::Store::read`].
    pub async fn read<T, E, F>(&self, work: F) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
        F: FnOnce(&dyn Tables) -> Result<T, E> + Send + 'static,
    {
        let (answer, received) = oneshot::channel();
        let job: ReadJob = Box::new(move |tables| {
            let result = match tables {
                Ok(tables) => work(tables),
                Err(error) => Err(error.into()),
            };
            // Nobody may be waiting any more; a read has nothing to undo.
            let _ = answer.send(result);
        });
        self.readers.try_send(job).map_err(|error| refused(&error))?;
        received.await.map_err(|_| StoreError::Closed)?
    }
}

fn refused<T>(error: &mpsc::error::TrySendError<T>) -> StoreError {
    match error {
        mpsc::error::TrySendError::Full(_) => StoreError::Busy,
        mpsc::error::TrySendError::Closed(_) => StoreError::Closed,
    }
}

#[cfg(test)]
mod tests;
