//! The document in force: acceptance, persistence, announcement.
//!
//! ```text
//! envelope ─ verify ─ order ─ expiry ─► agent.db (fsync) ─► announce to reconcile ─► acknowledge
//!               │        │        │     with its trust
//!               └────────┴────────┴──► refusal: nothing changed; alarms are kept for status
//! ```
//!
//! A document may say whom the host trusts from then on. That is stored in the same commit, so that
//! no crash leaves a document that its own trust would refuse.

use std::mem::Discriminant;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use buddo_runtime::clock::Clock;
use buddo_runtime::error_chain::chain;
use buddo_shared::host_wire::manifest::Manifest;
use buddo_shared::host_wire::report::Accepted;
use buddo_shared::host_wire::signed::{Verified, VerifyError};
use buddo_shared::model::id::Generation;
use buddo_shared::model::image::Digest;
use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use tokio::sync::{Mutex, watch};
use tokio::time::Instant;

use crate::adapters::store::{Held, Store, StoreError};
use crate::model::document::Document;
use crate::model::trust::{TrustRoots, TrustRootsError};
use crate::ports::{DesiredStateSink, Refusal};

/// Envelopes up to this size are verified where they arrive; larger ones on a blocking thread.
const INLINE: usize = 64 * 1024;

/// How far the coordinator's clock may be ahead of this host's. Without this bound one document
/// from the future would raise the floor, and refuse every document until that time has come. A
/// document refused for it is offered again, and accepted once its time is near enough: where the
/// clocks differ by little more than this, each document is late by the excess. Waiting until they
/// agree better would only delay documents that no longer do harm.
const MOST_AHEAD: SignedDuration = SignedDuration::from_mins(5);

/// A refusal that differs from the last only in its times is reported again after this long: each
/// text is a report of its own, written to disk and sent.
const TOLD_AGAIN: Duration = Duration::from_hours(1);

/// What a new document is compared with.
#[derive(Debug, Default)]
struct DocumentOrder {
    held: Option<(Generation, Digest)>,
    /// Wall time is never earlier than this: the time of the newest accepted signature. Only signed
    /// times count, or one jump of the clock ahead would refuse every later document. It is reset
    /// by each epoch and each join, which is the way out if both clocks were wrong when a document
    /// was accepted.
    floor: Option<Timestamp>,
}

/// The database lacks what a start needs.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// It cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Its trust roots are not usable.
    #[error("the trust roots in the database are unusable; join the host again with --force")]
    Trust(#[from] TrustRootsError),
}

pub struct DesiredState<K> {
    store: Store,
    clock: Arc<K>,
    /// Held over the write, so that documents are persisted one by one, in order.
    order: Mutex<DocumentOrder>,
    current: watch::Sender<Option<Arc<Document>>>,
    /// The trust roots of this host; change with a document, while `order` is held.
    trust_roots: watch::Sender<Arc<TrustRoots>>,
    alarm: watch::Sender<Option<String>>,
    /// The last refusal that named the time here, and when it was reported.
    told: std::sync::Mutex<Option<(Discriminant<Refusal>, Instant)>>,
}

impl<K: Clock> DesiredState<K> {
    /// Restores the stored document and its trust roots; without one, those of the join.
    ///
    /// A document that no longer verifies is ignored, and an alarm says so. Its place in the order
    /// still holds, unless the host joined again and no longer trusts its key: an untrusted key
    /// must not decide which documents are too old.
    pub async fn restore(
        joined: TrustRoots,
        store: Store,
        clock: Arc<K>,
    ) -> Result<Self, RestoreError> {
        let held = store.document().await?;
        let trust_roots = match held.as_ref().and_then(|held| held.trust.clone()) {
            Some(trust) => TrustRoots::new(joined.verifier().host(), trust)?,
            None => joined,
        };
        let mut order = DocumentOrder::default();
        let mut document = None;
        let mut alarm = None;
        if let Some(held) = held {
            let place = (held.generation, held.digest);
            match trust_roots.verifier().verify(&held.envelope) {
                Ok(verified) => {
                    document = Some(Arc::new(Document::new(verified)));
                    order.held = Some(place);
                }
                Err(error) => {
                    tracing::error!(%error, "the stored document does not verify");
                    alarm = Some(format!("ignoring the stored document: {error}"));
                    let distrusted = matches!(error, VerifyError::UnknownKey(_));
                    order.held = (!distrusted).then_some(place);
                }
            }
            order.floor = Some(held.floor);
        }
        Ok(Self {
            store,
            clock,
            order: Mutex::new(order),
            current: watch::Sender::new(document),
            trust_roots: watch::Sender::new(Arc::new(trust_roots)),
            alarm: watch::Sender::new(alarm),
            told: std::sync::Mutex::default(),
        })
    }

    /// The trust roots of this host, and every change of them.
    pub fn trust_roots(&self) -> watch::Receiver<Arc<TrustRoots>> {
        self.trust_roots.subscribe()
    }

    /// The document in force, and every later one.
    pub fn subscribe(&self) -> watch::Receiver<Option<Arc<Document>>> {
        self.current.subscribe()
    }

