//! The agent's database: `agent.db`, SQLite in WAL mode with `synchronous=FULL`.
//!
//! One thread owns the connection; callers send it closures over a bounded queue and await the
//! answer, so no async worker ever waits for a disk. When a write's future returns `Ok`, the write
//! is on disk.
//!
//! ```text
//! desired ─ document ──┐
//! reconcile ─ state ───┼──► queue ──► thread ──► agent.db (fsync) ──► answer
//! status ── reports ───┘
//! ```

mod disk;
mod document;
mod owner;
mod reports;
mod state;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};

use rusqlite::Connection;
use rusqlite_migration::{M, MigrationDefinitionError, Migrations};
use tokio::sync::{mpsc, oneshot};

pub use disk::Disk;
pub use document::Held;
pub use reports::Entry;
pub use state::Changes;

use disk::{Job, Runner};

use crate::process::disk_reserve::Reserve;

/// Before this version WAL mode has a bug that can corrupt the file at a checkpoint's reset.
const LEAST_SQLITE: i32 = 3_051_003;
/// Calls that may wait at the same time; further callers wait for a slot.
const QUEUE: usize = 256;

const MIGRATIONS: &[M<'_>] = &[
    M::up(include_str!("0001_first.sql")),
    M::up(include_str!("0002_owner.sql")),
    M::up(include_str!("0003_trust.sql")),
    M::up(include_str!("0004_workloads.sql")),
];

/// The oldest schema that is brought up to date. Before it, containers and secrets were named after
/// their deployment alone. Taking those over was rejected: every later agent would have to know two
/// ways of naming, for hosts that no release ever ran on.
const OLDEST: usize = 4;

