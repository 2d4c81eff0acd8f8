//! All persistent state, behind one contract: its statements are in `sql/`, and what is particular
//! to a database in the folder named after it.
//!
//! A use case is one transaction: it passes a closure to [`Store::write`] (or [`Store::read`]), and
//! the closure decides on what it has just read. An error rolls everything back.
//!
//! The closure may run more than once: where transactions run side by side, the database may find
//! that two of them cannot both stand, and the store runs one again, from the beginning. So:
//!
//! - Its effects are the changes that it makes through [`Tables`], and its result. Nothing else: it
//!   sends nothing, wakes nobody and counts nothing. Callers do that after the commit, with what
//!   the closure returned.
//! - It keeps nothing from one run to the next (`Fn`, not `FnMut`), and borrows or clones what it
//!   needs. What is large or secret is borrowed.
//! - It may look at the clock and draw random values: each run has its own, and only those of the
//!   run that was committed are seen.
//! - It is short. What needs no database (hashing a password, encrypting) is done before.
//!
//! ```text
//! service ── write(|tables| …) ──► writer thread: BEGIN; savepoint per job; COMMIT (one fsync) ─► answers
//!         └─ read(|tables| …) ───► reader threads: one snapshot each
//! ```

pub mod cache;
pub mod contract;
mod retry;
mod sql;
pub mod sqlite;

use std::path::Path;
use std::time::Instant;

pub use contract::{StoreError, Tables};

use crate::process::metrics::Metrics;

/// The coordinator's database. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Store {
    backend: sqlite::Sqlite,
    metrics: Metrics,
}

/// Transactions waiting for a thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Waiting {
    /// Reads.
    pub reads: usize,
    /// Long reads, counted only up to a limit.
    pub long_reads: usize,
    /// Writes.
    pub writes: usize,
}

impl Store {
    /// Opens the database at `path`, creates it if it does not exist, and migrates its schema.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let backend = sqlite::Sqlite::open(path)?;
        Ok(Self { backend, metrics: Metrics::default() })
    }

    /// The same database, with its transactions counted.
    #[must_use]
    pub fn counted(self, metrics: Metrics) -> Self {
        Self { metrics, ..self }
    }

    /// The version to cache a value under: take it before reading the value.
    pub fn version(&self) -> cache::Version {
        self.backend.version()
    }

    /// How many transactions are waiting.
    pub fn waiting(&self) -> Waiting {
        self.backend.waiting()
    }

    /// Runs `work` in one transaction, again if it meets a conflict. It is committed and on disk
    /// when this returns `Ok`, and rolled back on any error.
    pub async fn write<T, E, F>(&self, work: F) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
        F: Fn(&mut dyn Tables) -> Result<T, E> + Send + 'static,
    {
        let began = Instant::now();
        let result = retry::until_settled(work, |work| self.backend.write(work)).await;
        self.metrics.transacted("write", result.is_ok(), began.elapsed());
        result
    }

    /// Runs `work` on one consistent snapshot.
    pub async fn read<T, E, F>(&self, work: F) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
        F: Fn(&dyn Tables) -> Result<T, E> + Send + 'static,
    {
        let began = Instant::now();
        let result = retry::until_settled(work, |work| self.backend.read(work)).await;
        self.metrics.transacted("read", result.is_ok(), began.elapsed());
        result
    }

    /// The same for long reads, such as building a document: on separate threads, so that no
    /// request waits for it. If all of them are busy, it waits as long as it takes.
    pub async fn read_long<T, E, F>(&self, work: F) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
        F: Fn(&dyn Tables) -> Result<T, E> + Send + 'static,
    {
        let began = Instant::now();
        let result = retry::until_settled(work, |work| self.backend.read_long(work)).await;
        self.metrics.transacted("long_read", result.is_ok(), began.elapsed());
        result
    }
}
