//! For tests: conflicts, which SQLite does not have by itself, and promises broken on purpose, which
//! show that the conformance suite notices.
//!
//! A database has the faults of the thread that opens it, and its threads inherit them.

use std::borrow::Cow;
use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU32, Ordering};

use rusqlite::{Connection, MAIN_DB, OpenFlags};

use crate::store::cache::Version;
use crate::store::contract::StoreError;
use crate::store::sql::driver::{DriverError, ErrorKind};

thread_local! {
    static HERE: RefCell<Arc<Faults>> = RefCell::default();
}

/// What is wrong with a database.
#[derive(Debug, Default)]
pub(super) struct Faults {
    pub(super) broken: Option<Broken>,
    /// How many of the next statements meet a conflict.
    pub(super) at_statement: AtomicU32,
    /// How many of the next runs meet a conflict after all of their statements.
    pub(super) at_commit: AtomicU32,
}

/// A promise that is not kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Broken {
    /// Lists have no order.
    Order,
    /// Lists and purges have no limit.
    Limit,
    /// What ended in an error is kept.
    Rollback,
    /// A writer reads what was committed before its group, not what it and the group have changed.
    Isolation,
    /// A reader has a snapshot for each statement.
    Snapshot,
    /// A conflict is an error like any other.
    Conflict,
    /// Work that met its conflict at the commit was committed all the same.
    Once,
    /// The version never changes.
    Version,
    /// The version changes with commits of the same handle alone.
    OwnVersion,
    /// The version changes each time.
    EachVersion,
}

/// Sets the faults of databases that this thread opens.
pub(super) fn install(faults: &Arc<Faults>) {
    HERE.set(Arc::clone(faults));
}

pub(super) fn here() -> Arc<Faults> {
    HERE.with_borrow(Arc::clone)
}

pub(super) fn breaks(broken: Broken) -> bool {
    HERE.with_borrow(|faults| faults.broken == Some(broken))
}

/// `run`, for another thread, with the faults of this one.
pub(super) fn inherited(run: impl FnOnce() + Send + 'static) -> impl FnOnce() + Send + 'static {
    let faults = here();
    move || {
        install(&faults);
        run();
    }
}

/// Takes one of the conflicts that are left.
fn strikes(left: &AtomicU32) -> bool {
    let one_less = |left: u32| left.checked_sub(1);
    left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_less).is_ok()
}

/// The statement as it runs.
pub(super) fn statement(sql: &str) -> Result<Cow<'_, str>, DriverError> {
    let faults = here();
    if strikes(&faults.at_statement) {
        let kind = if breaks(Broken::Conflict) { ErrorKind::Other } else { ErrorKind::Conflict };
        return Err(DriverError { kind, source: "on purpose".into() });
    }
    Ok(match faults.broken {
        Some(Broken::Order) => without_order(sql),
        Some(Broken::Limit) => sql.replace("LIMIT ?", "LIMIT 1000000 + ?").into(),
        _ => sql.into(),
    })
}

fn without_order(sql: &str) -> Cow<'_, str> {
    let mut sql = Cow::Borrowed(sql);
    while let Some(begin) = sql.find("ORDER BY") {
        let mut depth = 0;
        let rest = &sql[begin..];
        let end = rest.char_indices().find(|(at, c)| {
            depth += i32::from(*c == '(') - i32::from(*c == ')');
            depth < 0 || rest[*at..].starts_with("LIMIT")
        });
        let end = end.map_or(sql.len(), |(at, _)| begin + at);
        sql.to_mut().replace_range(begin..end, "");
    }
    sql
}

/// Another connection to answer a statement of the writer.
pub(super) fn elsewhere(connection: &Connection, sql: &str) -> Option<Connection> {
    let reads = sql.trim_start().starts_with("SELECT");
    let is_writer = !connection.is_readonly(MAIN_DB).unwrap();
    (breaks(Broken::Isolation) && reads && is_writer).then(|| {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        Connection::open_with_flags(connection.path().unwrap(), flags).unwrap()
    })
}

/// A conflict of a run whose statements all went well.
pub(super) fn at_commit() -> Option<StoreError> {
    (!breaks(Broken::Once)).then(conflict).flatten()
}

/// What the work is told that was committed.
pub(super) fn after_commit() -> Result<(), StoreError> {
    breaks(Broken::Once).then(conflict).flatten().map_or(Ok(()), Err)
}

fn conflict() -> Option<StoreError> {
    strikes(&here().at_commit).then(|| StoreError::conflict("commit")("on purpose"))
}

impl Faults {
    /// The version that is told instead of the true one, of which `commits` is a part.
    pub(super) fn version(&self, commits: u64) -> Option<Version> {
        static TOLD: AtomicI64 = AtomicI64::new(0);
        match self.broken? {
            Broken::Version => Some(Version::new(0, 0)),
            Broken::OwnVersion => Some(Version::new(commits, 0)),
            Broken::EachVersion => Some(Version::new(0, TOLD.fetch_add(1, Ordering::SeqCst))),
            _ => None,
        }
    }
}
