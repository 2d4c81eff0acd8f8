//! The contract on SQLite: one writer thread with group commits, a few reader threads.
//!
//! WAL with `synchronous=FULL`: a commit that was answered survives a power cut. Jobs that arrive
//! while a commit is being synced join the next one, so that a burst costs few syncs.

mod checkpoint;
mod driver;
mod migrate;
pub mod snapshot;
mod version;
mod worker;

use std::fs::File;
use std::path::Path;
use std::sync::{Arc, Mutex};

use tokio::sync::{mpsc, oneshot};
use version::Versions;
use worker::{Job, ReadJob};

use super::Waiting;
use super::contract::{StoreError, Tables};
use crate::process::secret_file;
use crate::store::cache::Version;
use crate::store::retry::Outcome;

/// Maximum jobs waiting for the writer; one more is refused with [`StoreError::Busy`].
const WRITE_QUEUE: usize = 4096;
/// Maximum jobs waiting for a reader.
const READ_QUEUE: usize = 4096;
/// Reader threads, each with its own connection.
const READERS: usize = 2;
/// Reader threads for long reads, so that no request waits for them.
const LONG_READERS: usize = 2;
/// Maximum queued long reads; further callers wait to enqueue.
const LONG_QUEUE: usize = 64;

/// The threads of long reads.
pub(crate) const LONG_READER: &str = "store-long-reader";

/// A database file and its threads, which end when the last clone is dropped.
#[derive(Debug, Clone)]
pub struct Sqlite {
    writer: mpsc::Sender<Job>,
    readers: mpsc::Sender<ReadJob>,
    long_readers: mpsc::Sender<ReadJob>,
    versions: Arc<Versions<File>>,
}

impl Sqlite {
    /// Opens the file, migrates its schema and starts the threads.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let open = |source| StoreError::Open { path: path.display().to_string(), source };
        migrate::alone(path)?;
        let lock = secret_file::lock_shared(&snapshot::lock_path(path));
        let lock = lock.map_err(|error| open(error.into()))?;
        let lock =
            lock.ok_or_else(|| open("it is being restored; wait until that has ended".into()))?;
        // Each thread holds it until its connection is closed: a restore needs it exclusively.
        let lock = Arc::new(lock);
        let writer = migrate::open(path)?;
        let (write_jobs, queue) = mpsc::channel(WRITE_QUEUE);
        let versions = Versions::new(migrate::open_reader(path)?, Arc::clone(&lock));
        let versions = Arc::new(versions.map_err(|error| open(error.into()))?);
        let (held, raised) = (Arc::clone(&lock), Arc::clone(&versions));
        let (tell, told) = std::sync::mpsc::sync_channel(1);
        let committed = move || {
            raised.rise();
            // One pending signal stands for all.
            let _ = tell.try_send(());
        };
        let write = move || {
            worker::write_loop(writer, queue, &committed);
            drop(held);
        };
        worker::spawn("store-writer", write).map_err(|error| open(error.into()))?;
        let (connection, held) = (migrate::open(path)?, Arc::clone(&lock));
        let check = move || {
            checkpoint::run(&connection, &told);
            drop((connection, held));
        };
        worker::spawn("store-checkpoint", check).map_err(|error| open(error.into()))?;
        let start_readers = |name, number, most| {
            let (jobs, queue) = mpsc::channel(most);
            let queue = Arc::new(Mutex::new(queue));
            for _ in 0..number {
                let connection = migrate::open_reader(path)?;
                let queue = Arc::clone(&queue);
                let held = Arc::clone(&lock);
                let read = move || {
                    worker::read_loop(connection, &queue);
                    drop(held);
                };
                worker::spawn(name, read).map_err(|error| open(error.into()))?;
            }
            Ok::<_, StoreError>(jobs)
        };
        let readers = start_readers("store-reader", READERS, READ_QUEUE)?;
        let long_readers = start_readers(LONG_READER, LONG_READERS, LONG_QUEUE)?;
        Ok(Self { writer: write_jobs, readers, long_readers, versions })
    }

    /// See [`super::Store::version`].
    pub fn version(&self) -> Version {
        self.versions.current()
    }

    /// See [`super::Store::waiting`].
    pub fn waiting(&self) -> Waiting {
        Waiting {
            reads: self.readers.max_capacity() - self.readers.capacity(),
            long_reads: self.long_readers.max_capacity() - self.long_readers.capacity(),
            writes: self.writer.max_capacity() - self.writer.capacity(),
        }
    }

    /// See [`super::Store::write`].
    pub(in crate::store) async fn write<T, E, F>(&self, work: F) -> Outcome<T, E, F>
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
        F: Fn(&mut dyn Tables) -> Result<T, E> + Send + 'static,
    {
        let (answer, received) = oneshot::channel();
        match self.writer.try_send(Job::new(work, answer)) {
            Ok(()) => answered(received).await,
            Err(error) => Outcome::failed(refused(&error)),
        }
    }

    /// See [`super::Store::read`].
    pub(in crate::store) async fn read<T, E, F>(&self, work: F) -> Outcome<T, E, F>
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
        F: Fn(&dyn Tables) -> Result<T, E> + Send + 'static,
    {
        let (answer, received) = oneshot::channel();
        match self.readers.try_send(read_job(work, answer)) {
            Ok(()) => answered(received).await,
            Err(error) => Outcome::failed(refused(&error)),
        }
    }

    /// See [`super::Store::read_long`].
    pub(in crate::store) async fn read_long<T, E, F>(&self, work: F) -> Outcome<T, E, F>
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
        F: Fn(&dyn Tables) -> Result<T, E> + Send + 'static,
    {
        let (answer, received) = oneshot::channel();
        // All hosts may want a document at once: they wait here, and none is refused.
        match self.long_readers.send(read_job(work, answer)).await {
            Ok(()) => answered(received).await,
            Err(_) => Outcome::failed(StoreError::Closed),
        }
    }
}

fn read_job<T, E, F>(work: F, answer: oneshot::Sender<Outcome<T, E, F>>) -> ReadJob
where
    T: Send + 'static,
    E: From<StoreError> + Send + 'static,
    F: Fn(&dyn Tables) -> Result<T, E> + Send + 'static,
{
    Box::new(move |tables| {
        let outcome = match tables {
            Ok(tx) => {
                let result = work(tx);
                match tx.conflict() {
                    Some(conflict) => Outcome::Conflict(work, conflict),
                    None => Outcome::Ended(result),
                }
            }
            Err(error) => Outcome::failed(error),
        };
        // The caller may be gone; a read has nothing to undo.
        let _ = answer.send(outcome);
    })
}

async fn answered<T, E, F>(received: oneshot::Receiver<Outcome<T, E, F>>) -> Outcome<T, E, F>
where
    E: From<StoreError>,
{
    received.await.unwrap_or_else(|_| Outcome::failed(StoreError::Closed))
}

fn refused<T>(error: &mpsc::error::TrySendError<T>) -> StoreError {
    match error {
        mpsc::error::TrySendError::Full(_) => StoreError::Busy,
        mpsc::error::TrySendError::Closed(_) => StoreError::Closed,
    }
}

#[cfg(test)]
mod audit_chain_tests;
#[cfg(test)]
mod columns;
#[cfg(test)]
mod conformance;
#[cfg(test)]
mod faults;
#[cfg(test)]
mod leases_tests;
#[cfg(test)]
mod scale;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod work;
