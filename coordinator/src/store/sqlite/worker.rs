//! The threads that own the connections.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use std::{io, thread};

use rusqlite::{Connection, TransactionBehavior};
use tokio::sync::{mpsc, oneshot};
use tracing::dispatcher;

use super::driver::failed;
#[cfg(test)]
use super::faults::Broken;
use crate::store::contract::{StoreError, Tables};
use crate::store::retry::Outcome;
use crate::store::sql::driver::{DriverError, ErrorKind};
use crate::store::sql::{self, Tx};

/// Maximum jobs that share one commit.
const GROUP: usize = 64;

/// How long a group waits for callers of the last two groups. Far less than a sync takes.
const GATHER: Duration = Duration::from_micros(300);
/// After this long without a job, no caller of the last groups is expected any more.
const LATELY: Duration = Duration::from_millis(20);

/// Tells the waiting use case that its work was committed, or why not.
type Answer = Box<dyn FnOnce(Result<(), StoreError>) + Send>;

/// A use case's work; `None`: no transaction could be started, so it does not run.
type Work = dyn FnOnce(Option<&mut dyn Tables>) -> Done + Send;

/// One use case's work on the writer thread.
pub(super) struct Job(Box<Work>);

/// Result of a job: whether to keep it, and the callback once that is settled.
struct Done {
    keep: bool,
    answer: Answer,
}

