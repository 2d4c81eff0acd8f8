//! Persists what must survive the agent. One write after another, in the order of the passes that
//! decided them: an older state never replaces a newer one.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use buddo_runtime::backoff::Failures;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use crate::adapters::store::{Changes, Store};
use crate::model::persisted::Persisted;
use crate::model::retries::{self, Jitter};
use crate::model::workload::WorkloadId;
use crate::plan::state::WorkloadState;

/// How long to wait for a decision of auto rollback to be on disk.
const PATIENCE: Duration = Duration::from_secs(2);

/// The end of one write, whether it succeeded or not.
type WriteEnd = CancellationToken;

pub(super) struct Persistence {
    store: Store,
    /// What is on disk, or on its way there.
    saved: BTreeMap<WorkloadId, Persisted>,
    /// The last write failed.
    unsaved: watch::Sender<bool>,
    last_write: WriteEnd,
    failures: Arc<Failures>,
    wake: Arc<Notify>,
    jitter: Jitter,
}

impl Persistence {
    /// `saved` is in the database; `wake` is notified when a failed write should be repeated.
    pub(super) fn new(
        store: Store,
        saved: BTreeMap<WorkloadId, Persisted>,
        wake: Arc<Notify>,
        jitter: Jitter,
    ) -> Self {
        // The first write has nothing to wait for.
        let last_write = WriteEnd::new();
        last_write.cancel();
        let (unsaved, failures) = (watch::Sender::new(false), Arc::default());
        Self { store, saved, unsaved, last_write, failures, wake, jitter }
    }

    /// Whether the workload served before this pass.
    pub(super) fn served(&self, id: WorkloadId) -> bool {
        self.saved.get(&id).is_some_and(|persisted| persisted.live.is_some())
    }

    pub(super) fn warning(&self) -> Option<String> {
        let text = "the agent's database cannot be written; is the disk full?";
        self.unsaved.borrow().then(|| text.to_owned())
    }

    /// Writes what changed, without waiting.
    pub(super) fn save(&mut self, states: &BTreeMap<WorkloadId, WorkloadState>) {
        let failed = self.unsaved.send_replace(false);
        if failed {
            // It is not known which part is on disk: all of it is written again.
            self.saved.clear();
        }
        let changed = |(id, state): &(&WorkloadId, &WorkloadState)| {
            self.saved.get(id) != Some(&state.persisted)
        };
        let mut changes: Changes = states
            .iter()
            .filter(changed)
            .map(|(id, state)| (*id, Some(state.persisted.clone())))
            .collect();
        let gone = self.saved.keys().filter(|id| !states.contains_key(id));
        changes.extend(gone.map(|id| (*id, None)));
        if changes.is_empty() {
            return;
        }
        for (id, persisted) in &changes {
            match persisted {
                Some(persisted) => drop(self.saved.insert(*id, persisted.clone())),
                None => drop(self.saved.remove(id)),
            }
        }
        self.begin_write(changes);
    }

    fn begin_write(&mut self, changes: Changes) {
        let (store, unsaved, wake) =
            (self.store.clone(), self.unsaved.clone(), Arc::clone(&self.wake));
        let (failures, jitter) = (Arc::clone(&self.failures), (self.jitter)());
        let end = WriteEnd::new();
        let before = std::mem::replace(&mut self.last_write, end.clone());
        tokio::spawn(async move {
            // Even if the write panics: the next one must not wait for ever.
            let ended = end.drop_guard();
            before.cancelled().await;
            let result = store.save(changes).await;
            drop(ended);
            match result {
                Ok(()) => failures.end(),
                Err(error) => {
                    not_saved(&error);
                    unsaved.send_replace(true);
                    // Not at once: a disk that is full now is still full in a moment.
                    tokio::time::sleep_until(failures.next(retries::HOST, jitter)).await;
                    wake.notify_one();
                }
            }
        });
    }

    /// Writes what changed and waits for the disk, but not for ever: a disk that is full or hangs
    /// must not keep a bad revision in place.
    pub(super) async fn persist(&mut self, states: &BTreeMap<WorkloadId, WorkloadState>) {
        self.save(states);
        let written = self.last_write.clone();
        if tokio::time::timeout(PATIENCE, written.cancelled()).await.is_err() {
            tracing::warn!("an auto rollback is not on disk yet; acting on it anyway");
        }
    }
}

fn not_saved(error: &(dyn std::error::Error + 'static)) {
    tracing::error!(error, "state that must survive a restart could not be written; retrying");
}

#[cfg(test)]
mod tests {
    use buddo_shared::model::id::DeploymentId;
    use uuid::Uuid;

    use super::*;
    use crate::model::address::Index;

    #[tokio::test]
    async fn what_changed_is_written_and_what_is_gone_is_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("agent.db"), 0).unwrap();
        let jitter: Jitter = Arc::new(|| 0.5);
        let mut persistence =
            Persistence::new(store.clone(), BTreeMap::new(), Arc::default(), jitter);
        let id = |n| WorkloadId::app(DeploymentId::new(Uuid::from_u128(n)));
        let state = |index| {
            let index = Index::new(index);
            WorkloadState::restore(Persisted { index, ..Persisted::default() })
        };
        let mut states: BTreeMap<_, _> = [(id(1), state(1)), (id(2), state(2))].into();
        persistence.persist(&states).await;
        assert_eq!(store.workloads().await.unwrap().len(), 2);
        states.remove(&id(1));
        states.insert(id(2), state(3));
        persistence.persist(&states).await;
        let saved = store.workloads().await.unwrap();
        assert_eq!(saved, [(id(2), state(3).persisted)].into());
    }
}
