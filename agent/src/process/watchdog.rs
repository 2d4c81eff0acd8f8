//! systemd's watchdog (`WatchdogSec`): how often it is fed, and feeding it.

use std::time::Duration;

use sd_notify::NotifyState;
use tokio::sync::watch;

/// Feeds the watchdog with each beat of a loop, expected every [`pulse`], for as long as the loop
/// exists.
pub async fn feed_by(mut beats: watch::Receiver<u64>) {
    while beats.changed().await.is_ok() {
        feed();
    }
}

/// Between two beats of a loop that feeds the watchdog; `None`: systemd's watchdog is off.
pub fn pulse() -> Option<Duration> {
    sd_notify::watchdog_enabled().map(pulse_of)
}

/// Feeds the watchdog once.
pub fn feed() {
    if let Err(error) = sd_notify::notify(&[NotifyState::Watchdog]) {
        tracing::warn!(%error, "cannot notify systemd");
    }
}

/// A third of the limit leaves time for a loop that beats at that interval, and for a slow pass.
fn pulse_of(limit: Duration) -> Duration {
    limit / 3
}
