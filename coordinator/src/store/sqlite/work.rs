//! How much SQLite has done for this thread: a measure that is the same on every machine.

use std::cell::Cell;

use rusqlite::{Statement, StatementStatus};

thread_local! {
    static STEPS: Cell<u64> = const { Cell::new(0) };
}

pub(super) fn note(statement: &Statement<'_>) {
    let steps = statement.reset_status(StatementStatus::VmStep);
    STEPS.set(STEPS.get() + u64::try_from(steps).unwrap());
}

/// The steps of SQLite's virtual machine that `work` takes, triggers included.
pub(super) fn of<T>(work: impl FnOnce() -> T) -> (u64, T) {
    let before = STEPS.get();
    let value = work();
    (STEPS.get() - before, value)
}
