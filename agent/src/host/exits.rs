//! The exit of a container's process, from the kernel, as a hint.
//!
//! ```text
//! reconcile ── keep(what runs) ──► one task a process ── pidfd readable ──► ended, wake
//!     ▲                                                                      │
//!     └── look again in 10, 20, 40 … ms: Podman still lists it as running ◄──┘
//! ```
//!
//! Podman reports an exit only once its clean-up process has started, and its event reader polls
//! the file four times a second (`Poll: true`, libpod/events/logfile.go): visitors would be sent to
//! a dead container for up to 400 ms. What is done about an exit is decided by the list alone.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use crate::model::container::Process;
use crate::ports::ProcessExits;

/// Delay before Podman is first asked whether it knows of an exit; doubles each time.
const FIRST_LOOK: Duration = Duration::from_millis(10);
/// How often; after that events and the regular list must reveal it.
const LOOKS: u32 = 7;

/// The watched processes.
pub struct ExitWatch {
    source: Option<Arc<dyn ProcessExits>>,
    wake: Arc<Notify>,
    watches: HashMap<Process, Watch>,
    most: usize,
    unwatched: usize,
}

struct Watch {
    ended: Arc<AtomicBool>,
    looks: u32,
    _task: AbortOnDropHandle<()>,
}

impl ExitWatch {
    /// Nothing is watched yet; `wake` is notified when a process exited.
    pub fn new(wake: Arc<Notify>) -> Self {
        Self { source: None, wake, watches: HashMap::new(), most: usize::MAX, unwatched: 0 }
    }

    /// The same, with exits from `source`.
    #[must_use]
    pub fn of(self, source: Arc<dyn ProcessExits>) -> Self {
        Self { source: Some(source), ..self }
    }

    /// The same, with a limit on watched processes: each takes a file descriptor.
    #[must_use]
    pub fn at_most(self, most: usize) -> Self {
        Self { most, ..self }
    }

    /// How many running processes could not be watched as well.
    pub fn unwatched(&self) -> usize {
        self.unwatched
    }

    /// The processes that have exited, and that Podman listed as running when it was last asked.
    pub fn ended(&self) -> impl Iterator<Item = &Process> {
        let doubtful = |watch: &Watch| watch.ended.load(Ordering::Acquire) && watch.looks <= LOOKS;
        self.watches.iter().filter(move |(_, watch)| doubtful(watch)).map(|(process, _)| process)
    }

    /// Watches exactly these, which Podman lists as running. Returns when to list again, because
    /// one of them has exited all the same.
    pub fn keep<'a>(&mut self, running: impl Iterator<Item = &'a Process>) -> Option<Instant> {
        let source = self.source.as_ref()?;
        let mut before = std::mem::take(&mut self.watches);
        let mut look = None;
        self.unwatched = 0;
        for process in running {
            let known = before.remove(process);
            if known.is_none() && self.watches.len() + before.len() >= self.most {
                self.unwatched += 1;
                continue;
            }
            let Some(mut watch) = known.or_else(|| begin(&**source, process, &self.wake)) else {
                continue;
            };
            if watch.ended.load(Ordering::Acquire) && watch.looks <= LOOKS {
                let due = Instant::now() + FIRST_LOOK * (1 << watch.looks);
                watch.looks += 1;
                if watch.looks <= LOOKS {
                    look = Some(look.map_or(due, |look: Instant| look.min(due)));
                }
            }
            self.watches.insert(process.clone(), watch);
        }
        look
    }
}

/// `None`: the kernel does not report it; events will.
fn begin(source: &dyn ProcessExits, process: &Process, wake: &Arc<Notify>) -> Option<Watch> {
    let exit = source.exit(process)?;
    let (ended, wake) = (Arc::new(AtomicBool::new(false)), Arc::clone(wake));
    let tell = Arc::clone(&ended);
    let task = tokio::spawn(async move {
        exit.await;
        tell.store(true, Ordering::Release);
        wake.notify_one();
    });
    Some(Watch { ended, looks: 0, _task: AbortOnDropHandle::new(task) })
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;

    use super::*;

    /// Every process exits when told to.
    struct Told(Arc<Notify>);

    impl ProcessExits for Told {
        fn exit(&self, _: &Process) -> Option<Pin<Box<dyn Future<Output = ()> + Send>>> {
            let told = Arc::clone(&self.0);
            Some(Box::pin(async move { told.notified().await }))
        }
    }

    #[tokio::test]
    async fn fm_57_containers_that_cannot_be_watched_are_counted() {
        let told = Arc::new(Told(Arc::new(Notify::new())));
        let mut exits = ExitWatch::new(Arc::new(Notify::new())).of(told).at_most(2);
        let process = |pid: u32| Process { container: pid.to_string(), pid };
        let all = [1, 2, 3].map(process);
        exits.keep(all.iter());
        assert_eq!((exits.watches.len(), exits.unwatched()), (2, 1));
        exits.keep(all.iter());
        assert_eq!((exits.watches.len(), exits.unwatched()), (2, 1), "those it has stay");
        // An ended one makes room for another, once it was released.
        for _ in 0..2 {
            exits.keep(all[1..].iter());
        }
        assert_eq!((exits.watches.len(), exits.unwatched()), (2, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn an_ended_process_still_listed_as_running_is_rechecked_with_back_off() {
        let (end, wake) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let mut exits = ExitWatch::new(Arc::clone(&wake)).of(Arc::new(Told(Arc::clone(&end))));
        let process = Process { container: "a".to_owned(), pid: 7 };
        assert_eq!(exits.keep([&process].into_iter()), None);
        end.notify_one();
        wake.notified().await;
        let now = Instant::now();
        assert_eq!(exits.ended().collect::<Vec<_>>(), [&process]);
        let looks: Vec<_> = std::iter::from_fn(|| exits.keep([&process].into_iter())).collect();
        assert_eq!(exits.ended().count(), 0, "events and the regular list have to tell");
        let waits: Vec<_> = looks.iter().map(|look| look.duration_since(now).as_millis()).collect();
        assert_eq!(waits, [10, 20, 40, 80, 160, 320, 640]);
        // Its successor is another process.
        let next = Process { pid: 8, ..process.clone() };
        assert_eq!(exits.keep([&next].into_iter()), None);
        assert!(!exits.watches.contains_key(&process));
    }
}
