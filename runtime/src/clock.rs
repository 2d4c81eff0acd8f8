//! Wall time, injected.

use std::time::Duration;

use jiff::Timestamp;
use nix::time::{ClockId, clock_gettime};

/// Wall time. Durations and deadlines use `tokio::time`, which tests can pause.
pub trait Clock: Send + Sync + 'static {
    /// The present wall time, which may jump.
    fn now(&self) -> Timestamp;
    /// Time since some moment in the past. It cannot be set, and it counts while the machine
    /// sleeps: the reference for wall time.
    fn steady(&self) -> Duration;
}

/// The clock of the machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the wall clock")]
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    fn steady(&self) -> Duration {
        // Every Linux has this clock; if it stood still, each change of wall time would be doubted.
        clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(Duration::ZERO, Duration::from)
    }
}
