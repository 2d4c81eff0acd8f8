//! The one place that reads the time.

use jiff::Timestamp;

/// The clock; tests use their own.
pub(crate) trait Clock: Send + Sync {
    /// Now, by the wall clock.
    fn now(&self) -> Timestamp;
}

pub(crate) struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the one clock that everything else is given")]
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }
}