    /// What an administrator should know about refused documents; cleared by the next good one.
    pub fn alarm(&self) -> watch::Receiver<Option<String>> {
        self.alarm.subscribe()
    }

    /// Records a refusal, or that there was none; returns whether that is news.
    fn takes_note(&self, refusal: Option<&Refusal>) -> bool {
        let timed = |refusal: &&Refusal| {
            matches!(refusal, Refusal::Expired { .. } | Refusal::IssuedInFuture { .. })
        };
        let kind = refusal.filter(timed).map(std::mem::discriminant);
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        match (kind, *told) {
            (Some(kind), Some((same, at))) if kind == same && at.elapsed() < TOLD_AGAIN => false,
            _ => {
                *told = kind.map(|kind| (kind, Instant::now()));
                true
            }
        }
    }

    async fn verify(&self, envelope: &Bytes) -> Result<Verified<Manifest>, VerifyError> {
        let trust_roots = Arc::clone(&self.trust_roots.borrow());
        if envelope.len() <= INLINE {
            return trust_roots.verifier().verify(envelope);
        }
        let envelope = envelope.clone();
        let verify = move || trust_roots.verifier().verify(&envelope);
        let verified = tokio::task::spawn_blocking(verify).await;
        verified.unwrap_or(Err(VerifyError::Envelope))
    }

    async fn accept(&self, envelope: Bytes) -> Result<Accepted, Refusal> {
        let verified = self.verify(&envelope).await?;
        let mut order = self.order.lock().await;
        let trust_roots = Arc::clone(&self.trust_roots.borrow());
        // It may have been verified just before another document withdrew the trust in its key.
        if !trust_roots.verifier().trusts(verified.signer()) {
            return Err(VerifyError::UnknownKey(verified.signer().to_owned()).into());
        }
        let generation = verified.get().generation;
        let accepted = Accepted { generation, digest: verified.digest().clone() };
        if let Some((held, digest)) = &order.held {
            if generation < *held {
                return Err(Refusal::Stale { offered: generation, held: *held });
            }
            if generation == *held && digest != verified.digest() {
                return Err(Refusal::Conflict(generation));
            }
            // The same document again: it is on disk, so acknowledge again. Unless the one on disk
            // no longer verifies: then this one repairs it.
            if generation == *held && self.current.borrow().is_some() {
                return Ok(accepted);
            }
        }
        let same_epoch = order.held.as_ref().is_none_or(|(held, _)| held.epoch == generation.epoch);
        let floor = order.floor.filter(|_| same_epoch);
        let clock = self.clock.now();
        let now = floor.map_or(clock, |floor| floor.max(clock));
        let Manifest { issued_at, expires_at, .. } = *verified.get();
        if expires_at <= now {
            return Err(Refusal::Expired { expires_at, now });
        }
        let believed = believed(clock, floor);
        if issued_at.duration_since(believed) > MOST_AHEAD {
            return Err(Refusal::IssuedInFuture { issued_at, now: believed });
        }
        let digest = verified.digest().clone();
        let trust = verified.get().trust.clone().filter(|trust| trust != trust_roots.wire());
        let pinned = trust.clone().map(|trust| TrustRoots::new(verified.get().host_id, trust));
        let pinned = pinned.transpose()?;
        let held = Held {
            envelope: envelope.to_vec(),
            generation,
            digest: digest.clone(),
            floor: issued_at,
            trust,
        };
        self.store.put_document(held).await.map_err(|error| Refusal::Store(error.into()))?;
        if let Some(trust_roots) = pinned {
            tracing::info!(trust = ?trust_roots.verifier(), "the trust roots of this host have changed");
            self.trust_roots.send_replace(Arc::new(trust_roots));
        }
        order.held = Some((generation, digest));
        order.floor = Some(floor.map_or(issued_at, |floor| floor.max(issued_at)));
        self.current.send_replace(Some(Arc::new(Document::new(verified))));
        Ok(accepted)
    }
}

/// The time from which [`MOST_AHEAD`] is measured. Measured from the floor, documents that are each
/// a little further ahead would drag the floor along without end. A clock that is behind the floor
/// by more than clocks may differ is itself wrong, as after a start in 1970.
fn believed(clock: Timestamp, floor: Option<Timestamp>) -> Timestamp {
    floor.filter(|floor| floor.duration_since(clock) > MOST_AHEAD).unwrap_or(clock)
}

impl<K: Clock> DesiredStateSink for DesiredState<K> {
    async fn offer(&self, envelope: Bytes) -> Result<Accepted, Refusal> {
        let result = self.accept(envelope).await;
        match &result {
            Ok(accepted) => {
                tracing::info!(generation = %accepted.generation, "document accepted");
                self.takes_note(None);
                self.alarm.send_if_modified(|alarm| alarm.take().is_some());
            }
            Err(refusal) => {
                let reason = refusal as &dyn std::error::Error;
                tracing::warn!(reason, "document refused; nothing changed");
                if self.takes_note(Some(refusal)) {
                    let words = format!("a document was refused: {}", chain(refusal));
                    self.alarm.send_replace(Some(words));
                }
            }
        }
        result
    }

    async fn answers(&self) {
        drop(self.order.lock().await);
    }
}

#[cfg(test)]
mod tests;
