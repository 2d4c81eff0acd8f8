//! The three kinds of statements.

use std::cell::Cell;

use rusqlite::{Connection, ErrorCode, Params, Row, ffi};

use super::Tx;
use crate::store::contract::StoreError;

/// Deletes expired rows of a table: those up to `?1`, at most `?2`.
macro_rules! expired {
    ($table:literal, $key:literal) => {
        expired!($table, $key, "")
    };
    ($table:literal, $key:literal, $and:literal) => {
        concat!(
            "DELETE FROM ",
            $table,
            " WHERE ",
            $key,
            " IN (SELECT ",
            $key,
            " FROM ",
            $table,
            " WHERE ",
            $and,
            "expires_at <= ?1 LIMIT ?2)"
        )
    };
}
pub(super) use expired;

impl<'c> Tx<'c> {
    pub(super) fn new(connection: &'c Connection) -> Self {
        Self { connection, failure: Cell::default(), conflict: Cell::default() }
    }

    /// Why the last statement failed. The use case may have replaced or ignored the error.
    pub(super) fn failure(&self) -> Option<ErrorCode> {
        self.failure.get()
    }

    /// Whether a statement met a conflict. The use case may have replaced or ignored the error.
    pub(super) fn conflict(&self) -> Option<StoreError> {
        self.conflict.take().map(|(operation, error)| StoreError::conflict(operation)(error))
    }

    fn fails(&self, operation: &'static str) -> impl Fn(rusqlite::Error) -> StoreError {
        move |error| {
            self.failure.set(error.sqlite_error_code());
            if is_conflict(&error) {
                // The use case gets its own, because `rusqlite::Error` cannot be cloned.
                let text = error.to_string();
                self.conflict.set(Some((operation, error)));
                return StoreError::conflict(operation)(text);
            }
            failed(operation)(error)
        }
    }

    pub(super) fn all<T>(
        &self,
        operation: &'static str,
        sql: &str,
        params: impl Params,
        read: impl Fn(&Row<'_>) -> Result<T, StoreError>,
    ) -> Result<Vec<T>, StoreError> {
        let mut statement = self.connection.prepare_cached(sql).map_err(self.fails(operation))?;
        let mut rows = statement.query(params).map_err(self.fails(operation))?;
        let mut values = Vec::new();
        while let Some(row) = rows.next().map_err(self.fails(operation))? {
            values.push(read(row)?);
        }
        drop(rows);
        #[cfg(test)]
        super::work::note(&statement);
        Ok(values)
    }

    /// The first row, if there is one.
    pub(super) fn first<T>(
        &self,
        operation: &'static str,
        sql: &str,
        params: impl Params,
        read: impl Fn(&Row<'_>) -> Result<T, StoreError>,
    ) -> Result<Option<T>, StoreError> {
        let mut statement = self.connection.prepare_cached(sql).map_err(self.fails(operation))?;
        let mut rows = statement.query(params).map_err(self.fails(operation))?;
        let found = match rows.next().map_err(self.fails(operation))? {
            Some(row) => read(row).map(Some),
            None => Ok(None),
        };
        drop(rows);
        #[cfg(test)]
        super::work::note(&statement);
        found
    }

    /// A change; returns the number of affected rows.
    pub(super) fn run(
        &self,
        operation: &'static str,
        sql: &str,
        params: impl Params,
    ) -> Result<usize, StoreError> {
        self.connection
            .prepare_cached(sql)
            .and_then(|mut statement| {
                let changed = statement.execute(params);
                #[cfg(test)]
                super::work::note(&statement);
                changed
            })
            .map_err(self.fails(operation))
    }
}

/// A write that builds on a snapshot that is no longer the newest. It cannot happen while all writes
/// begin with BEGIN IMMEDIATE.
fn is_conflict(error: &rusqlite::Error) -> bool {
    let code = error.sqlite_error().map(|error| error.extended_code);
    code == Some(ffi::SQLITE_BUSY_SNAPSHOT)
}

/// For `map_err` of writes: the statement for `operation` failed; a full disk is a separate error.
pub(super) fn failed(operation: &'static str) -> impl Fn(rusqlite::Error) -> StoreError {
    move |error| match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => StoreError::Full { operation },
        _ => StoreError::operation(operation)(error),
    }
}
