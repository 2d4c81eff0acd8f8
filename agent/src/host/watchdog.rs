//! Tells systemd that the agent is alive; if that stops, systemd starts a fresh one.
//!
//! ```text
//! reconciler's loop ─ beat ─┐
//! database's thread ─ turn ─┼─ all of them ─► WATCHDOG=1 ─► systemd (WatchdogSec)
//! intake of documents ─ lock┘
//! ```
//!
//! A process that merely runs proves nothing: it usually fails by one task waiting forever for a
//! lock or a channel while all others go on. So each sign of life comes from the part that it
//! vouches for, and a single missing one is enough to stop notifying.
//!
//! The resolver has one part that counts: the loop that answers, which reports for itself.

use std::sync::Arc;
use std::time::Duration;

use buddo_runtime::clock::Clock;
use sd_notify::NotifyState;
use tokio::sync::watch;

use crate::adapters::store::Store;
use crate::control::desired_state::DesiredState;

/// Where signs of life come from.
pub struct Signs<K> {
    /// The reconciler's beats: some seconds apart, even when idle.
    pub beats: watch::Receiver<u64>,
    /// The database, whose thread takes its turn. The disk is not touched.
    pub store: Store,
    /// Documents are taken one by one, under a lock.
    pub intent: Arc<DesiredState<K>>,
}

impl<K: Clock> Signs<K> {
    /// Waits for a sign from each. `None`: a part has ended, so none will ever come.
    async fn all(&mut self) -> Option<()> {
        self.beats.changed().await.ok()?;
        self.store.answers().await.ok()?;
        self.intent.answers().await;
        Some(())
    }
}

/// Feeds systemd's watchdog, if enabled, until a part of the agent has ended.
pub async fn feed<K: Clock>(mut signs: Signs<K>) {
    let Some(pulse) = pulse() else { return };
    loop {
        tokio::time::sleep(pulse).await;
        if signs.all().await.is_none() {
            return;
        }
        tell();
    }
}

/// Feeds systemd's watchdog with each beat of a loop, expected every [`pulse`], for as long as the
/// loop exists.
pub async fn feed_by(mut beats: watch::Receiver<u64>) {
    while beats.changed().await.is_ok() {
        tell();
    }
}

/// Between two beats of a loop that feeds the watchdog; `None`: systemd's watchdog is off.
pub fn pulse() -> Option<Duration> {
    sd_notify::watchdog_enabled().map(rest)
}

fn tell() {
    if let Err(error) = sd_notify::notify(&[NotifyState::Watchdog]) {
        tracing::warn!(%error, "cannot notify systemd");
    }
}

/// A third of the limit leaves time for a loop that beats at that interval, and for a slow pass.
fn rest(bound: Duration) -> Duration {
    bound / 3
}
