//! Wall time, injected.

use std::time::Duration;

use jiff::Timestamp;
use nix::time::{ClockId, clock_gettime};

/// Wall time. Durations and deadlines use `tokio::time`, which tests can pause.
pub trait Clock: Send + Sync + 'static {
    fn now(&self) -> Timestamp;
    /// Since some moment in the past. Nobody can set it, and it counts while the machine sleeps:
    /// what wall time is held against.
    fn steady(&self) -> Duration;
}

#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the wall clock")]
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    fn steady(&self) -> Duration {
        // Every Linux has this clock; one that stands still makes each change of wall time doubtful.
        clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(Duration::ZERO, Duration::from)
    }
}
