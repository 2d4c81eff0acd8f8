//! Statements on an SQLite connection.

use std::borrow::Cow;
use std::ops::ControlFlow;

use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{CachedStatement, Connection, ErrorCode, ToSql, ffi, params_from_iter};

use crate::store::contract::Cause;
use crate::store::sql::driver::{Columns, Driver, DriverError, ErrorKind, INDEX_HINT, Row};
use crate::store::sql::value::Value;

impl Driver for Connection {
    fn query(
        &self,
        sql: &str,
        params: &[Value<'_>],
        each: &mut dyn FnMut(&Row<'_>) -> ControlFlow<()>,
    ) -> Result<(), DriverError> {
        #[cfg(test)]
        if let Some(other) = super::faults::elsewhere(self, sql) {
            return other.query(sql, params, each);
        }
        let mut statement = prepare(self, sql)?;
        let mut rows = statement.query(params_from_iter(params.iter().map(Bound)))?;
        while let Some(row) = rows.next()? {
            if each(&SqliteRow(row)).is_break() {
                break;
            }
        }
        drop(rows);
        #[cfg(test)]
        super::work::note(&statement);
        Ok(())
    }

    fn execute(&self, sql: &str, params: &[Value<'_>]) -> Result<usize, DriverError> {
        let mut statement = prepare(self, sql)?;
        let changed = statement.execute(params_from_iter(params.iter().map(Bound)));
        #[cfg(test)]
        super::work::note(&statement);
        Ok(changed?)
    }

    fn now(&self) -> Result<i64, DriverError> {
        let sql = "SELECT CAST(unixepoch('subsec') * 1000 AS INTEGER)";
        Ok(self.prepare_cached(sql)?.query_row([], |row| row.get(0))?)
    }
}

fn prepare<'c>(connection: &'c Connection, sql: &str) -> Result<CachedStatement<'c>, DriverError> {
    #[cfg(test)]
    let sql = &*super::faults::statement(sql)?;
    Ok(connection.prepare_cached(&with_hints(sql))?)
}

/// SQLite chooses among indexes without statistics, so that it takes the longest that fits; a hint
/// becomes its clause.
fn with_hints(sql: &str) -> Cow<'_, str> {
    let mut hinted = Cow::Borrowed(sql);
    while let Some(begin) = hinted.find(INDEX_HINT) {
        let name = begin + INDEX_HINT.len();
        let Some(length) = hinted[name..].find("*/") else { break };
        let clause = format!("INDEXED BY {}", &hinted[name..name + length]);
        hinted.to_mut().replace_range(begin..name + length + "*/".len(), &clause);
    }
    hinted
}

/// A parameter.
struct Bound<'v>(&'v Value<'v>);

impl ToSql for Bound<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match *self.0 {
            Value::Null => ValueRef::Null,
            Value::Integer(number) => ValueRef::Integer(number),
            Value::Real(number) => ValueRef::Real(number),
            Value::Text(text) => ValueRef::Text(text.as_bytes()),
            Value::Blob(bytes) => ValueRef::Blob(bytes),
        }))
    }
}

struct SqliteRow<'r>(&'r rusqlite::Row<'r>);

impl Columns for SqliteRow<'_> {
    fn named(&self, name: &str) -> Result<Value<'_>, Cause> {
        Ok(value(self.0.get_ref(name)?))
    }

    fn at(&self, index: usize) -> Option<Value<'_>> {
        self.0.get_ref(index).ok().map(value)
    }
}

fn value(found: ValueRef<'_>) -> Value<'_> {
    match found {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(number) => Value::Integer(number),
        ValueRef::Real(number) => Value::Real(number),
        ValueRef::Text(text) => match std::str::from_utf8(text) {
            Ok(text) => Value::Text(text),
            // Only in a damaged file.
            Err(_) => Value::Blob(text),
        },
        ValueRef::Blob(bytes) => Value::Blob(bytes),
    }
}

impl From<rusqlite::Error> for DriverError {
    fn from(error: rusqlite::Error) -> Self {
        let extended = error.sqlite_error().map(|error| error.extended_code);
        let kind = match error.sqlite_error_code() {
            // A write that builds on a snapshot that is no longer the newest. It cannot happen
            // while all writes begin with BEGIN IMMEDIATE.
            _ if extended == Some(ffi::SQLITE_BUSY_SNAPSHOT) => ErrorKind::Conflict,
            Some(ErrorCode::DiskFull) => ErrorKind::Full,
            _ => ErrorKind::Other,
        };
        Self { kind, source: error.into() }
    }
}

/// For `map_err`: the statement for `operation`, of this backend alone, failed.
pub(super) fn failed(
    operation: &'static str,
) -> impl Fn(rusqlite::Error) -> crate::store::contract::StoreError {
    move |error| crate::store::sql::failed(operation)(error.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hints_become_clauses() {
        let sql = "SELECT 1 FROM a /*index: a_by_b*/ WHERE b = ?1";
        assert_eq!(with_hints(sql), "SELECT 1 FROM a INDEXED BY a_by_b WHERE b = ?1");
        let sql = "SELECT 1 FROM a /*index: x*/ JOIN b /*index: y*/ ON b.id = a.id";
        assert_eq!(
            with_hints(sql),
            "SELECT 1 FROM a INDEXED BY x JOIN b INDEXED BY y ON b.id = a.id"
        );
        assert!(matches!(with_hints("SELECT 1 /* a comment */"), Cow::Borrowed(_)));
    }
}
