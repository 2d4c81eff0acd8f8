//! Retry delays: capped, exponential, jittered. Pure.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// A rule for waiting before a retry: exponential from a base up to a cap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    base: Duration,
    cap: Duration,
}

impl Backoff {
    /// Waits `base` first, twice as long each time, `cap` at most.
    pub const fn new(base: Duration, cap: Duration) -> Self {
        Self { base, cap }
    }

    /// The wait after failure number `tries` (from 0). `jitter` in 0..1 subtracts up to half of it,
    /// so that many hosts or apps that failed together do not retry together.
    pub fn delay(self, tries: u32, jitter: f64) -> Duration {
        let factor = 2_u32.saturating_pow(tries.min(20));
        let full = self.base.saturating_mul(factor).min(self.cap);
        full.mul_f64(1.0 - jitter.clamp(0.0, 1.0) / 2.0)
    }
}

/// Consecutive failures of something that is retried.
#[derive(Debug, Default)]
pub struct Failures(AtomicU32);

impl Failures {
    /// Records another failure; returns when to retry.
    pub fn next(&self, backoff: Backoff, jitter: f64) -> Instant {
        Instant::now() + backoff.delay(self.0.fetch_add(1, Ordering::Relaxed), jitter)
    }

    /// It succeeded: the next failure waits the base again.
    pub fn end(&self) {
        self.0.store(0, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: Backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(5));
    const LONG: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_mins(1));

    #[test]
    fn delays_double_up_to_a_cap_and_jitter_takes_at_most_half() {
        let delays: Vec<_> = (0..8).map(|tries| LONG.delay(tries, 0.0).as_secs()).collect();
        assert_eq!(delays, [1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(LONG.delay(0, 1.0), Duration::from_millis(500));
        assert_eq!(LONG.delay(u32::MAX, 0.0), Duration::from_mins(1));
    }

    #[tokio::test(start_paused = true)]
    async fn back_off_grows_until_a_success_resets_it() {
        let failures = Failures::default();
        let wait = || (failures.next(SHORT, 0.0) - Instant::now()).as_millis();
        assert_eq!([wait(), wait(), wait(), wait(), wait()], [500, 1_000, 2_000, 4_000, 5_000]);
        failures.end();
        assert_eq!(wait(), 500);
    }
}
