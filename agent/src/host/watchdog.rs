//! Tells systemd that the agent is alive; if that stops, systemd starts a fresh one.
//!
//! ```text
//! reconciler's loop ─ beat ─┐
//! database's thread ─ turn ─┼─ all of them ─► WATCHDOG=1 ─► systemd (WatchdogSec)
//! desired-state sink ── lock┘
//! ```
//!
//! A process that merely runs proves nothing: it usually fails by one task waiting forever for a
//! lock or a channel while all others go on. So each sign of life comes from the part that it
//! vouches for, and a single missing one is enough to stop notifying.
//!
//! The resolver has one part that counts: the loop that answers, which reports for itself.

use std::sync::Arc;

use tokio::sync::watch;

use crate::adapters::store::Store;
use crate::ports::DesiredStateSink;
use crate::process::watchdog;

/// Where signs of life come from.
pub struct Signs<D> {
    /// The reconciler's beats: some seconds apart, even when idle.
    pub beats: watch::Receiver<u64>,
    /// The database, whose thread takes its turn. The disk is not touched.
    pub store: Store,
    /// Documents are taken one by one, under a lock.
    pub desired_state: Arc<D>,
}

impl<D: DesiredStateSink> Signs<D> {
    /// Waits for a sign from each. `None`: a part has ended, so none will ever come.
    async fn all(&mut self) -> Option<()> {
        self.beats.changed().await.ok()?;
        self.store.answers().await.ok()?;
        self.desired_state.answers().await;
        Some(())
    }
}

/// Feeds systemd's watchdog, if enabled, until a part of the agent has ended.
pub async fn feed<D: DesiredStateSink>(mut signs: Signs<D>) {
    let Some(pulse) = watchdog::pulse() else { return };
    loop {
        tokio::time::sleep(pulse).await;
        if signs.all().await.is_none() {
            return;
        }
        watchdog::feed();
    }
}
