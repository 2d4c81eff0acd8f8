//! The three kinds of statements.

use std::cell::Cell;
use std::ops::ControlFlow;

use super::driver::{Driver, DriverError, ErrorKind};
use super::{Params, Row, Tx};
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

impl<'d> Tx<'d> {
    pub(in crate::store) fn new(driver: &'d dyn Driver) -> Self {
        Self { driver, failure: Cell::default(), conflict: Cell::default() }
    }

    /// Why the last failed statement failed. The use case may have replaced or ignored the error.
    pub(in crate::store) fn failure(&self) -> Option<ErrorKind> {
        self.failure.get()
    }

    /// The first conflict that a statement met. The use case may have replaced or ignored the
    /// error.
    pub(in crate::store) fn conflict(&self) -> Option<StoreError> {
        self.conflict.take().map(|(operation, error)| failed(operation)(error))
    }

    fn fails(&self, operation: &'static str) -> impl Fn(DriverError) -> StoreError {
        move |error| {
            self.failure.set(Some(error.kind));
            if error.kind != ErrorKind::Conflict {
                return failed(operation)(error);
            }
            // The use case gets a copy, since a cause cannot be cloned. A backend may refuse all
            // that follows in the transaction: only the first one says what happened.
            let copy = StoreError::conflict(operation)(error.source.to_string());
            let first = self.conflict.take().unwrap_or((operation, error));
            self.conflict.set(Some(first));
            copy
        }
    }

    pub(super) fn all<T>(
        &self,
        operation: &'static str,
        sql: &str,
        params: impl Params,
        read: impl Fn(&Row<'_>) -> Result<T, StoreError>,
    ) -> Result<Vec<T>, StoreError> {
        let mut values = Ok(Vec::new());
        self.query(operation, sql, &params, &mut |row| match (read(row), &mut values) {
            (Ok(value), Ok(values)) => {
                values.push(value);
                ControlFlow::Continue(())
            }
            (Err(error), _) => {
                values = Err(error);
                ControlFlow::Break(())
            }
            (Ok(_), Err(_)) => ControlFlow::Break(()),
        })?;
        values
    }

    /// The first row, if there is one.
    pub(super) fn first<T>(
        &self,
        operation: &'static str,
        sql: &str,
        params: impl Params,
        read: impl Fn(&Row<'_>) -> Result<T, StoreError>,
    ) -> Result<Option<T>, StoreError> {
        let mut found = None;
        self.query(operation, sql, &params, &mut |row| {
            found = Some(read(row));
            ControlFlow::Break(())
        })?;
        found.transpose()
    }

    /// The only row of a statement that always has one, such as a count or an insert that returns
    /// something.
    pub(super) fn only<T>(
        &self,
        operation: &'static str,
        sql: &str,
        params: impl Params,
        read: impl Fn(&Row<'_>) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let found = self.first(operation, sql, params, read)?;
        found.ok_or_else(|| StoreError::operation(operation)("the statement returned no row"))
    }

    /// A change; returns the number of affected rows.
    pub(super) fn run(
        &self,
        operation: &'static str,
        sql: &str,
        params: impl Params,
    ) -> Result<usize, StoreError> {
        let sql = params.numbered(sql);
        self.driver.execute(&sql, &params.values()).map_err(self.fails(operation))
    }

    /// The database's clock, in milliseconds since 1970.
    pub(super) fn now(&self, operation: &'static str) -> Result<i64, StoreError> {
        self.driver.now().map_err(self.fails(operation))
    }

    fn query(
        &self,
        operation: &'static str,
        sql: &str,
        params: &impl Params,
        each: &mut dyn FnMut(&Row<'_>) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        let sql = params.numbered(sql);
        self.driver.query(&sql, &params.values(), each).map_err(self.fails(operation))
    }
}

/// For `map_err`: the statement for `operation` failed.
pub(in crate::store) fn failed(operation: &'static str) -> impl Fn(DriverError) -> StoreError {
    move |DriverError { kind, source }| match kind {
        ErrorKind::Conflict => StoreError::Conflict { operation, source },
        ErrorKind::Full => StoreError::Full { operation },
        ErrorKind::Other => StoreError::Operation { operation, source },
    }
}
