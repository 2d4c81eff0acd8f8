//! OOM kills in containers that auto rollback watches.
//!
//! ```text
//! reconcile ── want(what serves under watch)   ──► read task ── each 2 s ──► MemoryEvents::kills
//!     ▲                                               │
//!     └────────────── wake, when it changed ──────────┴──► seen(workload)
//! ```

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, watch};

use crate::model::container::Process;
use crate::model::oom_kills::OomKills;
use crate::model::workload::WorkloadId;
use crate::ports::MemoryEvents;

const LOOK: Duration = Duration::from_secs(2);

pub type Watched = BTreeMap<WorkloadId, Process>;

/// The kernel's counts. Clones share all state.
#[derive(Clone)]
pub struct OomWatch {
    events: Option<Arc<dyn MemoryEvents>>,
    wanted: watch::Sender<Watched>,
    seen: watch::Sender<BTreeMap<WorkloadId, OomKills>>,
    wake: Arc<Notify>,
}

impl OomWatch {
    /// Nothing is read yet; `wake` is notified when a count changed.
    pub fn new(wake: Arc<Notify>) -> Self {
        let (wanted, seen) = (watch::Sender::default(), watch::Sender::default());
        Self { events: None, wanted, seen, wake }
    }

    /// The same, reading from `events`.
    #[must_use]
    pub fn of(self, events: Arc<dyn MemoryEvents>) -> Self {
        Self { events: Some(events), ..self }
    }

    /// What is to be read from now on.
    pub fn want(&self, watched: Watched) {
        self.wanted.send_if_modified(|old| {
            let news = *old != watched;
            *old = watched;
            news
        });
    }

    /// The last reading for this workload; `None` while auto rollback does not watch it.
    pub fn seen(&self, id: WorkloadId) -> Option<OomKills> {
        self.seen.borrow().get(&id).cloned()
    }

    /// Reads until it is dropped.
    pub async fn run(&self) {
        let Some(events) = &self.events else { return };
        let mut wanted = self.wanted.subscribe();
        loop {
            let watched = wanted.borrow_and_update().clone();
            if watched.is_empty() {
                self.seen.send_replace(BTreeMap::new());
                // The sender lives in `self`.
                let _ = wanted.changed().await;
                continue;
            }
            self.look(Arc::clone(events), watched).await;
            tokio::select! {
                () = tokio::time::sleep(LOOK) => {}
                _ = wanted.changed() => {}
            }
        }
    }

    /// Off the async threads, and one at a time: a kernel that does not answer is not asked again.
    async fn look(&self, events: Arc<dyn MemoryEvents>, watched: Watched) {
        let read = move || -> BTreeMap<_, _> {
            let count = |process: Process| {
                let count = events.kills(&process)?;
                Some(OomKills { process, count })
            };
            watched.into_iter().filter_map(|(id, process)| Some((id, count(process)?))).collect()
        };
        let Ok(fresh) = tokio::task::spawn_blocking(read).await else { return };
        let news = self.seen.send_if_modified(|seen| {
            let news = *seen != fresh;
            *seen = fresh;
            news
        });
        if news {
            self.wake.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use buddo_shared::model::id::DeploymentId;
    use uuid::Uuid;

    use super::*;

    #[derive(Default)]
    struct Kernel {
        looks: AtomicU64,
        count: AtomicU64,
    }

    impl MemoryEvents for Kernel {
        fn kills(&self, process: &Process) -> Option<u64> {
            self.looks.fetch_add(1, Ordering::SeqCst);
            (process.pid == 7).then(|| self.count.load(Ordering::SeqCst))
        }
    }

    #[tokio::test(start_paused = true)]
    async fn oom_kills_are_polled_only_during_a_watch_and_only_changes_are_reported() {
        let (kernel, wake) = (Arc::new(Kernel::default()), Arc::new(Notify::new()));
        let kills = OomWatch::new(Arc::clone(&wake)).of(Arc::<Kernel>::clone(&kernel));
        let runs = kills.clone();
        let task = tokio::spawn(async move { runs.run().await });
        let looks = || kernel.looks.load(Ordering::SeqCst);
        tokio::time::sleep(Duration::from_hours(1)).await;
        assert_eq!(looks(), 0, "nothing is watched, so nobody looks");

        let id = WorkloadId::app(DeploymentId::new(Uuid::from_u128(1)));
        let process = |pid| Process { container: "c".to_owned(), pid };
        let seen = || kills.seen(id).map(|kills| (kills.process.pid, kills.count));
        kills.want([(id, process(7))].into());
        wake.notified().await;
        assert_eq!(seen(), Some((7, 0)));
        kernel.count.store(3, Ordering::SeqCst);
        wake.notified().await;
        assert_eq!((seen(), looks()), (Some((7, 3)), 2));
        let silent = tokio::time::timeout(Duration::from_mins(1), wake.notified()).await;
        assert!(silent.is_err() && looks() > 20, "{silent:?} {}", looks());
        // It was restarted, and is gone before it could be read.
        kills.want([(id, process(8))].into());
        wake.notified().await;
        assert_eq!(seen(), None);

        kills.want(Watched::new());
        tokio::time::sleep(Duration::from_secs(1)).await;
        let before = looks();
        tokio::time::sleep(Duration::from_hours(1)).await;
        assert_eq!((looks(), seen()), (before, None));
        task.abort();
    }
}
