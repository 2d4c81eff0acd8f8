//! Transient state that is not stored: progress, the last probes, and watchers.
//!
//! ```text
//! push (reports, progress) ─► Live ─► changed(id) ─► each event stream reads the status again
//! service (stop, restart …) ──┘
//! ```

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use buddo_shared::host_wire::report::{Checked, Phase, Progress};
use buddo_shared::model::id::{AccountId, DeploymentId};
use buddo_shared::model::workload::ServiceName;
use jiff::Timestamp;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, broadcast};

/// Changes that a slow watcher may lag behind; beyond that it reads its deployment again.
const BACKLOG: usize = 256;

/// Maximum watchers of one account, so that none takes the permits of all.
const PER_ACCOUNT: usize = 32;

/// In-memory state about deployments. Losing it is harmless.
#[derive(Debug)]
pub struct LiveStatus {
    changed: broadcast::Sender<DeploymentId>,
    progress: Mutex<HashMap<DeploymentId, Rollout>>,
    checked: Mutex<HashMap<DeploymentId, Timestamp>>,
    streams: Arc<Semaphore>,
    most: usize,
    watching: Watching,
}

/// The last progress of each service of a deployment: no more than it has, by its sender's check.
type Rollout = BTreeMap<ServiceName, Progress>;

/// Number of watchers per account; those without have no entry.
type Watching = Arc<Mutex<HashMap<AccountId, usize>>>;

/// One of the permits that an account has for its own watchers.
#[derive(Debug)]
struct OwnPermit {
    watching: Watching,
    account: AccountId,
}

impl OwnPermit {
    fn take(watching: &Watching, account: AccountId) -> Option<Self> {
        let mut counts = lock(watching);
        let count = counts.get(&account).copied().unwrap_or(0);
        if count >= PER_ACCOUNT {
            return None;
        }
        counts.insert(account, count + 1);
        Some(Self { watching: Arc::clone(watching), account })
    }
}

impl Drop for OwnPermit {
    fn drop(&mut self) {
        let mut counts = lock(&self.watching);
        match counts.get_mut(&self.account) {
            Some(count) if *count > 1 => *count -= 1,
            _ => {
                counts.remove(&self.account);
            }
        }
    }
}

/// One watcher of changes; it holds a stream permit until it is dropped.
#[derive(Debug)]
pub struct Watch {
    changes: broadcast::Receiver<DeploymentId>,
    id: DeploymentId,
    _permit: OwnedSemaphorePermit,
    _own: OwnPermit,
}

impl LiveStatus {
    pub fn streams(&self) -> usize {
        self.most.saturating_sub(self.streams.available_permits())
    }

    /// At most `streams` watchers at once.
    pub fn new(streams: usize) -> Self {
        Self {
            changed: broadcast::Sender::new(BACKLOG),
            progress: Mutex::default(),
            checked: Mutex::default(),
            streams: Arc::new(Semaphore::new(streams)),
            most: streams,
            watching: Watching::default(),
        }
    }

    /// A hint: `id` may have changed; its watchers read it again.
    pub fn changed(&self, id: DeploymentId) {
        // No receiver is not an error: nobody watches.
        let _ = self.changed.send(id);
    }

    /// Records the progress of a service in a deploy. Only of services that the deployment has.
    pub fn progressed(&self, progress: Progress) {
        let id = progress.id;
        {
            let mut rollouts = lock(&self.progress);
            let rollout = rollouts.entry(id).or_default();
            // What was said of another revision is past.
            rollout.retain(|_, other| other.revision == progress.revision);
            rollout.insert(progress.service, progress);
        }
        self.changed(id);
    }

    /// How far a deploy is: as far as the service that is furthest behind.
    pub fn progress(&self, id: DeploymentId) -> Option<Progress> {
        let rollouts = lock(&self.progress);
        rollouts.get(&id)?.values().min_by_key(|progress| order(progress.phase)).cloned()
    }

    /// Clears the progress of a deploy that ended.
    pub fn settled(&self, id: DeploymentId) {
        lock(&self.progress).remove(&id);
        self.changed(id);
    }

    /// Records probes that changed nothing.
    pub fn checked(&self, probes: &[Checked]) {
        lock(&self.checked).extend(probes.iter().map(|probe| (probe.id, probe.at)));
    }

