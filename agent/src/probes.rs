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
use crate::health::{Level, Tracker};
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
    /// Containers of `busy` deployments are left alone: the list that `wanted` comes from may be
    /// older than what is being done to them.
    pub fn keep(&self, wanted: Vec<(Target, Level)>, busy: &BTreeSet<DeploymentId>) {
        let names: BTreeSet<&str> = wanted.iter().map(|(target, _)| target.name.as_str()).collect();
        lock(&self.board).entries.retain(|name, entry| {
            names.contains(name.as_str()) || busy.contains(&entry.target.deployment)
        });
        for (target, level) in wanted {
            let known = lock(&self.board).entries.get(&target.name).map(|e| e.target == target);
            match known {
                Some(true) => {}
                // The same container is asked in another way from now on.
                Some(false) if busy.contains(&target.deployment) => {}
                Some(false) | None => self.begin(target, level),
            }
        }
    }

    /// What is known of every probed container.
    pub fn snapshot(&self) -> BTreeMap<String, Tracker> {
        let board = lock(&self.board);
        board.entries.iter().map(|(name, entry)| (name.clone(), entry.tracker.clone())).collect()
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
