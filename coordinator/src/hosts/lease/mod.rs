//! Who pushes to a host: the coordinator that holds the host's lease.
//!
//! ```text
//!   0 s          10 s         20 s       25 s      30 s
//!   acquire ───► renew all ─► renew all ─┬─────────┬─► anybody may take it
//!                                        │ MARGIN  │
//!                          pushing stops ┘         └ the lease ends, by the database's clock
//! ```
//!
//! A renewal is one statement for all hosts. The times above count from before the statement was
//! sent, so that the database's end of the lease is never earlier than what the holder believes.

mod instance;

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use buddo_runtime::error_chain::chain;
use buddo_shared::model::id::HostId;
use jiff::Timestamp;
use tokio::sync::{RwLock, watch};
use tokio::time::{Instant, sleep, sleep_until};
use uuid::Uuid;

pub(super) use self::instance::Instance;
use crate::crypto::random::{self, Random};
use crate::process::metrics::{Metrics, Present};
use crate::store::contract::Lease;
use crate::store::{Store, StoreError};

/// The leases of this process.
pub(super) struct HostLeases {
    store: Store,
    random: Arc<dyn Random>,
    metrics: Metrics,
    instance: Instance,
    ttl: Duration,
    held: Mutex<HashMap<HostId, Holding>>,
    /// Renewals have it alone: which leases the database has and which are held here then differ
    /// only by those to be given back.
    turn: RwLock<()>,
}

struct Holding {
    valid_until: watch::Sender<Instant>,
    _counted: Present,
}

/// The answer to an attempt to take a lease.
pub(super) enum Acquired {
    Held(HeldLease),
    /// Another coordinator has it.
    Elsewhere(Lease),
}

/// A lease, held until this is dropped or [`lost`](Self::lost) returns.
pub(super) struct HeldLease {
    leases: Arc<HostLeases>,
    host: HostId,
    valid_until: watch::Receiver<Instant>,
}

impl HostLeases {
    pub(super) fn new(
        store: Store,
        random: Arc<dyn Random>,
        metrics: Metrics,
        instance: Instance,
        ttl: Duration,
    ) -> Self {
        let (held, turn) = (Mutex::default(), RwLock::default());
        Self { store, random, metrics, instance, ttl, held, turn }
    }

    pub(super) fn holder(&self) -> Uuid {
        self.instance.id()
    }

    /// How long to wait until a lease that another coordinator holds is tried again.
    pub(super) fn until_next_try(&self) -> Duration {
        self.jittered(self.ttl / 3)
    }

    /// Takes the lease of a host that is connected now, unless another coordinator has it, and
    /// records in the same transaction that the host is reached.
    pub(super) async fn acquire(
        self: &Arc<Self>,
        host: HostId,
        now: Timestamp,
    ) -> Result<Acquired, StoreError> {
        let (holder, ttl) = (self.holder(), self.ttl);
        // A read first: a coordinator that stands by must not write for each host all the time.
        let lease: Option<Lease> = self.store.read(move |tables| tables.lease(host)).await?;
        if let Some(lease) = lease.filter(|lease| lease.holder != holder) {
            return Ok(Acquired::Elsewhere(lease));
        }
        let _turn = self.turn.read().await;
        let begun = Instant::now();
        let acquire = self.store.write(move |tables| {
            let lease = tables.acquire_lease(host, holder, ttl)?;
            if lease.holder == holder {
                tables.set_reached(host, now)?;
            }
            Ok::<_, StoreError>(lease)
        });
        let lease = acquire.await?;
        if lease.holder != holder {
            return Ok(Acquired::Elsewhere(lease));
        }
        let (sender, valid_until) = watch::channel(self.valid_until(begun));
        let counted = self.metrics.host_lease();
        self.held().insert(host, Holding { valid_until: sender, _counted: counted });
        Ok(Acquired::Held(HeldLease { leases: Arc::clone(self), host, valid_until }))
    }

    /// Renews all leases, for as long as it is polled.
    pub(super) async fn keep(&self) -> Infallible {
        let mut wait = self.ttl / 3;
        loop {
            sleep(self.jittered(wait)).await;
            wait = match self.renew().await {
                Ok(()) => self.ttl / 3,
                Err(error) => {
                    tracing::error!(error = %chain(&error), "cannot renew the leases of hosts");
                    // Several attempts before the first lease ends.
                    self.ttl / 15
                }
            };
        }
    }

    /// Renews all leases once, and gives back those that nobody here uses any more: the host could
    /// not be reached again, or a process before this one had them.
    async fn renew(&self) -> Result<(), StoreError> {
        let (holder, ttl) = (self.holder(), self.ttl);
        let _turn = self.turn.write().await;
        let begun = Instant::now();
        let renew = self.store.write(move |tables| tables.renew_leases(holder, ttl));
        let renewed: Vec<HostId> = renew.await?;
        let (mut unused, mut held) = (Vec::new(), HashMap::new());
        for (host, holding) in &*self.held() {
            held.insert(*host, holding.valid_until.clone());
        }
        for host in renewed {
            match held.remove(&host) {
                Some(valid_until) => drop(valid_until.send_replace(self.valid_until(begun))),
                None => unused.push(host),
            }
        }
        for (host, valid_until) in held {
            tracing::warn!(%host, "another coordinator has taken the host's lease");
            valid_until.send_replace(begun);
        }
        if !unused.is_empty() {
            let release = self.store.write(move |tables| {
                unused.iter().try_for_each(|host| tables.release_lease(*host, holder))
            });
            release.await?;
        }
        Ok(())
    }

    /// Gives back all leases; nothing may be pushed any more.
    pub(super) async fn release_all(&self) {
        let holder = self.holder();
        let _turn = self.turn.write().await;
        let released: Result<(), StoreError> =
            self.store.write(move |tables| tables.release_leases(holder)).await;
        if let Err(error) = released {
            // They end by themselves.
            tracing::warn!(error = %chain(&error), "cannot give back the leases of hosts");
        }
    }

    /// When to stop pushing on the strength of a statement sent at `begun`: early enough that what
    /// is under way has ended before another coordinator begins.
    fn valid_until(&self, begun: Instant) -> Instant {
        begun + self.ttl - self.ttl / 6
    }

    /// By up to a fifth more or less, so that several coordinators do not write in step.
    fn jittered(&self, duration: Duration) -> Duration {
        let draw = u32::from_be_bytes(random::bytes::<4>(&*self.random));
        duration.mul_f64(0.8 + 0.4 * f64::from(draw) / f64::from(u32::MAX))
    }

    fn held(&self) -> MutexGuard<'_, HashMap<HostId, Holding>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl HeldLease {
    /// Ready when nothing may be pushed any more: the lease was not renewed in time, or is gone.
    pub(super) async fn lost(&mut self) {
        loop {
            let until = *self.valid_until.borrow_and_update();
            if until <= Instant::now() {
                return;
            }
            tokio::select! {
                () = sleep_until(until) => {}
                changed = self.valid_until.changed() => if changed.is_err() { return },
            }
        }
    }
}

impl Drop for HeldLease {
    fn drop(&mut self) {
        self.leases.held().remove(&self.host);
    }
}

#[cfg(test)]
mod tests;
