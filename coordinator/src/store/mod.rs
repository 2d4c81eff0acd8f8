//! Everything that is kept, behind one contract; no SQL stands outside `sqlite/`.
//!
//! A use case is one transaction: it hands a closure to [`Store::write`] (or [`Store::read`]),
//! and what the closure decides, it decides on what it has just read. An error rolls all of it
//! back.
//!
//! ```text
//! service ── write(|tables| …) ──► writer thread: BEGIN; savepoint per job; COMMIT (one fsync) ─► answers
//!         └─ read(|tables| …) ───► reader threads: one snapshot each
//! ```

pub mod contract;
pub mod sqlite;

use std::path::Path;

pub use contract::{StoreError, Tables};

/// The coordinator's database. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Store {
    backend: sqlite::Sqlite,
}

impl Store {
    /// Opens the database at `path`, makes it if there is none, and brings its schema up to date.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        sqlite::Sqlite::open(path).map(|backend| Self { backend })
    }

    /// Runs `work` in one transaction. It is committed and on disk when this returns `Ok`, and
    /// rolled back on any error.
    pub async fn write<T, E, F>(&self, work: F) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
        F: FnOnce(&mut dyn Tables) -> Result<T, E> + Send + 'static,
    {
        self.backend.write(work).await
    }

    /// Runs `work` on one consistent snapshot.
    pub async fn read<T, E, F>(&self, work: F) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
        F: FnOnce(&dyn Tables) -> Result<T, E> + Send + 'static,
    {
        self.backend.read(work).await
    }
}
