//! The probing tasks: one per watched container, and the board that shows what they found.
//!
//! A task writes its outcomes to the board and wakes the reconciler only when a level changed.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddrV4;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use buddo_shared::id::DeploymentId;
use buddo_shared::probe::Probe;
use buddo_shared::report::Checked;
use tokio::sync::Notify;
use tokio::task::AbortHandle;

use crate::clock::Jitter;
use crate::health::{Level, Tracker, Trackers};
use crate::ports::{Clock, Prober};

/// A container to be probed, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Whose container.
    pub deployment: DeploymentId,
    /// Its name.
    pub name: String,
    /// Where it is published.
    pub address: SocketAddrV4,
    /// How it is asked.
    pub probe: Probe,
}

struct Entry {
    target: Target,
    tracker: Tracker,
    /// Tells a task of an earlier container of the same name that it is out of date.
    round: u64,
    task: AbortHandle,
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[derive(Default)]
struct Board {
    entries: BTreeMap<String, Entry>,
    rounds: u64,
}

/// All probing of the host.
pub struct Probes<P, K> {
    prober: Arc<P>,
    clock: Arc<K>,
    jitter: Jitter,
    wake: Arc<Notify>,
    board: Arc<Mutex<Board>>,
}

impl<P, K> Clone for Probes<P, K> {
    fn clone(&self) -> Self {
        Self {
            prober: Arc::clone(&self.prober),
            clock: Arc::clone(&self.clock),
            jitter: Arc::clone(&self.jitter),
            wake: Arc::clone(&self.wake),
            board: Arc::clone(&self.board),
        }
    }
}

fn lock(board: &Mutex<Board>) -> MutexGuard<'_, Board> {
    // Every writer leaves the board whole, so a panic elsewhere does not spoil it.
    board.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<P: Prober, K: Clock> Probes<P, K> {
    /// No probes yet; `wake` is notified when a level changes.
    pub fn new(prober: Arc<P>, clock: Arc<K>, jitter: Jitter, wake: Arc<Notify>) -> Self {
        Self { prober, clock, jitter, wake, board: Arc::default() }
    }

    /// Probes a container from now on, forgetting what was known under its name.
    pub fn begin(&self, target: Target, level: Level) {
        let mut board = lock(&self.board);
        board.rounds += 1;
        let round = board.rounds;
        let task = tokio::spawn(self.clone().run(target.clone(), round)).abort_handle();
        let tracker = Tracker::new(level);
        board.entries.insert(target.name.clone(), Entry { target, tracker, round, task });
    }

    /// Probes exactly these: starts what is missing at its level, stops what is not wanted.
    /// Containers that are just being started (`busy`) are left alone: the list that `wanted`
    /// comes from may be older. All others that are not wanted are forgotten, also beside such
    /// ones: a container that ended and runs again must show anew that it answers.
    pub fn keep(&self, wanted: Vec<(Target, Level)>, busy: &BTreeSet<String>) {
        let names: BTreeSet<&str> = wanted.iter().map(|(target, _)| target.name.as_str()).collect();
        lock(&self.board)
            .entries
            .retain(|name, _| names.contains(name.as_str()) || busy.contains(name));
        for (target, level) in wanted {
            let known = lock(&self.board).entries.get(&target.name).map(|e| e.target == target);
            match known {
                Some(true) => {}
                // The same container is asked in another way from now on.
                Some(false) if busy.contains(&target.name) => {}
                Some(false) | None => self.begin(target, level),
            }
        }
    }

    /// What is known of every probed container.
    pub fn snapshot(&self) -> Trackers {
        let board = lock(&self.board);
        board.entries.iter().map(|(name, entry)| (name.clone(), entry.tracker.clone())).collect()
    }

    /// The names of those that do not answer, as far as is known: they may have ended.
    pub fn unanswered(&self) -> Vec<String> {
        let board = lock(&self.board);
        let silent = |level| matches!(level, Level::Starting | Level::Unhealthy);
        let silent = board.entries.iter().filter(|(_, entry)| silent(entry.tracker.level()));
        silent.map(|(name, _)| name.clone()).collect()
    }

    /// When healthy containers were last asked.
    pub fn checked(&self) -> Vec<Checked> {
        let board = lock(&self.board);
        let healthy = board.entries.values().filter(|e| e.tracker.level() == Level::Healthy);
        healthy
            .filter_map(|entry| {
                Some(Checked { id: entry.target.deployment, at: entry.tracker.checked_at? })
            })
            .collect()
    }

    async fn run(self, target: Target, round: u64) {
        loop {
            let outcome = self.prober.probe(target.address, &target.probe).await;
            let delay = {
                let mut board = lock(&self.board);
                let Some(entry) = board.entries.get_mut(&target.name) else { return };
                if entry.round != round {
                    return;
                }
                if entry.tracker.record(&target.probe, outcome, self.clock.now()) {
                    self.wake.notify_one();
                }
                entry.tracker.next_delay(&target.probe, (self.jitter)())
            };
            tokio::time::sleep(delay).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::clock::SystemClock;
    use crate::ports::ProbeOutcome;

    struct Answers;

    impl Prober for Answers {
        async fn probe(&self, _: SocketAddrV4, _: &Probe) -> ProbeOutcome {
            ProbeOutcome::Healthy
        }
    }

    fn target(name: &str) -> Target {
        Target {
            deployment: DeploymentId::new(Uuid::from_u128(1)),
            name: name.to_owned(),
            address: "127.64.0.1:8000".parse().unwrap(),
            probe: Probe::default(),
        }
    }

    /// What served dies while a new one of the same app is started beside it: when it runs
    /// again, its good probes of before must not send it visitors.
    #[tokio::test]
    async fn only_what_is_just_being_started_is_kept_unasked() {
        let wake = Arc::new(Notify::new());
        let jitter: Jitter = Arc::new(|| 0.5);
        let probes = Probes::new(Arc::new(Answers), Arc::new(SystemClock), jitter, wake);
        probes.begin(target("old"), Level::Assumed);
        probes.begin(target("new"), Level::Starting);
        probes.keep(Vec::new(), &["new".to_owned()].into());
        assert_eq!(probes.snapshot().into_keys().collect::<Vec<_>>(), ["new"]);
        probes.keep(vec![(target("old"), Level::Starting)], &["new".to_owned()].into());
        assert_eq!(probes.snapshot()["old"].level(), Level::Starting);
    }
}
