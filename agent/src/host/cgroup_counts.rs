//! What the kernel counts in all containers that run: kills for memory, refused processes, throttled
//! CPU. Read once a minute, all in one go, because nobody waits for it.
//!
//! ```text
//! reconcile ── want(what runs) ──► read task ── each minute ──► Cgroups::counts
//!     ▲                              │   └──► metrics: what was counted since the last reading
//!     └── wake, if any was killed ───┴──► seen(workload), in its present runs
//! ```
//!
//! A cgroup goes with its run: what was counted in its last minute is lost.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, watch};

use crate::model::cgroup::CgroupCounts;
use crate::model::container::Process;
use crate::model::workload::WorkloadId;
use crate::ports::Cgroups;
use crate::process::metrics::Metrics;

const LOOK: Duration = Duration::from_mins(1);

/// What runs, and whose it is.
pub type Running = Vec<(WorkloadId, Process)>;
type ByWorkload = BTreeMap<WorkloadId, CgroupCounts>;

/// The kernel's counts. Clones share all state.
#[derive(Clone)]
pub struct CountsWatch {
    source: Option<Arc<dyn Cgroups>>,
    wanted: watch::Sender<Running>,
    seen: watch::Sender<ByWorkload>,
    wake: Arc<Notify>,
    metrics: Metrics,
}

impl CountsWatch {
    /// Nothing is read yet; `wake` is notified when the kernel killed or refused something.
    pub fn new(source: Option<Arc<dyn Cgroups>>, wake: Arc<Notify>, metrics: Metrics) -> Self {
        let (wanted, seen) = (watch::Sender::default(), watch::Sender::default());
        Self { source, wanted, seen, wake, metrics }
    }

    /// What is read from now on.
    pub fn want(&self, running: impl Iterator<Item = (WorkloadId, Process)>) {
        if self.source.is_some() {
            self.wanted.send_replace(running.collect());
        }
    }

    /// The last reading for this workload.
    pub fn seen(&self, id: WorkloadId) -> Option<CgroupCounts> {
        self.seen.borrow().get(&id).copied()
    }

    /// Reads until it is dropped.
    pub async fn run(&self) {
        let Some(source) = &self.source else { return };
        let mut wanted = self.wanted.subscribe();
        while wanted.borrow_and_update().is_empty() {
            // The sender lives in `self`.
            let _ = wanted.changed().await;
        }
        // What was counted before this agent came is no news.
        let mut before = self.read(&**source).await.0;
        loop {
            tokio::time::sleep(LOOK).await;
            let (counts, by_workload) = self.read(&**source).await;
            let news: CgroupCounts = counts
                .iter()
                .map(|(process, now)| now.since(before.get(process).copied().unwrap_or_default()))
                .sum();
            before = counts;
            self.metrics.limited(news.oom_kills, news.pids_refused);
            self.metrics.throttled(news.throttled_periods, news.throttled_us);
            self.seen.send_replace(by_workload);
            if news.oom_kills > 0 || news.pids_refused > 0 {
                let (oom_kills, pids_refused) = (news.oom_kills, news.pids_refused);
                tracing::info!(oom_kills, pids_refused, "apps have reached their limits");
                self.wake.notify_one();
            }
        }
    }

    async fn read(&self, source: &dyn Cgroups) -> (HashMap<Process, CgroupCounts>, ByWorkload) {
        let wanted = self.wanted.borrow().clone();
        let processes = wanted.iter().map(|(_, process)| process.clone()).collect();
        let found = source.counts(processes).await;
        let (mut counts, mut by_workload) = (HashMap::new(), ByWorkload::new());
        for ((id, process), found) in wanted.into_iter().zip(found) {
            let Some(found) = found else { continue };
            let sum = by_workload.entry(id).or_default();
            *sum = [*sum, found].into_iter().sum();
            counts.insert(process, found);
        }
        (counts, by_workload)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use buddo_shared::model::id::DeploymentId;
    use uuid::Uuid;

    use super::*;
    use crate::model::cgroup::Cgroup;
    use crate::ports::Look;

    /// Kills for memory, by process.
    #[derive(Default)]
    struct Kernel(Mutex<BTreeMap<u32, u64>>);

    impl Kernel {
        fn set(&self, pid: u32, oom_kills: u64) {
            self.0.lock().unwrap().insert(pid, oom_kills);
        }
    }

    impl Cgroups for Kernel {
        fn limits(&self, _: &Process) -> Look<Cgroup> {
            unreachable!("only counts are read here")
        }

        fn counts(&self, processes: Vec<Process>) -> Look<Vec<Option<CgroupCounts>>> {
            let kills = self.0.lock().unwrap().clone();
            let count = move |process: &Process| {
                let oom_kills = *kills.get(&process.pid)?;
                Some(CgroupCounts { oom_kills, ..CgroupCounts::default() })
            };
            Box::pin(async move { processes.iter().map(count).collect() })
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_rises_is_counted_once_across_runs_and_from_the_agents_start() {
        let (kernel, wake) = (Arc::new(Kernel::default()), Arc::new(Notify::new()));
        let metrics = Metrics::default();
        let source = Arc::<Kernel>::clone(&kernel);
        let counts = CountsWatch::new(Some(source), Arc::clone(&wake), metrics.clone());
        let id = WorkloadId::app(DeploymentId::new(Uuid::from_u128(1)));
        let process = |pid| Process { container: "c".to_owned(), pid };
        let total = || metrics.oom_kills();
        let seen = || counts.seen(id).map(|counts| counts.oom_kills);
        kernel.set(7, 5);
        let runs = counts.clone();
        let task = tokio::spawn(async move { runs.run().await });
        tokio::time::sleep(LOOK * 3).await;
        counts.want([(id, process(7))].into_iter());
        tokio::time::sleep(LOOK + LOOK / 2).await;
        assert_eq!((total(), seen()), (0, Some(5)), "it was so before the agent came");
        kernel.set(7, 6);
        wake.notified().await;
        assert_eq!((total(), seen()), (1, Some(6)));
        // Started again, and killed soon.
        kernel.set(8, 2);
        counts.want([(id, process(8)), (id, process(9))].into_iter());
        wake.notified().await;
        assert_eq!((total(), seen()), (3, Some(2)));
        let silent = tokio::time::timeout(LOOK * 10, wake.notified()).await;
        assert!(silent.is_err(), "nothing happens, so nobody is woken");
        counts.want(std::iter::empty());
        tokio::time::sleep(LOOK * 2).await;
        assert_eq!((total(), seen()), (3, None));
        task.abort();
    }
}
