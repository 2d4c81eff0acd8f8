//! The three shapes of a statement.

use rusqlite::{ErrorCode, Params, Row};

use super::Tx;
use crate::store::contract::StoreError;

impl Tx<'_> {
    /// All rows.
    pub(super) fn all<T>(
        &self,
        operation: &'static str,
        sql: &str,
        params: impl Params,
        read: impl Fn(&Row<'_>) -> Result<T, StoreError>,
    ) -> Result<Vec<T>, StoreError> {
        let mut statement =
            self.connection.prepare_cached(sql).map_err(StoreError::operation(operation))?;
        let mut rows = statement.query(params).map_err(StoreError::operation(operation))?;
        let mut values = Vec::new();
        while let Some(row) = rows.next().map_err(StoreError::operation(operation))? {
            values.push(read(row)?);
        }
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
        let mut statement =
            self.connection.prepare_cached(sql).map_err(StoreError::operation(operation))?;
        let mut rows = statement.query(params).map_err(StoreError::operation(operation))?;
        match rows.next().map_err(StoreError::operation(operation))? {
            Some(row) => read(row).map(Some),
            None => Ok(None),
        }
    }

    /// A change; how many rows it touched.
    pub(super) fn run(
        &self,
        operation: &'static str,
        sql: &str,
        params: impl Params,
    ) -> Result<usize, StoreError> {
        self.connection
            .prepare_cached(sql)
            .and_then(|mut statement| statement.execute(params))
            .map_err(failed(operation))
    }
}

/// For `map_err` of what writes: the statement that was to `operation` failed, most tellingly
/// for want of room.
pub(super) fn failed(operation: &'static str) -> impl Fn(rusqlite::Error) -> StoreError {
    move |error| match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => StoreError::Full { operation },
        _ => StoreError::operation(operation)(error),
    }
}