/// Why a database call failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The program was linked with a SQLite that can corrupt its files.
    #[error("SQLite {0} is too old to be trusted with WAL mode; 3.51.3 or newer is needed")]
    OldSqlite(&'static str),
    /// A newer agent wrote it.
    #[error(
        "the database {path} was written by a newer agent; install that version again, this one \
         reads schemas up to {known}"
    )]
    NewerSchema {
        path: PathBuf,
        /// The newest schema that this program knows.
        known: usize,
    },
    /// An agent wrote it that named containers otherwise.
    #[error(
        "the database {path} has schema {found}, of an agent that knew no services; this one reads \
         schemas from {OLDEST} on, and does not know that agent's containers. With the agent \
         stopped and as its user, move {path} and its -wal and -shm away, and remove the containers \
         (`podman ps -aq --filter label=buddo.deployment | xargs -r podman rm -f -t 0`) and secrets \
         (`podman secret ls --format '{{{{.Name}}}}' | grep ^buddo- | xargs -r podman secret rm`); \
         then start it: it deploys everything again from the next document"
    )]
    OlderSchema { path: PathBuf, found: usize },
    /// It cannot be opened or brought up to date.
    #[error(
        "cannot open the database {path}; if it is damaged, move it away: the agent then rebuilds \
         its state from the containers and the next document"
    )]
    Open {
        path: PathBuf,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Its thread cannot be started.
    #[error("cannot start the database's thread")]
    Thread(#[source] std::io::Error),
    /// A statement failed; nothing of its transaction is in force.
    #[error("the database could not {operation}; check for free disk space")]
    Statement {
        /// What was attempted.
        operation: &'static str,
        #[source]
        source: rusqlite::Error,
    },
    /// Its content is not what this program writes.
    #[error("the database holds a malformed {what}")]
    Malformed {
        what: &'static str,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Its thread has ended.
    #[error("the database is closed")]
    Closed,
}

/// A handle on the database; clones share its thread, which ends with the last one.
#[derive(Debug, Clone)]
pub struct Store {
    runner: Runner,
    /// Released on a full disk, to make room for pending writes.
    reserve: Reserve,
}

impl Store {
    /// Opens the database at `path`, creates it if missing, and brings its schema up to date.
    /// `first_seq` is where a newly created database starts numbering reports: later than any
    /// number that a lost one may have used.
    pub fn open(path: &Path, first_seq: u64) -> Result<Self, StoreError> {
        let mut connection = connect(path)?;
        bring_up(&mut connection, path, first_seq)?;
        let (jobs, mut queue) = mpsc::channel::<Job>(QUEUE);
        std::thread::Builder::new()
            .name("store".to_owned())
            .spawn(move || {
                while let Some(job) = queue.blocking_recv() {
                    job(&mut connection);
                }
            })
            .map_err(StoreError::Thread)?;
        Ok(Self { runner: Runner::Thread(jobs), reserve: Reserve::none() })
    }

    /// Like [`open`](Self::open), on a database that somebody else keeps.
    pub fn on(disk: Arc<dyn Disk>, first_seq: u64) -> Result<Self, StoreError> {
        let path = Path::new(":memory:");
        let mut connection = disk.connection().lock().unwrap_or_else(PoisonError::into_inner);
        set_up(&connection).map_err(|source| not_opened(path, source))?;
        bring_up(&mut connection, path, first_seq)?;
        drop(connection);
        Ok(Self { runner: Runner::InPlace(disk), reserve: Reserve::none() })
    }

    /// Like [`open`](Self::open), with `reserve`: it is released if the disk may be too full to
    /// open. An agent that does not start is worse than a reserve that has to be rebuilt.
    pub fn open_behind(reserve: &Reserve, path: &Path, first_seq: u64) -> Result<Self, StoreError> {
        let open = || Self::open(path, first_seq);
        let opened = reserve.behind_where(StoreError::may_lack_room, open)?;
        Ok(Self { reserve: reserve.clone(), ..opened })
    }

    /// Released when it finds no space.
    pub fn reserve(&self) -> &Reserve {
        &self.reserve
    }

    /// Waits for the thread's turn: it lives, and has done everything requested before.
    pub async fn answers(&self) -> Result<(), StoreError> {
        self.call("take its turn", |_| Ok(())).await
    }

    /// Runs `job`, and once more if it finds the disk full and there is a reserve to release. What
    /// it did until then must be undone, so all its writes are one transaction.
    async fn call<T: Send + 'static>(
        &self,
        operation: &'static str,
        mut job: impl FnMut(&mut Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (answer, answered) = oneshot::channel();
        let reserve = self.reserve.clone();
        let job: Job = Box::new(move |connection| {
            let result = reserve.behind_where(is_full, || job(connection));
            // A caller that went away does not undo what it requested.
            let _ = answer.send(result);
        });
        self.runner.run(operation, job).await?;
        let result = answered.await.map_err(|_| StoreError::Closed)?;
        result.map_err(|source| StoreError::Statement { operation, source })
    }
}

fn is_full(error: &rusqlite::Error) -> bool {
    error.sqlite_error_code() == Some(rusqlite::ErrorCode::DiskFull)
}

impl StoreError {
    /// Whether an open failed because the disk may be full, however deep that error is nested.
    /// `SQLite` creates its files there, and if that fails for lack of space it names the file or
    /// the call.
    fn may_lack_room(&self) -> bool {
        use rusqlite::ErrorCode::{CannotOpen, DiskFull, SystemIoFailure};
        let told = |error: &rusqlite::Error| {
            matches!(error.sqlite_error_code(), Some(DiskFull | SystemIoFailure | CannotOpen))
        };
        let mut error: Option<&(dyn std::error::Error + 'static)> = Some(self);
        while let Some(one) = error {
            if one.downcast_ref().is_some_and(told) {
                return true;
            }
            error = one.source();
        }
        false
    }
}

fn connect(path: &Path) -> Result<Connection, StoreError> {
    let open = || {
        let connection = Connection::open(path)?;
        set_up(&connection)?;
        Ok(connection)
    };
    open().map_err(|source| not_opened(path, source))
}

fn set_up(connection: &Connection) -> rusqlite::Result<()> {
    connection.busy_timeout(std::time::Duration::from_secs(5))?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    // An acknowledgement means that the write survives a power loss.
    connection.pragma_update(None, "synchronous", "FULL")?;
    // KiB of pages kept in memory, 2 MiB by default: a large document would fill them for good, and
    // nothing here is read often.
    connection.pragma_update(None, "cache_size", -512)?;
    connection.pragma_update(None, "foreign_keys", true)
}

fn not_opened(path: &Path, source: rusqlite::Error) -> StoreError {
    StoreError::Open { path: path.to_owned(), source: source.into() }
}

fn bring_up(connection: &mut Connection, path: &Path, first_seq: u64) -> Result<(), StoreError> {
    if rusqlite::version_number() < LEAST_SQLITE {
        return Err(StoreError::OldSqlite(rusqlite::version()));
    }
    migrate(connection, path)?;
    reports::begin_at(connection, first_seq).map_err(|source| not_opened(path, source))
}

fn migrate(connection: &mut Connection, path: &Path) -> Result<(), StoreError> {
    use rusqlite_migration::Error::MigrationDefinition;
    let found: i64 = connection
        .pragma_query_value(None, "user_version", |row| row.get(0))
        .map_err(|source| not_opened(path, source))?;
    // 0 is a new database.
    if let Some(found) = usize::try_from(found).ok().filter(|found| (1..OLDEST).contains(found)) {
        return Err(StoreError::OlderSchema { path: path.to_owned(), found });
    }
    Migrations::from_slice(MIGRATIONS).to_latest(connection).map_err(|error| match error {
        MigrationDefinition(MigrationDefinitionError::DatabaseTooFarAhead) => {
            StoreError::NewerSchema { path: path.to_owned(), known: MIGRATIONS.len() }
        }
        other => StoreError::Open { path: path.to_owned(), source: other.into() },
    })
}
