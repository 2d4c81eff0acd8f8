//! Back-off of a host's task between two sessions.

use std::time::Duration;

use crate::process::retries::{AGENT_DOWN, HOST};

/// The back-off state of one host.
pub(super) struct Waits {
    failures: u32,
    last: Duration,
    jitter: fn() -> f64,
}

impl Waits {
    pub(super) fn new() -> Self {
        Self { failures: 0, last: Duration::ZERO, jitter: rand::random::<f64> }
    }

    /// The wait after a session that was connected for `lasted`, or never. `agent_down`: nothing
    /// listens on the host.
    ///
    /// A session that lasted longer than the wait before it shows that the host is reachable and
    /// resets the back-off: an agent that died a few times in a row must not wait for its document
    /// like an unreachable one.
    pub(super) fn after(&mut self, lasted: Option<Duration>, agent_down: bool) -> Duration {
        if lasted.is_some_and(|lasted| lasted > self.last) {
            self.failures = 0;
        }
        let wait = HOST.delay(self.failures, (self.jitter)());
        self.failures = self.failures.saturating_add(1);
        self.last = if agent_down { wait.min(AGENT_DOWN) } else { wait };
        self.last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Waits as long as they may be, or half of it.
    fn waits(jitter: fn() -> f64) -> Waits {
        Waits { jitter, ..Waits::new() }
    }

    #[test]
    fn back_off_grows_until_a_session_outlasts_it() {
        for (jitter, share) in [((|| 0.0) as fn() -> f64, 1), (|| 1.0, 2)] {
            let (first, longest) = (HOST.delay(0, 0.0) / share, HOST.delay(u32::MAX, 0.0) / share);
            let mut waits = waits(jitter);
            for _ in 0..10 {
                waits.after(None, false);
            }
            let short = waits.after(Some(first), false);
            assert!(short >= longest, "a session shorter than the wait for it");
            assert!(waits.after(Some(longest * 3), false) <= first * 2);
            assert!(waits.after(None, false) >= first * 2, "and from there they grow again");
        }
    }

    #[test]
    fn fm_01_a_restarted_agent_is_redialled_within_seconds() {
        let mut waits = waits(|| 0.0);
        for _ in 0..20 {
            assert!(waits.after(None, true) <= AGENT_DOWN);
        }
        let longest = HOST.delay(u32::MAX, 0.0);
        assert!(waits.after(None, false) >= longest, "the host itself is gone by now");
    }
}
