//! Copies of the whole database: made while it is in use, and checked before they replace it.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags, TransactionBehavior};

use super::{driver, migrate};
use crate::store::contract::{StoreError, Tables};
use crate::store::sql::Tx;

/// The header of every SQLite file.
const MAGIC: &[u8; 16] = b"SQLite format 3\0";

/// Writes a consistent copy of the database at `path` into `to`, an empty file. Concurrent writers
/// are not blocked, and their changes are not included.
pub fn copy(path: &Path, to: &Path) -> Result<(), StoreError> {
    let operation = "copy the database";
    let connection = migrate::open_reader(path)?;
    let to =
        to.to_str().ok_or_else(|| StoreError::operation(operation)("the path is not UTF-8"))?;
    connection.execute("VACUUM INTO ?1", [to]).map_err(driver::failed(operation))?;
    Ok(())
}

/// Whether the file is an undamaged database of this program.
pub fn check(path: &Path) -> Result<(), StoreError> {
    let refused = |source: String| StoreError::Open {
        path: path.display().to_string(),
        source: source.into(),
    };
    let mut head = [0; MAGIC.len()];
    let read = std::fs::File::open(path).and_then(|mut file| file.read_exact(&mut head));
    if read.is_err() || head != *MAGIC {
        return Err(refused("it is not an SQLite database".to_owned()));
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags);
    let connection = connection.map_err(|error| refused(error.to_string()))?;
    let ask = |sql: &str| -> Result<String, StoreError> {
        connection
            .query_row(sql, [], |row| row.get(0))
            .map_err(|error| refused(format!("it is damaged: {error}")))
    };
    let found = ask("PRAGMA integrity_check")?;
    if found != "ok" {
        return Err(refused(format!(
            "it is damaged: {}",
            found.lines().next().unwrap_or_default()
        )));
    }
    let known = "SELECT count(*) || '' FROM sqlite_schema
                 WHERE type = 'table' AND name IN ('meta', 'accounts', 'hosts', 'documents')";
    if ask(known)? != "4" {
        return Err(refused("it is not a database of buddo-coordinator".to_owned()));
    }
    Ok(())
}

/// What in a database depends on key files.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Holds {
    /// Hosts, which trust the signing key and the CA.
    pub hosts: bool,
    /// Values under the master key.
    pub sealed: bool,
}

/// Inspects a database, even if its schema is not up to date.
pub fn holds(path: &Path) -> Result<Holds, StoreError> {
    let failed = |error| StoreError::operation("look for what depends on keys")(error);
    let connection = migrate::open_reader(path)?;
    let any = |table: &str, column: &str| -> rusqlite::Result<bool> {
        let known = "SELECT EXISTS (SELECT 1 FROM pragma_table_info(?1) WHERE name = ?2)";
        if !connection.query_row(known, [table, column], |row| row.get(0))? {
            return Ok(false);
        }
        let sql = format!("SELECT EXISTS (SELECT 1 FROM {table} WHERE {column} IS NOT NULL)");
        connection.query_row(&sql, [], |row| row.get(0))
    };
    let hosts = any("hosts", "id").map_err(failed)?;
    let sealed = any("accounts", "totp_secret").map_err(failed)?
        || any("services", "env").map_err(failed)?
        // Where they were before schema 19.
        || any("revisions", "env").map_err(failed)?;
    Ok(Holds { hosts, sealed })
}

/// Migrates a database that nobody uses, runs `work` on it in one transaction, and leaves it as one
/// synced file.
pub fn change<T, E>(path: &Path, work: impl FnOnce(&mut dyn Tables) -> Result<T, E>) -> Result<T, E>
where
    E: From<StoreError>,
{
    let failed = |error| StoreError::operation("change a copy of the database")(error);
    let mut connection = migrate::open(path)?;
    let transaction =
        connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failed)?;
    let value = work(&mut Tx::new(&*transaction))?;
    transaction.commit().map_err(failed)?;
    // The WAL is merged into the file and deleted.
    connection.pragma_update(None, "journal_mode", "DELETE").map_err(failed)?;
    connection.close().map_err(|(_, error)| failed(error))?;
    let synced = std::fs::File::open(path).and_then(|file| file.sync_all());
    synced.map_err(|error| StoreError::operation("sync a copy of the database")(error))?;
    Ok(value)
}

/// The lock held by every process that uses the database at `path`.
pub fn lock_path(path: &Path) -> PathBuf {
    beside(path, ".lock")
}

/// A file beside the database.
pub fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}
