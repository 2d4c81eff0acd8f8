//! Whether containers are held to the limits that were ordered: read once for each run, because
//! Podman accepts, and shows, limits that nobody enforces.
//!
//! ```text
//! reconcile ── keep(what runs, its limits) ──► one task for all new ones ── Cgroups::limits
//!     ▲                                                 │
//!     └───────────── wake, once all are read ───────────┴──► check(process)
//! ```

use std::collections::HashMap;
use std::sync::Arc;

use buddo_shared::model::limits::Limits;
use tokio::sync::{Notify, OnceCell};
use tokio::task::JoinSet;

use crate::model::cgroup::LimitCheck;
use crate::model::container::Process;
use crate::ports::Cgroups;

/// The checks of what runs.
pub struct LimitWatch {
    source: Option<Arc<dyn Cgroups>>,
    wake: Arc<Notify>,
    runs: HashMap<Process, Arc<OnceCell<LimitCheck>>>,
    reads: JoinSet<()>,
}

impl LimitWatch {
    /// Nothing is read yet; `wake` is notified when something was. Where nobody can read, what was
    /// ordered counts as held.
    pub fn new(source: Option<Arc<dyn Cgroups>>, wake: Arc<Notify>) -> Self {
        Self { source, wake, runs: HashMap::new(), reads: JoinSet::new() }
    }

    /// What is known of this run.
    pub fn check(&self, process: Option<&Process>) -> LimitCheck {
        if self.source.is_none() {
            return LimitCheck::Held;
        }
        let run = process.and_then(|process| self.runs.get(process));
        run.and_then(|check| check.get().copied()).unwrap_or_default()
    }

    /// Reads the limits of those that have not been read, and forgets those that no longer run.
    pub fn keep<'a>(&mut self, running: impl Iterator<Item = (&'a Process, Option<Limits>)>) {
        while self.reads.try_join_next().is_some() {}
        let Some(source) = self.source.clone() else { return };
        let mut before = std::mem::take(&mut self.runs);
        let mut fresh = Vec::new();
        for (process, ordered) in running {
            let check = before.remove(process).unwrap_or_else(|| {
                let check = Arc::new(OnceCell::new());
                fresh.push((process.clone(), ordered, Arc::clone(&check)));
                check
            });
            self.runs.insert(process.clone(), check);
        }
        if fresh.is_empty() {
            return;
        }
        let wake = Arc::clone(&self.wake);
        // One after the other: an agent that starts finds a thousand of them.
        self.reads.spawn(async move {
            for (process, ordered, check) in fresh {
                let found = source.limits(&process).await.check(ordered);
                if let LimitCheck::Broken(breach) = found {
                    let container = &process.container;
                    tracing::warn!(%container, %breach, "a container runs without its limits");
                }
                // Nobody else sets it.
                let _ = check.set(found);
            }
            wake.notify_one();
        });
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::model::cgroup::{Breach, Cgroup, CgroupCounts, CgroupLimits};
    use crate::ports::Look;

    /// Process 7 has no limits, 8 has ended, the others are held.
    #[derive(Default)]
    struct Kernel(AtomicUsize);

    impl Cgroups for Kernel {
        fn limits(&self, process: &Process) -> Look<Cgroup> {
            self.0.fetch_add(1, Ordering::SeqCst);
            let one = Some(1);
            let held = CgroupLimits { memory: one, swap: Some(0), cpu_millicores: one, pids: one };
            let found = match process.pid {
                7 => Cgroup::Shared,
                8 => Cgroup::Gone,
                _ => Cgroup::Own(held),
            };
            Box::pin(async move { found })
        }

        fn counts(&self, _: Vec<Process>) -> Look<Vec<Option<CgroupCounts>>> {
            unreachable!("only limits are read here")
        }
    }

    fn process(pid: u32) -> Process {
        Process { container: "c".to_owned(), pid }
    }

    #[tokio::test]
    async fn each_run_is_read_once() {
        let (kernel, wake) = (Arc::new(Kernel::default()), Arc::new(Notify::new()));
        let mut limits =
            LimitWatch::new(Some(Arc::<Kernel>::clone(&kernel) as Arc<_>), Arc::clone(&wake));
        let ordered = Some(Limits { memory_mb: 1, cpu_millicores: 1, pids: 1 });
        let all = [6, 7, 8].map(process);
        let keep = |limits: &mut LimitWatch, running: &[Process]| {
            limits.keep(running.iter().map(|process| (process, ordered)));
        };
        let check = |limits: &LimitWatch, pid| limits.check(Some(&process(pid)));
        keep(&mut limits, &all);
        assert_eq!(check(&limits, 6), LimitCheck::Unread, "it is read beside the loop");
        wake.notified().await;
        let found = [6, 7, 8, 9].map(|pid| check(&limits, pid));
        let broken = LimitCheck::Broken(Breach::Shared);
        assert_eq!(found, [LimitCheck::Held, broken, LimitCheck::Unread, LimitCheck::Unread]);
        for _ in 0..3 {
            keep(&mut limits, &all);
        }
        tokio::task::yield_now().await;
        assert_eq!(kernel.0.load(Ordering::SeqCst), 3);
        // Its next run is another process.
        keep(&mut limits, &[process(6), process(9)]);
        wake.notified().await;
        assert_eq!((check(&limits, 7), check(&limits, 9)), (LimitCheck::Unread, LimitCheck::Held));
        assert_eq!((kernel.0.load(Ordering::SeqCst), limits.runs.len()), (4, 2));
    }

    #[tokio::test]
    async fn where_nobody_can_read_what_was_ordered_counts_as_held() {
        let mut limits = LimitWatch::new(None, Arc::new(Notify::new()));
        limits.keep([(&process(7), None)].into_iter());
        assert_eq!(limits.check(None), LimitCheck::Held);
    }
}
