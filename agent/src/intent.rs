//! Which document is in force: acceptance, persistence, announcement.
//!
//! ```text
//! envelope ─ verify ─ order ─ expiry ─► agent.db (fsync) ─► announce to reconcile ─► acknowledge
//!               │        │        │
//!               └────────┴────────┴──► refusal: nothing changed; alarms are kept for status
//! ```

use std::collections::BTreeMap;
use std::sync::Arc;

use buddo_shared::id::{DeploymentId, Generation};
use buddo_shared::image::Digest;
use buddo_shared::manifest::{Desired, Manifest};
use buddo_shared::report::Accepted;
use buddo_shared::signed::{Verified, Verifier, VerifyError};
use bytes::Bytes;
use jiff::Timestamp;
use tokio::sync::{Mutex, watch};

use crate::ports::{Clock, Intake, Refusal};
use crate::store::{Held, Store, StoreError};
use crate::text::causes;

/// Envelopes up to this size are verified where they arrive; larger ones on a blocking thread.
const INLINE: usize = 64 * 1024;

/// The document in force. Made only from one whose signature was checked.
#[derive(Debug)]
pub struct Document {
    manifest: Manifest,
    digest: Digest,
    entries: BTreeMap<DeploymentId, Arc<Desired>>,
}

impl Document {
    pub(crate) fn new(verified: Verified<Manifest>) -> Self {
        let digest = verified.digest().clone();
        let manifest = verified.into_inner();
        let entries = manifest.deployments.iter().map(|d| (d.id, Arc::new(d.clone()))).collect();
        Self { manifest, digest, entries }
    }

    /// What was signed.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// `sha256:` of the payload.
    pub fn digest(&self) -> &Digest {
        &self.digest
    }

    /// The deployments that shall exist.
    pub fn entries(&self) -> &BTreeMap<DeploymentId, Arc<Desired>> {
        &self.entries
    }
}

/// What acceptance compares with.
#[derive(Debug, Default)]
struct Order {
    held: Option<(Generation, Digest)>,
    /// Wall time is never earlier than this: the newest accepted signature's time. Only signed
    /// times count, or one jump of the clock ahead would refuse every document after it.
    floor: Option<Timestamp>,
}

/// Accepts documents.
pub struct Intent<K> {
    verifier: Verifier,
    store: Store,
    clock: Arc<K>,
    /// Held over the write, so that documents become durable one by one, in order.
    order: Mutex<Order>,
    current: watch::Sender<Option<Arc<Document>>>,
    alarm: watch::Sender<Option<String>>,
}

impl<K: Clock> Intent<K> {
    /// Takes the stored document up. One that does not verify any more is not obeyed, but its
    /// place in the order still holds, and an alarm says so.
    pub async fn restore(
        verifier: Verifier,
        store: Store,
        clock: Arc<K>,
    ) -> Result<Self, StoreError> {
        let mut order = Order::default();
        let mut document = None;
        let mut alarm = None;
        if let Some(held) = store.document().await? {
            match verifier.verify(&held.envelope) {
                Ok(verified) => document = Some(Arc::new(Document::new(verified))),
                Err(error) => {
                    tracing::error!(%error, "the stored document does not verify");
                    alarm = Some(format!("the stored document is not obeyed: {error}"));
                }
            }
            order.held = Some((held.generation, held.digest));
            order.floor = Some(held.floor);
        }
        Ok(Self {
            verifier,
            store,
            clock,
            order: Mutex::new(order),
            current: watch::Sender::new(document),
            alarm: watch::Sender::new(alarm),
        })
    }

    /// Waits until no document is being taken: no task holds the lock for good.
    pub async fn answers(&self) {
        drop(self.order.lock().await);
    }

    /// The document in force, and every later one.
    pub fn subscribe(&self) -> watch::Receiver<Option<Arc<Document>>> {
        self.current.subscribe()
    }

    /// What an administrator should know about refused documents; cleared by the next good one.
    pub fn alarm(&self) -> watch::Receiver<Option<String>> {
        self.alarm.subscribe()
    }

    async fn verify(&self, envelope: &Bytes) -> Result<Verified<Manifest>, VerifyError> {
        if envelope.len() <= INLINE {
            return self.verifier.verify(envelope);
        }
        let (verifier, envelope) = (self.verifier.clone(), envelope.clone());
        let verified = tokio::task::spawn_blocking(move || verifier.verify(&envelope)).await;
        verified.unwrap_or(Err(VerifyError::Envelope))
    }

    async fn accept(&self, envelope: Bytes) -> Result<Accepted, Refusal> {
        let verified = self.verify(&envelope).await?;
        let mut order = self.order.lock().await;
        let generation = verified.get().generation;
        let accepted = Accepted { generation, digest: verified.digest().clone() };
        if let Some((held, digest)) = &order.held {
            if generation < *held {
                return Err(Refusal::Stale { offered: generation, held: *held });
            }
            if generation == *held && digest != verified.digest() {
                return Err(Refusal::Conflict(generation));
            }
            // The same again: it is on disk, so say so again. Unless what is on disk does not
            // verify any more: then this one repairs it.
            if generation == *held && self.current.borrow().is_some() {
                return Ok(accepted);
            }
        }
        let now = self.clock.now();
        let now = order.floor.map_or(now, |floor| floor.max(now));
        let Manifest { issued_at, expires_at, .. } = *verified.get();
        if expires_at <= now {
            return Err(Refusal::Expired { expires_at, now });
        }
        let digest = verified.digest().clone();
        let held = Held {
            envelope: envelope.to_vec(),
            generation,
            digest: digest.clone(),
            floor: issued_at,
        };
        self.store.put_document(held).await.map_err(|error| Refusal::Store(error.into()))?;
        order.held = Some((generation, digest));
        order.floor = Some(order.floor.map_or(issued_at, |floor| floor.max(issued_at)));
        self.current.send_replace(Some(Arc::new(Document::new(verified))));
        Ok(accepted)
    }
}

impl<K: Clock> Intake for Intent<K> {
    async fn offer(&self, envelope: Bytes) -> Result<Accepted, Refusal> {
        let result = self.accept(envelope).await;
        match &result {
            Ok(accepted) => {
                tracing::info!(generation = %accepted.generation, "document accepted");
                self.alarm.send_if_modified(|alarm| alarm.take().is_some());
            }
            Err(refusal) => {
                let reason = refusal as &dyn std::error::Error;
                tracing::warn!(reason, "document refused; nothing changed");
                let words = format!("a document was refused: {}", causes(refusal));
                self.alarm.send_replace(Some(words));
            }
        }
        result
    }
}

#[cfg(test)]
mod tests;
