//! What a backend gives the statements: run one, hand over its rows, say how it failed.
//!
//! Statements use what SQLite and PostgreSQL have in common. Placeholders are `?1`, `?2` …, which a
//! backend with another notation rewrites; truth values are stored as 0 and 1. What only one
//! backend needs to know is a comment in the statement ([`INDEX_HINT`]).

use std::ops::ControlFlow;

use super::value::Value;
use crate::store::contract::Cause;

/// Begins a comment that names the index to use for the table before it: `/*index: NAME*/`. A
/// backend that chooses well by itself leaves it as the comment that it is.
pub(in crate::store) const INDEX_HINT: &str = "/*index: ";

/// One transaction's connection. Statements are prepared once per connection and text.
pub(in crate::store) trait Driver {
    /// Passes each row to `each`, in order, until it breaks. `each` must not run statements: a
    /// backend may be in the middle of receiving the rows.
    ///
    /// A statement that changes something and returns rows (`RETURNING`) has changed all of it,
    /// however few of the rows are taken.
    fn query(
        &self,
        sql: &str,
        params: &[Value<'_>],
        each: &mut dyn FnMut(&Row<'_>) -> ControlFlow<()>,
    ) -> Result<(), DriverError>;

    /// Runs a statement without rows; returns how many rows it changed.
    fn execute(&self, sql: &str, params: &[Value<'_>]) -> Result<usize, DriverError>;

    /// The database's clock, in milliseconds since 1970: what several coordinators share, whatever
    /// their own clocks say.
    fn now(&self) -> Result<i64, DriverError>;
}

/// A row, valid until the next one.
pub(in crate::store) type Row<'r> = dyn Columns + 'r;

/// The columns of a row.
pub(in crate::store) trait Columns {
    /// `Err`: the statement has no such column.
    fn named(&self, name: &str) -> Result<Value<'_>, Cause>;

    /// By position, from 0; `None`: there are no more.
    fn at(&self, index: usize) -> Option<Value<'_>>;
}

/// Why a statement failed.
#[derive(Debug)]
pub(in crate::store) struct DriverError {
    pub(in crate::store) kind: ErrorKind,
    pub(in crate::store) source: Cause,
}

/// What a failure means for the transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::store) enum ErrorKind {
    /// Another transaction changed what this one has read: it can run again.
    Conflict,
    /// There is no space left.
    Full,
    Other,
}
