//! The threads that own the connections.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use rusqlite::{Connection, ErrorCode, TransactionBehavior};
use tokio::sync::{mpsc, oneshot};
use tracing::dispatcher;

use super::{Tx, query};
use crate::store::contract::{StoreError, Tables};

/// Jobs that share one commit at most.
const GROUP: usize = 64;

/// Tells the waiting use case that its work was committed, or why not.
type Answer = Box<dyn FnOnce(Result<(), StoreError>) + Send>;

/// A use case's work; `None`: no transaction could be had, so it is not run.
type Work = dyn FnOnce(Option<&mut dyn Tables>) -> Done + Send;

/// One use case's work on the writer thread.
pub(super) struct Job(Box<Work>);

/// What a job did: whether to keep it, and whom to tell once that is settled.
struct Done {
    keep: bool,
    answer: Answer,
}

/// One use case's work on a reader thread; `Err`: no snapshot could be had.
pub(super) type ReadJob = Box<dyn FnOnce(Result<&dyn Tables, StoreError>) + Send>;

impl Job {
    pub(super) fn new<T, E, F>(work: F, answer: oneshot::Sender<Result<T, E>>) -> Self
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
        F: FnOnce(&mut dyn Tables) -> Result<T, E> + Send + 'static,
    {
        Self(Box::new(move |tables| {
            let result = tables.map(work);
            Done {
                keep: matches!(result, Some(Ok(_))),
                answer: Box::new(move |committed| {
                    let result = match (result, committed) {
                        // The use case's own error stands: it was rolled back as it asked.
                        (Some(Err(error)), _) => Err(error),
                        (_, Err(error)) => Err(error.into()),
                        (Some(Ok(value)), Ok(())) => Ok(value),
                        (None, Ok(())) => Err(StoreError::Closed.into()),
                    };
                    // A client that went away is no reason to undo what was committed.
                    let _ = answer.send(result);
                }),
            }
        }))
    }
}

/// Starts a named thread. It ends when its queue's senders are gone.
pub(super) fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> io::Result<()> {
    // Whoever listens to the log of the thread that opens the database hears its use cases, too.
    let listener = dispatcher::get_default(tracing::Dispatch::clone);
    let run = move || dispatcher::with_default(&listener, run);
    thread::Builder::new().name(name.to_owned()).spawn(run).map(drop)
}

/// Runs jobs in groups, one commit a group.
pub(super) fn write_loop(
    mut connection: Connection,
    mut queue: mpsc::Receiver<Job>,
    commits: &AtomicU64,
) {
    let mut group = Vec::with_capacity(GROUP);
    while queue.blocking_recv_many(&mut group, GROUP) > 0 {
        run_group(&mut connection, group.drain(..), commits);
    }
}

fn run_group(connection: &mut Connection, jobs: impl Iterator<Item = Job>, commits: &AtomicU64) {
    let failed = query::failed("begin a transaction");
    let mut transaction = match connection.transaction_with_behavior(TransactionBehavior::Immediate)
    {
        Ok(transaction) => transaction,
        Err(error) => {
            // Each caller gets an error of its own; `rusqlite::Error` cannot be cloned.
            tracing::error!(%error, "the database takes no transaction");
            let text = error.to_string();
            for Job(job) in jobs {
                (job(None).answer)(Err(StoreError::operation("begin a transaction")(text.clone())));
            }
            return;
        }
    };
    let mut answers = Vec::new();
    for Job(job) in jobs {
        match transaction.savepoint() {
            Ok(savepoint) => {
                let run = || job(Some(&mut Tx { connection: &savepoint }));
                // A panic in a use case undoes that use case alone. Its caller sees `Closed`,
                // because its sender is dropped while unwinding.
                let Ok(done) = catch_unwind(AssertUnwindSafe(run)) else {
                    tracing::error!("a use case panicked in its transaction; it was rolled back");
                    continue;
                };
                // A savepoint that is dropped is rolled back.
                let settled = if done.keep { savepoint.commit() } else { Ok(()) };
                match settled {
                    Ok(()) if done.keep => answers.push(done.answer),
                    Ok(()) => (done.answer)(Ok(())),
                    Err(error) => (done.answer)(Err(failed(error))),
                }
            }
            Err(error) => (job(None).answer)(Err(failed(error))),
        }
    }
    if answers.is_empty() {
        return;
    }
    let committed = transaction.commit();
    // Also after one that failed: whether it reached the disk is not known.
    commits.fetch_add(1, Ordering::SeqCst);
    match committed {
        Ok(()) => answers.into_iter().for_each(|answer| answer(Ok(()))),
        Err(error) => {
            tracing::error!(%error, "the database cannot commit");
            let (full, text) = (error.sqlite_error_code(), error.to_string());
            for answer in answers {
                answer(Err(match full {
                    Some(ErrorCode::DiskFull) => StoreError::Full { operation: "commit" },
                    _ => StoreError::operation("commit")(text.clone()),
                }));
            }
        }
    }
}

/// Runs one job at a time, each on its own snapshot.
pub(super) fn read_loop(mut connection: Connection, queue: &Arc<Mutex<mpsc::Receiver<ReadJob>>>) {
    loop {
        // The lock is held while waiting: the other readers then wait for the lock instead.
        let job = queue.lock().unwrap_or_else(PoisonError::into_inner).blocking_recv();
        let Some(job) = job else { return };
        let run = || match connection.transaction() {
            Ok(transaction) => job(Ok(&Tx { connection: &transaction })),
            Err(error) => job(Err(StoreError::operation("begin a snapshot")(error))),
        };
        if catch_unwind(AssertUnwindSafe(run)).is_err() {
            tracing::error!("a use case panicked while reading");
        }
    }
}
