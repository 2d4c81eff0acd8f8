//! Checkpoints the WAL into the database file on a separate thread.
//!
//! SQLite does this in the commit that fills the WAL: the caller of that commit then waited for the
//! pages of a thousand others, and so did everybody queued behind it.
//!
//! The WAL restarts from its beginning only if a transaction begins while all of it is in the file.
//! Under steady commits that never happens by itself, since each checkpoint finds new pages; so
//! once the WAL is long, the last few pages are checkpointed while nobody can commit.

use std::sync::mpsc::Receiver;
use std::time::Duration;

use rusqlite::Connection;

/// Checkpoint once this many pages are not in the file yet. Each checkpoint costs two syncs, which
/// commits wait for as well.
const PAGES: i64 = 1024;
/// Restart the WAL at this many pages, whether they are in the file or not.
const LONG: i64 = 4 * PAGES;
/// Pages in the WAL at which a commit checkpoints after all, 256 MiB: in case this thread fails, or
/// never finds a gap between two commits.
pub(super) const MOST_PAGES: i64 = 64 * PAGES;

/// Runs until the writer, which signals each commit, is gone.
pub(super) fn run(connection: &Connection, commits: &Receiver<()>) {
    let mut told = false;
    while commits.recv().is_ok() {
        match look(connection) {
            Ok(()) => told = false,
            Err(error) if told => tracing::debug!(%error, "the write-ahead log still grows"),
            Err(error) => {
                tracing::warn!(%error, "cannot checkpoint the write-ahead log");
                told = true;
            }
        }
    }
}

/// Checkpoints if there is enough to be worth it.
pub(super) fn look(connection: &Connection) -> rusqlite::Result<()> {
    let (log, done) = ask(connection, "NOOP")?;
    if log - done >= PAGES || log >= LONG {
        // Nobody waits for this one.
        ask(connection, "PASSIVE")?;
    }
    if log >= LONG {
        // No waiting for other connections: this one holds the write lock meanwhile, so all commits
        // would wait too. The next commit is another chance.
        connection.busy_timeout(Duration::ZERO)?;
        ask(connection, "RESTART")?;
    }
    Ok(())
}

/// Pages in the WAL, and how many of them are in the file.
pub(super) fn ask(connection: &Connection, mode: &str) -> rusqlite::Result<(i64, i64)> {
    let sql = format!("PRAGMA wal_checkpoint({mode})");
    connection.query_row(&sql, [], |row| Ok((row.get(1)?, row.get(2)?)))
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use rusqlite::TransactionBehavior;
    use tempfile::TempDir;

    use super::*;
    use crate::store::sqlite::migrate;

    /// A database whose commits do not checkpoint by themselves.
    struct Log {
        writer: Connection,
        looks: Connection,
        directory: TempDir,
    }

    impl Log {
        fn new() -> Self {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("a.db");
            let writer = migrate::open(&path).unwrap();
            writer.pragma_update(None, "wal_autocheckpoint", 0).unwrap();
            writer.execute_batch("CREATE TABLE filling (bytes BLOB)").unwrap();
            let looks = migrate::open(&path).unwrap();
            ask(&looks, "TRUNCATE").unwrap();
            Self { writer, looks, directory }
        }

        /// Commits this many pages, and a few more.
        fn commit(&self, pages: i64) {
            let sql = "INSERT INTO filling VALUES (zeroblob(?1 * 4096))";
            self.writer.execute(sql, [pages]).unwrap();
        }

        fn stands(&self) -> (i64, i64) {
            ask(&self.looks, "NOOP").unwrap()
        }
    }

    #[test]
    fn a_checkpoint_waits_for_enough_pages() {
        let log = Log::new();
        log.commit(PAGES / 2);
        look(&log.looks).unwrap();
        assert_eq!(log.stands().1, 0);
        log.commit(PAGES / 2);
        look(&log.looks).unwrap();
        let (pages, done) = log.stands();
        assert!(pages >= PAGES && done == pages, "{done} of {pages}");
    }

    /// As under steady commits, where each checkpoint leaves what was committed during it.
    #[test]
    fn a_long_wal_is_restarted_even_if_few_pages_are_pending() {
        let log = Log::new();
        log.commit(LONG);
        let mut reader = migrate::open_reader(&log.directory.path().join("a.db")).unwrap();
        let reading = reader.transaction().unwrap();
        reading.query_row("SELECT count(*) FROM filling", [], |_| Ok(())).unwrap();
        log.commit(1);
        ask(&log.looks, "PASSIVE").unwrap();
        drop(reading);
        let (pages, done) = log.stands();
        assert!(done < pages && pages - done < 16, "{done} of {pages}");
        look(&log.looks).unwrap();
        log.commit(1);
        let (pages, _) = log.stands();
        assert!(pages < 16, "the log goes on: {pages} pages");
    }

    #[test]
    fn a_checkpoint_does_not_wait_for_a_writer() {
        let mut log = Log::new();
        log.commit(LONG);
        let writing = log.writer.transaction_with_behavior(TransactionBehavior::Immediate).unwrap();
        let began = Instant::now();
        look(&log.looks).unwrap();
        assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
        drop(writing);
        let (pages, done) = log.stands();
        assert_eq!(done, pages, "what was committed is brought over all the same");
    }
}
