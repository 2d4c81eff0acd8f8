//! How long a host's task waits between two sessions.

use std::time::Duration;

use backon::{BackoffBuilder as _, ExponentialBackoff, ExponentialBuilder};

/// The first wait after a failure, and the longest; jitter may double each.
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(30));

/// The waits before one host's next sessions.
pub(super) struct Waits {
    waits: ExponentialBackoff,
    last: Duration,
}

impl Waits {
    pub(super) fn new() -> Self {
        Self { waits: back_off(), last: Duration::ZERO }
    }

    /// The wait after a session that was connected for `lasted`, or never.
    ///
    /// One that lasted longer than the wait before it shows that the host can be reached: an agent
    /// that died a few times in a row does not wait for its document as one that is away.
    pub(super) fn after(&mut self, lasted: Option<Duration>) -> Duration {
        if lasted.is_some_and(|lasted| lasted > self.last) {
            self.waits = back_off();
        }
        self.last = self.waits.next().unwrap_or(BACK_OFF.1);
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
            waits.after(None);
        }
        assert!(waits.after(Some(first)) >= longest, "a session shorter than the wait for it");
        assert!(waits.after(Some(longest * 3)) <= first * 2);
        assert!(waits.after(None) >= first * 2, "and from there they grow again");
    }
}
