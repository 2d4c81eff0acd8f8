//! The wall clock, which may jump. Durations never use it.

use std::sync::Arc;
use std::time::Duration;

use buddo_runtime::clock::Clock;
use jiff::Timestamp;

use crate::world::World;

/// True time when a simulation begins, in Unix seconds.
pub(crate) const BEGIN: i64 = 1_800_000_000;
/// A year, in seconds.
pub(crate) const YEAR: i64 = 365 * 24 * 3_600;

/// Some days, in seconds.
pub(crate) const DAYS: i64 = 3 * 24 * 3_600;

/// The agent's clock.
pub(crate) struct SimClock(pub(crate) Arc<World>);

impl Clock for SimClock {
    fn now(&self) -> Timestamp {
        let offset = self.0.with(|state| state.clock_offset);
        true_time(self.0.begun.elapsed(), offset)
    }

    fn steady(&self) -> Duration {
        self.0.begun.elapsed()
    }
}

/// What a clock shows that is wrong by `offset` seconds.
pub(crate) fn true_time(elapsed: Duration, offset: i64) -> Timestamp {
    let millis = i64::try_from(elapsed.as_millis()).unwrap_or_default();
    Timestamp::from_millisecond((BEGIN + offset) * 1_000 + millis).unwrap_or(Timestamp::UNIX_EPOCH)
}
