//! Brings what was committed from the log into the database file, on a thread of its own.
//!
//! SQLite does it in the commit that fills the log: whoever asked for that one waited for the pages
//! of a thousand others, and so did everybody behind them.

use std::sync::mpsc::Receiver;

use rusqlite::Connection;

/// Pages in the log from which on they are brought over.
const PAGES: i64 = 256;
/// Pages in the log at which a commit does it all the same. The log only begins again from its
/// start when all of it was brought over and nobody reads it, which may not happen for long where
/// there is always another commit. Most of it was brought over by then.
pub(super) const MOST_PAGES: i64 = 16 * PAGES;

/// Goes on until the writer is gone, which tells of each commit.
pub(super) fn run(connection: &Connection, commits: &Receiver<()>) {
    while commits.recv().is_ok() {
        match waiting(connection) {
            Ok(pages) if pages < PAGES => {}
            Ok(_) => {
                if let Err(error) = ask(connection, "PASSIVE") {
                    tracing::warn!(%error, "the database's log cannot be brought into its file");
                }
            }
            Err(error) => tracing::debug!(%error, "the database's log cannot be looked at"),
        }
    }
}

/// Pages in the log that are not in the file yet.
pub(super) fn waiting(connection: &Connection) -> rusqlite::Result<i64> {
    let (log, done) = ask(connection, "NOOP")?;
    Ok(log - done)
}

fn ask(connection: &Connection, mode: &str) -> rusqlite::Result<(i64, i64)> {
    let sql = format!("PRAGMA wal_checkpoint({mode})");
    connection.query_row(&sql, [], |row| Ok((row.get(1)?, row.get(2)?)))
}
