//! Whether Podman's events still arrive, judged by those the agent itself should cause. Pure.
//!
//! A stream can hang and stay open. Silence alone does not show that, because nothing may happen
//! for hours; silence after the agent has started or removed a container does.
//!
//! ```text
//!   an effect of ours ──► owed ── a line comes ──► hearing
//!                           │                        ▲
//!                           └─ too late ──► deaf ────┘ (a new stream is requested, and
//!                                                       containers are listed often)
//! ```
//!
//! A step without effect (starting a running container) raises a false alarm, which costs one new
//! stream and a few lists.

use std::time::Duration;

use tokio::time::Instant;

/// How late an event may be.
const PATIENCE: Duration = Duration::from_secs(2);

/// Lines received and events owed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EventLiveness {
    lines: u64,
    owed: Option<Instant>,
    deaf: bool,
}

impl EventLiveness {
    /// This many lines have come so far.
    pub fn hear(&mut self, lines: u64) {
        if self.lines != lines {
            *self = Self { lines, ..Self::default() };
        }
    }

    /// A step that Podman reports is done; when it began, `before` lines had come.
    pub fn expect(&mut self, before: u64, now: Instant) {
        if before == self.lines {
            self.owed.get_or_insert(now + PATIENCE);
        }
    }

    /// Whether to replace the stream: no line came for what was done.
    pub fn overdue(&mut self, now: Instant) -> bool {
        let overdue = self.owed.is_some_and(|due| due <= now);
        if overdue {
            self.owed = None;
            self.deaf = true;
        }
        overdue
    }

    /// When to look again.
    pub fn due(&self) -> Option<Instant> {
        self.owed
    }

    /// Whether no line came since the last step that should have caused one.
    pub fn is_deaf(&self) -> bool {
        self.deaf
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_after_an_effect_means_a_dead_stream_until_a_line_arrives() {
        let (mut event_liveness, begun) = (EventLiveness::default(), Instant::now());
        event_liveness.hear(7);
        assert!(!event_liveness.overdue(begun + Duration::from_hours(9)), "nothing was done");
        event_liveness.expect(7, begun);
        assert_eq!(event_liveness.due(), Some(begun + PATIENCE));
        assert!(!event_liveness.overdue(begun + PATIENCE / 2) && !event_liveness.is_deaf());
        assert!(event_liveness.overdue(begun + PATIENCE) && event_liveness.is_deaf());
        assert!(!event_liveness.overdue(begun + PATIENCE * 2), "one new stream for one effect");
        event_liveness.hear(7);
        assert!(event_liveness.is_deaf(), "a new stream that is silent, too, proves nothing");
        event_liveness.hear(8);
        assert!(!event_liveness.is_deaf());
    }

    #[test]
    fn a_line_received_before_the_effect_completes_counts() {
        let mut event_liveness = EventLiveness::default();
        event_liveness.hear(8);
        event_liveness.expect(7, Instant::now());
        assert_eq!(event_liveness.due(), None);
    }

    #[test]
    fn later_effects_do_not_put_the_alarm_off() {
        let (mut event_liveness, begun) = (EventLiveness::default(), Instant::now());
        for ms in (0..1_900).step_by(100) {
            event_liveness.expect(0, begun + Duration::from_millis(ms));
        }
        assert_eq!(event_liveness.due(), Some(begun + PATIENCE));
    }
}
