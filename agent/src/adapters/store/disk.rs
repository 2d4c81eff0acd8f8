//! Where jobs on the database run.
//!
//! In production on a dedicated thread; in simulation in place, on a database that its owner keeps,
//! with the owner's faults before and after each job.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::future::BoxFuture;
use rusqlite::Connection;
use tokio::sync::mpsc;

use super::StoreError;

/// Work for the owner of the connection.
pub(super) type Job = Box<dyn FnOnce(&mut Connection) + Send>;

/// A database kept by someone else, in place of a file and a thread: one that outlives a simulated
/// crash, is deterministic, and fails on demand.
pub trait Disk: Send + Sync + 'static {
    fn connection(&self) -> &Mutex<Connection>;
    /// Runs before each job. An error: the job is not run at all.
    fn before(&self, operation: &'static str) -> BoxFuture<'_, rusqlite::Result<()>>;
    /// Runs after each job that was done. An error: its caller is told that it failed.
    fn after(&self, operation: &'static str) -> BoxFuture<'_, rusqlite::Result<()>>;
}

#[derive(Clone)]
pub(super) enum Runner {
    /// The thread that owns the connection.
    Thread(mpsc::Sender<Job>),
    /// The caller, in its own time.
    InPlace(Arc<dyn Disk>),
}

impl Runner {
    /// Has `job` run. When this returns `Ok` it is done, or will be before any later one.
    pub(super) async fn run(&self, operation: &'static str, job: Job) -> Result<(), StoreError> {
        match self {
            Self::Thread(jobs) => jobs.send(job).await.map_err(|_| StoreError::Closed),
            Self::InPlace(disk) => {
                let failed = |source| StoreError::Statement { operation, source };
                disk.before(operation).await.map_err(failed)?;
                job(&mut disk.connection().lock().unwrap_or_else(PoisonError::into_inner));
                disk.after(operation).await.map_err(failed)
            }
        }
    }
}

impl fmt::Debug for Runner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Thread(_) => "Thread",
            Self::InPlace(_) => "InPlace",
        })
    }
}