    /// When a deployment was last probed, as far as this process knows.
    pub fn last_checked(&self, id: DeploymentId) -> Option<Timestamp> {
        lock(&self.checked).get(&id).copied()
    }

    /// Removes all state of a destroyed deployment.
    pub fn forget(&self, id: DeploymentId) {
        lock(&self.checked).remove(&id);
        self.settled(id);
    }

    /// Watches one deployment; `None` if the limit is reached, in all or for this account.
    pub fn watch(&self, account: AccountId, id: DeploymentId) -> Option<Watch> {
        let own = OwnPermit::take(&self.watching, account)?;
        let permit = Arc::clone(&self.streams).try_acquire_owned().ok()?;
        Some(Watch { changes: self.changed.subscribe(), id, _permit: permit, _own: own })
    }
}

impl Watch {
    /// Waits until the deployment may have changed. `false`: no more changes will come.
    pub async fn changed(&mut self) -> bool {
        loop {
            match self.changes.recv().await {
                Ok(id) if id == self.id => return true,
                Ok(_) => {}
                Err(broadcast::error::RecvError::Lagged(_)) => return true,
                Err(broadcast::error::RecvError::Closed) => return false,
            }
        }
    }
}

/// The order in which a deploy passes its phases.
const fn order(phase: Phase) -> u8 {
    match phase {
        Phase::Accepted => 0,
        Phase::Pulling => 1,
        Phase::Starting => 2,
        Phase::Probing => 3,
        Phase::Routing => 4,
        Phase::Live => 5,
        Phase::Stopping => 6,
        Phase::Stopped => 7,
        Phase::Failed => 8,
    }
}

/// A panic while the lock was held leaves a consistent map: each change is one call.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use buddo_shared::model::id::Revision;
    use uuid::Uuid;

    use super::*;
    use crate::testing::account;

    fn id(n: u128) -> DeploymentId {
        DeploymentId::new(Uuid::from_u128(n))
    }

    #[tokio::test]
    async fn a_watcher_wakes_on_its_own_change_and_on_lag() {
        let live = LiveStatus::new(1);
        let mut watch = live.watch(account(1), id(1)).unwrap();
        live.changed(id(2));
        live.changed(id(1));
        assert!(watch.changed().await);
        for _ in 0..=BACKLOG {
            live.changed(id(2));
        }
        assert!(watch.changed().await, "lagging wakes, since its own change may be among the lost");
    }

    #[test]
    fn a_deploy_is_as_far_as_the_service_that_is_furthest_behind() {
        let live = LiveStatus::new(1);
        let said = |service: &str, revision, phase| {
            live.progressed(Progress {
                id: id(1),
                service: service.parse().unwrap(),
                revision: Revision::new(revision),
                phase,
                percent: None,
            });
            live.progress(id(1)).map(|shown| (shown.service.to_string(), shown.phase))
        };
        let shown = |service: &str, phase| Some((service.to_owned(), phase));
        assert_eq!(said("app", 1, Phase::Pulling), shown("app", Phase::Pulling));
        assert_eq!(said("db", 1, Phase::Starting), shown("app", Phase::Pulling));
        assert_eq!(said("app", 1, Phase::Probing), shown("db", Phase::Starting));
        assert_eq!(said("app", 2, Phase::Probing), shown("app", Phase::Probing), "db of 1 is past");
        live.settled(id(1));
        assert_eq!(live.progress(id(1)), None);
    }

    #[test]
    fn watchers_are_bounded() {
        let live = LiveStatus::new(1);
        let first = live.watch(account(1), id(1));
        assert!(first.is_some());
        assert!(live.watch(account(1), id(1)).is_none());
        drop(first);
        assert!(live.watch(account(1), id(1)).is_some());
    }

    #[test]
    fn watchers_are_bounded_per_account() {
        let live = LiveStatus::new(PER_ACCOUNT + 1);
        let taken: Vec<_> = (0..PER_ACCOUNT).map(|_| live.watch(account(1), id(1))).collect();
        assert!(taken.iter().all(Option::is_some));
        assert!(live.watch(account(1), id(1)).is_none());
        assert!(live.watch(account(2), id(2)).is_some());
        drop(taken);
        assert!(live.watch(account(1), id(1)).is_some());
        assert!(lock(&live.watching).is_empty(), "who does not watch is not remembered");
    }
}
