//! Persists what must survive the agent. One write after another, in the order of the passes that
//! decided them: an older state never replaces a newer one.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use buddo_runtime::clock::Clock;
use buddo_shared::id::DeploymentId;
use tokio_util::sync::CancellationToken;

use super::Reconciler;
use crate::adapters::store::Changes;
use crate::model::retries;
use crate::plan::state::{DeploymentState, Persisted};
use crate::ports::{Containers, LiveTablePublisher, Prober, Proxy};

/// How long to wait for a guard's decision to be on disk.
const PERSISTED: Duration = Duration::from_secs(2);

/// The end of one write, whether it succeeded or not.
pub(super) type WriteEnd = CancellationToken;

impl<C, P, X, L, K> Reconciler<C, P, X, L, K>
where
    C: Containers,
    P: Prober,
    X: Proxy,
    L: LiveTablePublisher,
    K: Clock,
{
    /// Writes what changed, without waiting.
    pub(super) fn save(&mut self) {
        let failed = self.unsaved.send_replace(false);
        if failed {
            // It is not known which part is on disk: all of it is written again.
            self.saved.clear();
        }
        let durable = |memory: &DeploymentState| memory.persisted.clone();
        let mut changes: Changes = self
            .memories
            .iter()
            .filter(|(id, memory)| self.saved.get(id) != Some(&memory.persisted))
            .map(|(id, memory)| (*id, Some(durable(memory))))
            .collect();
        let gone = self.saved.keys().filter(|id| !self.memories.contains_key(id));
        changes.extend(gone.map(|id| (*id, None)));
        if changes.is_empty() {
            return;
        }
        self.saved = self
            .memories
            .iter()
            .map(|(id, m)| (*id, durable(m)))
            .collect::<BTreeMap<DeploymentId, Persisted>>();
        self.begin_write(changes);
    }

    fn begin_write(&mut self, changes: Changes) {
        let (store, unsaved, wake) =
            (self.store.clone(), self.unsaved.clone(), Arc::clone(&self.wake));
        let (failures, jitter) = (Arc::clone(&self.failures.saving), (self.world.jitter)());
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
    pub(super) async fn persist(&mut self) {
        self.save();
        let written = self.last_write.clone();
        if tokio::time::timeout(PERSISTED, written.cancelled()).await.is_err() {
            tracing::warn!("a guard's decision is not on disk yet; acting on it anyway");
        }
    }
}

fn not_saved(error: &(dyn std::error::Error + 'static)) {
    tracing::error!(error, "state that must survive a restart could not be written; retrying");
}
