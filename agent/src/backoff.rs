//! How long to wait before trying again: capped, exponential, jittered. Pure.

use std::time::Duration;

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
}