/// One use case's work on a reader thread; `Err`: no snapshot could be opened.
pub(super) type ReadJob = Box<dyn FnOnce(Result<&Tx<'_>, StoreError>) + Send>;

impl Job {
    pub(super) fn new<T, E, F>(work: F, answer: oneshot::Sender<Outcome<T, E, F>>) -> Self
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
        F: Fn(&mut dyn Tables) -> Result<T, E> + Send + 'static,
    {
        Self(Box::new(move |tables| {
            let result = tables.map(&work);
            Done {
                keep: matches!(result, Some(Ok(_))),
                answer: Box::new(move |committed| {
                    let outcome = match (result, committed) {
                        (_, Err(error @ StoreError::Conflict { .. })) => {
                            Outcome::Conflict(work, error)
                        }
                        // Replaces even the use case's own error, which may be due to rows of
                        // another job that are rolled back as well.
                        (_, Err(error)) => Outcome::failed(error),
                        (Some(result), Ok(())) => Outcome::Ended(result),
                        (None, Ok(())) => Outcome::failed(StoreError::Closed),
                    };
                    // A client that went away is no reason to undo what was committed.
                    let _ = answer.send(outcome);
                }),
            }
        }))
    }
}

/// Starts a named thread. It ends when the senders of its queue are gone.
pub(super) fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> io::Result<()> {
    // The thread inherits the tracing dispatcher of the one that opens the database.
    let listener = dispatcher::get_default(tracing::Dispatch::clone);
    let run = move || dispatcher::with_default(&listener, run);
    #[cfg(test)]
    let run = super::faults::inherited(run);
    thread::Builder::new().name(name.to_owned()).spawn(run).map(drop)
}

/// Runs jobs in groups, one commit per group.
pub(super) fn write_loop(
    mut connection: Connection,
    mut queue: mpsc::Receiver<Job>,
    committed: &dyn Fn(),
) {
    let mut group = Vec::with_capacity(GROUP);
    let mut crowd = Crowd::default();
    while crowd.gather(&mut queue, &mut group, pause) {
        run_group(&mut connection, group.drain(..), committed);
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the writer's own thread, which waits for time alone"
)]
fn pause() {
    thread::sleep(GATHER);
}

/// How many jobs were in the last two groups.
///
/// A caller whose commit is done often requests the next one at once. The first of them would form
/// a group alone, and all others would wait through its sync and then through their own. So a group
/// smaller than one of the last two waits for the others, once and briefly, like `commit_delay` of
/// PostgreSQL, which depends on `commit_siblings`. Two groups, because with latecomers the sizes
/// alternate. A single caller never waits.
///
/// Rejected: waiting for each further job until all have arrived, which wakes this thread once per
/// job and costs more than everything else; and waiting before every group, which a single caller
/// would pay for.
#[derive(Default)]
struct Crowd([usize; 2]);

impl Crowd {
    /// Takes the jobs of the next group; `pause` lets others arrive. `false`: the queue is closed.
    fn gather(
        &mut self,
        queue: &mut mpsc::Receiver<Job>,
        group: &mut Vec<Job>,
        pause: impl FnOnce(),
    ) -> bool {
        let idle = Instant::now();
        if queue.blocking_recv_many(group, GROUP) == 0 {
            return false;
        }
        if idle.elapsed() > LATELY {
            *self = Self::default();
        }
        let Self([before, last]) = *self;
        let expected = before.max(last);
        if expected > 1 && group.len() < expected {
            pause();
            while group.len() < GROUP
                && let Ok(job) = queue.try_recv()
            {
                group.push(job);
            }
        }
        *self = Self([last, group.len()]);
        true
    }
}

fn run_group(connection: &mut Connection, jobs: impl Iterator<Item = Job>, committed: &dyn Fn()) {
    let mut jobs = jobs.map(|Job(job)| job);
    let mut transaction = match connection.transaction_with_behavior(TransactionBehavior::Immediate)
    {
        Ok(transaction) => transaction,
        Err(error) => {
            tracing::error!(%error, "cannot begin a transaction");
            let why = Aborted::by("begin a transaction", error);
            return why.tell(jobs.map(|job| job(None).answer));
        }
    };
    let mut answers = Vec::new();
    while let Some(job) = jobs.next() {
        let savepoint = match transaction.savepoint() {
            Ok(savepoint) => savepoint,
            Err(error) => {
                (job(None).answer)(Err(failed("begin a savepoint")(error)));
                continue;
            }
        };
        let mut tx = Tx::new(&*savepoint);
        let done = catch_unwind(AssertUnwindSafe(|| job(Some(&mut tx))));
        let failure = tx.failure();
        // SQLite may roll back the whole transaction when one statement finds the disk full. The
        // next savepoint would start another transaction and commit it, without the earlier work.
        if savepoint.is_autocommit() {
            tracing::error!(?failure, "the database rolled back a group of transactions");
            answers.extend(done.ok().map(|done| done.answer));
            let operation = "commit a transaction";
            let why = Aborted { operation, kind: failure, text: UNDONE.to_owned() };
            return why.tell(answers.into_iter().chain(jobs.map(|job| job(None).answer)));
        }
        // A panic in a use case rolls back only that use case. Its caller gets `Closed`, because
        // its sender is dropped while unwinding.
        let Ok(done) = done else {
            tracing::error!("a use case panicked in its transaction; it was rolled back");
            continue;
        };
        let conflict = tx.conflict();
        #[cfg(test)]
        let conflict = conflict.or_else(super::faults::at_commit);
        #[cfg(test)]
        let done = Done { keep: done.keep || super::faults::breaks(Broken::Rollback), ..done };
        // Even if the use case has ignored the error: what it read is not what it would write on.
        if let Some(conflict) = conflict {
            drop(savepoint);
            (done.answer)(Err(conflict));
            continue;
        }
        // A dropped savepoint is rolled back.
        let settled = if done.keep { savepoint.commit() } else { Ok(()) };
        match settled {
            // An error may be due to what an earlier job of the group has written ("the name is
            // taken"), so it is reported together with that.
            Ok(()) if done.keep || !answers.is_empty() => answers.push(done.answer),
            Ok(()) => (done.answer)(Ok(())),
            Err(error) => (done.answer)(Err(failed("end a savepoint")(error))),
        }
    }
    if answers.is_empty() {
        return;
    }
    let result = transaction.commit();
    // Even after a failure: whether it reached the disk is unknown.
    committed();
    match result {
        #[cfg(test)]
        Ok(()) if super::faults::breaks(Broken::Once) => {
            for answer in answers {
                answer(super::faults::after_commit());
            }
        }
        Ok(()) => answers.into_iter().for_each(|answer| answer(Ok(()))),
        Err(error) => {
            tracing::error!(%error, "the database cannot commit");
            Aborted::by("commit", error).tell(answers);
        }
    }
}

/// SQLite gives no reason for a transaction that it has rolled back.
const UNDONE: &str = "another use case of the same commit failed, and the database undid both";

/// Why a group was rolled back. Each caller gets its own error, because `rusqlite::Error` cannot be
/// cloned.
struct Aborted {
    operation: &'static str,
    kind: Option<ErrorKind>,
    text: String,
}

impl Aborted {
    fn by(operation: &'static str, error: rusqlite::Error) -> Self {
        let DriverError { kind, source } = error.into();
        Self { operation, kind: Some(kind), text: source.to_string() }
    }

    fn tell(self, answers: impl IntoIterator<Item = Answer>) {
        let Self { operation, kind, text } = self;
        let kind = kind.unwrap_or(ErrorKind::Other);
        for answer in answers {
            let source = text.clone().into();
            answer(Err(sql::failed(operation)(DriverError { kind, source })));
        }
    }
}

/// Runs one job at a time, each on its own snapshot.
pub(super) fn read_loop(mut connection: Connection, queue: &Arc<Mutex<mpsc::Receiver<ReadJob>>>) {
    loop {
        // The lock is held while waiting: the other readers then wait for the lock instead.
        let job = queue.lock().unwrap_or_else(PoisonError::into_inner).blocking_recv();
        let Some(job) = job else { return };
        let run = || {
            #[cfg(test)]
            if super::faults::breaks(Broken::Snapshot) {
                return job(Ok(&Tx::new(&connection)));
            }
            match connection.transaction() {
                Ok(transaction) => job(Ok(&Tx::new(&*transaction))),
                Err(error) => job(Err(StoreError::operation("begin a snapshot")(error))),
            }
        };
        if catch_unwind(AssertUnwindSafe(run)).is_err() {
            tracing::error!("a use case panicked while reading");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use jiff::Timestamp;
    use rusqlite::Connection;

    use super::*;
    use crate::store::contract::JoinTokenRow;
    use crate::store::sqlite::migrate;

    type Work = Box<dyn Fn(&mut dyn Tables) -> Result<(), StoreError> + Send>;

    /// What a job was told, once it has ended.
    struct Told(oneshot::Receiver<Outcome<(), StoreError, Work>>);

    impl Told {
        fn try_recv(&mut self) -> Result<Result<(), StoreError>, oneshot::error::TryRecvError> {
            self.0.try_recv().map(|outcome| match outcome {
                Outcome::Ended(result) => result,
                Outcome::Conflict(_, conflict) => Err(conflict),
            })
        }
    }

    fn job(
        work: impl Fn(&mut dyn Tables) -> Result<(), StoreError> + Send + 'static,
    ) -> (Job, Told) {
        let (answer, told) = oneshot::channel();
        (Job::new(Box::new(work) as Work, answer), Told(told))
    }

    fn keep(tables: &mut dyn Tables, name: &str, hash: u8) -> Result<(), StoreError> {
        let expires_at = Timestamp::MAX;
        let (name, hash) = (name.to_owned(), [hash; 32]);
        let token = JoinTokenRow { hash, name, expires_at, max_memory_mb: None };
        tables.insert_join_token(&token, Timestamp::UNIX_EPOCH)
    }

    /// Runs the jobs as one group on a database that may grow by a few pages.
    fn in_one_group(connection: Connection, jobs: Vec<Job>) {
        let (sender, queue) = mpsc::channel(GROUP);
        for job in jobs {
            sender.try_send(job).ok().unwrap();
        }
        drop(sender);
        write_loop(connection, queue, &|| {});
    }

    /// `jobs` no-op jobs arrive, and `late` more during the wait: returns the size of the group,
    /// and whether it waited.
    fn gathered(crowd: &mut Crowd, jobs: usize, late: usize) -> (usize, bool) {
        let (sender, mut queue) = mpsc::channel(2 * GROUP);
        let send = |number| {
            for _ in 0..number {
                sender.try_send(job(|_| Ok(())).0).ok().unwrap();
            }
        };
        send(jobs);
        let (mut group, mut waited) = (Vec::new(), false);
        assert!(crowd.gather(&mut queue, &mut group, || {
            waited = true;
            send(late);
        }));
        (group.len(), waited)
    }

    #[test]
    fn callers_answered_together_are_grouped_into_the_next_commit() {
        let mut crowd = Crowd::default();
        assert_eq!(gathered(&mut crowd, 7, 0), (7, false));
        assert_eq!(gathered(&mut crowd, 1, 6), (7, true), "the first of them is early");
        assert_eq!(gathered(&mut crowd, 8, 0), (8, false), "all of them are there");
        assert_eq!(gathered(&mut crowd, 1, 2 * GROUP - 1), (GROUP, true), "not without a bound");
    }

    #[test]
    fn a_single_caller_commits_without_waiting() {
        let mut crowd = Crowd::default();
        for _ in 0..4 {
            assert_eq!(gathered(&mut crowd, 1, 9), (1, false));
        }
        assert_eq!(gathered(&mut crowd, 2, 0), (2, false));
        assert_eq!(gathered(&mut crowd, 1, 0), (1, true));
        assert_eq!(gathered(&mut crowd, 1, 0), (1, true));
        assert_eq!(gathered(&mut crowd, 1, 9), (1, false), "the others have gone");
        // Nor for callers of long ago.
        assert_eq!(gathered(&mut crowd, 9, 0), (9, false));
        let (sender, mut queue) = mpsc::channel(1);
        let late = thread::spawn(move || {
            let (_held, never) = std::sync::mpsc::channel::<()>();
            never.recv_timeout(5 * LATELY).unwrap_err();
            sender.try_send(job(|_| Ok(())).0).ok().unwrap();
        });
        let mut group = Vec::new();
        assert!(crowd.gather(&mut queue, &mut group, || panic!("nobody else comes")));
        late.join().unwrap();
    }

    fn nearly_full(path: &std::path::Path) -> Connection {
        let connection = migrate::open(path).unwrap();
        let pages: i64 = connection.query_row("PRAGMA page_count", [], |row| row.get(0)).unwrap();
        let sql = format!("PRAGMA max_page_count = {}", pages + 8);
        connection.query_row(&sql, [], |_| Ok(())).unwrap();
        connection
    }

    fn names(path: &std::path::Path) -> Vec<String> {
        let connection = migrate::open(path).unwrap();
        let mut statement =
            connection.prepare("SELECT name FROM join_tokens ORDER BY name").unwrap();
        let names = statement.query_map([], |row| row.get(0)).unwrap();
        names.map(Result::unwrap).collect()
    }

    #[test]
    fn fm_65_a_full_disk_fails_every_job_of_its_group() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.db");
        let (first, first_told) = job(|tables| keep(tables, "first", 1));
        // Its own error is due to the row of the first, which is rolled back.
        let (taken, taken_told) = job(|tables| {
            assert!(tables.take_join_token(&[1; 32], Timestamp::UNIX_EPOCH)?.is_some());
            Err(StoreError::Busy)
        });
        let (large, large_told) = job(|tables| keep(tables, &"large ".repeat(100_000), 2));
        let (last, last_told) = job(|tables| keep(tables, "last", 3));
        in_one_group(nearly_full(&path), vec![first, taken, large, last]);
        for (name, mut told) in [
            ("first", first_told),
            ("taken", taken_told),
            ("large", large_told),
            ("last", last_told),
        ] {
            let told = told.try_recv().unwrap();
            assert!(matches!(told, Err(StoreError::Full { .. })), "{name}: {told:?}");
        }
        assert_eq!(names(&path), [""; 0]);
        // With free space again the same work succeeds.
        let (first, mut told) = job(|tables| keep(tables, "first", 1));
        in_one_group(migrate::open(&path).unwrap(), vec![first]);
        told.try_recv().unwrap().unwrap();
        assert_eq!(names(&path), ["first"]);
    }

    #[test]
    fn fm_65_a_job_that_ignores_a_full_disk_still_fails() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.db");
        let (first, mut first_told) = job(|tables| keep(tables, "first", 1));
        let (careless, mut careless_told) = job(|tables| {
            let _ = keep(tables, &"large ".repeat(100_000), 2);
            Ok(())
        });
        in_one_group(nearly_full(&path), vec![first, careless]);
        for told in [first_told.try_recv().unwrap(), careless_told.try_recv().unwrap()] {
            assert!(matches!(told, Err(StoreError::Full { .. })), "{told:?}");
        }
        assert_eq!(names(&path), [""; 0]);
    }

    /// COMMIT itself fails, for instance because the WAL cannot be synced: after every job
    /// succeeded.
    #[test]
    fn fm_14_a_failed_commit_is_not_acknowledged() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.db");
        let mut connection = migrate::open(&path).unwrap();
        connection
            .execute_batch(
                "CREATE TABLE nobody (id INTEGER PRIMARY KEY);
                 CREATE TABLE fault (id INTEGER REFERENCES nobody (id)
                     DEFERRABLE INITIALLY DEFERRED);
                 CREATE TRIGGER fault AFTER INSERT ON join_tokens
                     BEGIN INSERT INTO fault VALUES (1); END;",
            )
            .unwrap();
        let commits = AtomicU64::new(0);
        let committed = || {
            commits.fetch_add(1, Ordering::SeqCst);
        };
        let (first, mut first_told) = job(|tables| keep(tables, "first", 1));
        let (second, mut second_told) = job(|tables| {
            assert!(tables.take_join_token(&[1; 32], Timestamp::UNIX_EPOCH)?.is_some());
            Err(StoreError::Busy)
        });
        run_group(&mut connection, [first, second].into_iter(), &committed);
        for told in [first_told.try_recv().unwrap(), second_told.try_recv().unwrap()] {
            assert!(
                matches!(told, Err(StoreError::Operation { operation: "commit", .. })),
                "{told:?}"
            );
        }
        assert_eq!(commits.load(Ordering::SeqCst), 1, "what was read before is read again");
        assert_eq!(names(&path), [""; 0]);
        connection.execute_batch("DROP TRIGGER fault").unwrap();
        let (first, mut told) = job(|tables| keep(tables, "first", 1));
        run_group(&mut connection, [first].into_iter(), &committed);
        told.try_recv().unwrap().unwrap();
        drop(connection);
        assert_eq!(names(&path), ["first"]);
    }

    #[test]
    fn fm_65_the_writer_keeps_working_after_a_full_disk() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.db");
        let mut connection = nearly_full(&path);
        let (large, mut large_told) = job(|tables| keep(tables, &"large ".repeat(100_000), 2));
        run_group(&mut connection, [large].into_iter(), &|| {});
        assert!(matches!(large_told.try_recv().unwrap(), Err(StoreError::Full { .. })));
        let (small, mut small_told) = job(|tables| keep(tables, "small", 3));
        run_group(&mut connection, [small].into_iter(), &|| {});
        small_told.try_recv().unwrap().unwrap();
        drop(connection);
        assert_eq!(names(&path), ["small"]);
    }
}
