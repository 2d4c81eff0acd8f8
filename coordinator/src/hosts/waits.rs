//! Back-off of a host's task between two sessions.

use std::time::Duration;

use backon::{BackoffBuilder as _, ExponentialBackoff, ExponentialBuilder};

/// The first wait after a failure, and the longest; jitter may double each.
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(30));

/// The longest wait for an agent on a host that is up: it is most likely restarting, and a refused
/// connection costs nothing.
const AGENT_DOWN: Duration = Duration::from_secs(2);

/// The back-off state of one host.
pub(super) struct Waits {
    waits: ExponentialBackoff,
    last: Duration,
}

impl Waits {
    pub(super) fn new() -> Self {
        Self { waits: back_off(), last: Duration::ZERO }
    }

    /// The wait after a session that was connected for `lasted`, or never. `agent_down`: nothing
    /// listens on the host.
    ///
    /// A session that lasted longer than the wait before it shows that the host is reachable and
    /// resets the back-off: an agent that died a few times in a row must not wait for its document
    /// like an unreachable one.
    pub(super) fn after(&mut self, lasted: Option<Duration>, agent_down: bool) -> Duration {
        if lasted.is_some_and(|lasted| lasted > self.last) {
            self.waits = back_off();
        }
        let wait = self.waits.next().unwrap_or(BACK_OFF.1);
        self.last = if agent_down { wait.min(AGENT_DOWN) } else { wait };
        self.last
    }
}

fn back_off() -> ExponentialBackoff {
    let (first, longest) = BACK_OFF;
    ExponentialBuilder::new()
        .with_min_delay(first)
        .with_max_delay(longest)
        .without_max_times()
        .with_jitter()
        .build()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_until_a_session_outlasts_them() {
        let (first, longest) = BACK_OFF;
        let mut waits = Waits::new();
        for _ in 0..10 {
            waits.after(None, false);
        }
        let short = waits.after(Some(first), false);
        assert!(short >= longest, "a session shorter than the wait for it");
        assert!(waits.after(Some(longest * 3), false) <= first * 2);
        assert!(waits.after(None, false) >= first * 2, "and from there they grow again");
    }

    #[test]
    fn fm_01_an_agent_that_is_started_again_gets_its_document_within_seconds() {
        let mut waits = Waits::new();
        for _ in 0..20 {
            assert!(waits.after(None, true) <= AGENT_DOWN);
        }
        assert!(waits.after(None, false) >= BACK_OFF.1, "the host itself is gone by now");
    }
}
