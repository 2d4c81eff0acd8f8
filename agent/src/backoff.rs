//! How long to wait before trying again: capped, exponential, jittered. Pure.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// A rule for waiting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    base: Duration,
    cap: Duration,
}

impl Backoff {
    /// A crashed container: 1 s, 2 s … 60 s.
    pub const CRASH: Self = Self::new(Duration::from_secs(1), Duration::from_mins(1));
    /// A registry or Podman in trouble: 0.5 s, 1 s … 30 s.
    pub const TROUBLE: Self = Self::new(Duration::from_millis(500), Duration::from_secs(30));

    /// What the host lacks to create or start a container: 1 s, 2 s … 2 min. Its administrator has
    /// to act, and each try costs the host that is short something.
    pub const SHORTAGE: Self = Self::new(Duration::from_secs(1), Duration::from_mins(2));

    /// What is of this very host and answers soon if at all, such as its disk or the list of its
    /// containers: 0.5 s, 1 s … 5 s. Visitors may wait for it, so the cap is low.
    pub const HOST: Self = Self::new(Duration::from_millis(500), Duration::from_secs(5));
    /// A certificate that cannot be had: 1 s, 2 s … 15 min. Issuers count failures.
    pub const CERTIFICATE: Self = Self::new(Duration::from_secs(1), Duration::from_mins(15));

    /// A renewal that the coordinator does not answer: 1 s, 2 s … 5 min.
    pub const RENEWAL: Self = Self::new(Duration::from_secs(1), Duration::from_mins(5));

    /// Waits `base` first, twice as long each time, `cap` at most.
    const fn new(base: Duration, cap: Duration) -> Self {
        Self { base, cap }
    }

    /// The wait after failure number `tries` (from 0). `jitter` in 0..1 takes up to half of it
    /// off, so that many hosts or apps that failed together do not try again together.
    pub fn delay(self, tries: u32, jitter: f64) -> Duration {
        let factor = 2_u32.saturating_pow(tries.min(20));
        let full = self.base.saturating_mul(factor).min(self.cap);
        full.mul_f64(1.0 - jitter.clamp(0.0, 1.0) / 2.0)
    }
}

/// Failures in a row of one thing that is tried again by [`Backoff::HOST`].
#[derive(Debug, Default)]
pub struct Failures(AtomicU32);

impl Failures {
    /// It failed once more: when it is tried again.
    pub fn next(&self, jitter: f64) -> Instant {
        Instant::now() + Backoff::HOST.delay(self.0.fetch_add(1, Ordering::Relaxed), jitter)
    }

    /// It went well.
    pub fn end(&self) {
        self.0.store(0, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_up_to_the_cap_and_keeps_at_least_half() {
        let delays: Vec<_> =
            (0..8).map(|tries| Backoff::CRASH.delay(tries, 0.0).as_secs()).collect();
        assert_eq!(delays, [1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(Backoff::CRASH.delay(0, 1.0), Duration::from_millis(500));
        assert_eq!(Backoff::CRASH.delay(u32::MAX, 0.0), Duration::from_mins(1));
    }

    #[tokio::test(start_paused = true)]
    async fn failures_in_a_row_wait_ever_longer_until_one_goes_well() {
        let failures = Failures::default();
        let wait = || (failures.next(0.0) - Instant::now()).as_millis();
        assert_eq!([wait(), wait(), wait(), wait(), wait()], [500, 1_000, 2_000, 4_000, 5_000]);
        failures.end();
        assert_eq!(wait(), 500);
    }
}
