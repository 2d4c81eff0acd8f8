//! What probes say about one container: a pure state machine over single probe outcomes.
//!
//! ```text
//!               healthy_after good                unhealthy_after bad
//!   Starting ──────────────────────► Healthy ◄──────────────────────► Unhealthy
//!   Assumed  ──────────────────────►    ▲          healthy_after good
//!      └──────────── unhealthy_after bad ──────────────────────────────►
//! ```
//!
//! A starting container never becomes unhealthy: the plan decides how long a start may take.
//! `Assumed` is a container that was serving when the agent came back: it keeps its traffic until
//! probes say otherwise, so that an agent restart does not disturb visitors.

use std::collections::HashMap;
use std::time::Duration;

use buddo_shared::host_wire::report::Health;
use buddo_shared::model::probe::Probe;
use jiff::Timestamp;

/// What somebody waits for is probed at least this often.
const AWAITED: Duration = Duration::from_millis(500);

/// What one probe saw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProbeOutcome {
    /// An answer that counts as healthy.
    Healthy,
    /// An answer that does not, or the connection was closed before one; with the reason in words,
    /// such as `status 503`. It came promptly: the app's own doing.
    Unhealthy(String),
    /// No answer in time, or the host lacked the resources to probe; with the reason in words. The
    /// app may hang, or the host may be starved.
    TimedOut(String),
    /// Nothing listens at the address. The port forwarder accepts before the app does, so it is the
    /// forwarder that is missing.
    Unreachable,
}

/// Trackers of all probed containers, by name. A plan looks some up several times: in an ordered
/// map, comparing names that all begin alike took most of the planning time.
pub type Trackers = HashMap<String, Tracker>;

/// What is known about a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Level {
    /// Started by the agent and not yet seen to answer.
    Starting,
    /// It served before the agent came back, and has not been probed since.
    Assumed,
    /// Enough good probes in a row.
    Healthy,
    /// It answered once, and enough probes in a row have failed since.
    Unhealthy,
}

impl Level {
    /// Whether visitors may be sent to it. An unhealthy container may still answer some of them;
    /// removing it before another serves would help nobody.
    pub fn may_serve(self) -> bool {
        !matches!(self, Self::Starting)
    }

    /// The word for reports.
    pub fn health(self) -> Health {
        match self {
            Self::Starting | Self::Assumed => Health::Unknown,
            Self::Healthy => Health::Healthy,
            Self::Unhealthy => Health::Unhealthy,
        }
    }
}

/// How a probe failed, as far as that says who is at fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Failed {
    /// Promptly: the app answered with an error, or hung up.
    Promptly,
    /// No answer in time.
    TimedOut,
    /// Nothing forwards its port.
    Unreachable,
}

/// The probes of one container since it was started or adopted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tracker {
    level: Level,
    in_a_row: u32,
    last_good: bool,
    /// How the last failed probe failed.
    failed: Option<Failed>,
    probes: u32,
    /// When the last probe ended.
    pub checked_at: Option<Timestamp>,
    /// Why the last probe failed, if it did.
    pub reason: Option<String>,
}

impl Tracker {
    /// A container not probed yet, at `level`.
    pub fn new(level: Level) -> Self {
        Self {
            level,
            in_a_row: 0,
            last_good: true,
            failed: None,
            probes: 0,
            checked_at: None,
            reason: None,
        }
    }

    /// Whether nothing forwarded its address at the last probe: it cannot answer anybody, however
    /// long one waits.
    pub fn is_unreachable(&self) -> bool {
        !self.last_good && self.failed == Some(Failed::Unreachable)
    }

    /// Whether it answered before and now fails its probes the way apps on a starved host do: by
    /// timeouts. A prompt error is the app's own doing, however many apps have one; otherwise one
    /// tenant's apps could hold up the others'. Apps that fail together do so for a while before
    /// the first is declared unhealthy, so the last probe counts already.
    pub fn is_failing(&self) -> bool {
        let sick = self.level == Level::Unhealthy || self.level.may_serve() && !self.last_good;
        sick && self.failed == Some(Failed::TimedOut)
    }

    /// Whether it answers as it did before: its next probe is not urgent.
    pub fn is_steady(&self) -> bool {
        self.level == Level::Healthy && self.last_good
    }

    /// What is known now.
    pub fn level(&self) -> Level {
        self.level
    }

    /// Records one outcome; true if the level changed.
    pub fn record(&mut self, probe: &Probe, outcome: ProbeOutcome, at: Timestamp) -> bool {
        let good = outcome == ProbeOutcome::Healthy;
        self.in_a_row = if good == self.last_good { self.in_a_row.saturating_add(1) } else { 1 };
        self.last_good = good;
        self.probes = self.probes.saturating_add(1);
        self.checked_at = Some(at);
        let (failed, reason) = match outcome {
            // The earlier kind of failure counts until it is healthy again.
            ProbeOutcome::Healthy => (self.failed, None),
            ProbeOutcome::Unhealthy(reason) => (Some(Failed::Promptly), Some(reason)),
            ProbeOutcome::TimedOut(reason) => (Some(Failed::TimedOut), Some(reason)),
            ProbeOutcome::Unreachable => {
                (Some(Failed::Unreachable), Some("connection refused".to_owned()))
            }
        };
        (self.failed, self.reason) = (failed, reason);
        let level = match self.level {
            // any → Healthy
            _ if good && self.in_a_row >= probe.healthy_after => Level::Healthy,
            // Assumed | Healthy → Unhealthy
            Level::Assumed | Level::Healthy if !good && self.in_a_row >= probe.unhealthy_after => {
                Level::Unhealthy
            }
            same => same,
        };
        std::mem::replace(&mut self.level, level) != level
    }

    /// How long to wait before the next probe. A starting container is probed fast, 10 ms doubling
    /// up to [`AWAITED`], because its operator is waiting; others at their interval, jittered by a
    /// tenth to spread the probes of many containers. What does not serve yet (`serves`) is awaited,
    /// too, and may take over only while it answers.
    pub fn next_delay(&self, probe: &Probe, serves: bool, jitter: f64) -> Duration {
        if self.level == Level::Starting {
            let doubled = 10_u64 << self.probes.saturating_sub(1).min(6);
            return Duration::from_millis(doubled).min(AWAITED);
        }
        if self.probes == 0 {
            return Duration::ZERO;
        }
        let interval = Duration::from_millis(u64::from(probe.interval_ms.max(100)));
        let spread = interval.mul_f64(1.05 - 0.1 * jitter.clamp(0.0, 1.0));
        if serves { spread } else { spread.min(AWAITED) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(level: Level, outcomes: &[bool]) -> Level {
        let probe = Probe { healthy_after: 2, unhealthy_after: 3, ..Probe::default() };
        let mut tracker = Tracker::new(level);
        for good in outcomes {
            let outcome = if *good {
                ProbeOutcome::Healthy
            } else {
                ProbeOutcome::Unhealthy("status 503".to_owned())
            };
            tracker.record(&probe, outcome, Timestamp::UNIX_EPOCH);
        }
        tracker.level()
    }

    #[test]
    fn thresholds_count_consecutive_outcomes() {
        use Level::{Assumed, Healthy, Starting, Unhealthy};
        for (from, outcomes, to) in [
            (Starting, &[true][..], Starting),
            (Starting, &[true, false, true], Starting),
            (Starting, &[true, true], Healthy),
            (Starting, &[false; 50], Starting),
            (Assumed, &[false, false], Assumed),
            (Assumed, &[false, false, false], Unhealthy),
            (Assumed, &[true, true], Healthy),
            (Healthy, &[false, false, true, false, false], Healthy),
            (Healthy, &[false, false, false], Unhealthy),
            (Unhealthy, &[true], Unhealthy),
            (Unhealthy, &[true, true], Healthy),
        ] {
            assert_eq!(run(from, outcomes), to, "{from:?} {outcomes:?}");
        }
    }

    /// Neither an app that answers with errors nor one that nothing forwards to shows that its host
    /// is starved.
    #[test]
    fn fm_58_only_timeouts_count_as_host_starvation() {
        let probe = Probe { healthy_after: 2, unhealthy_after: 3, ..Probe::default() };
        let late = ProbeOutcome::TimedOut("no answer within 1000 ms".to_owned());
        let error = ProbeOutcome::Unhealthy("status 503".to_owned());
        let mut tracker = Tracker::new(Level::Assumed);
        let mut fails = |outcome: &ProbeOutcome, times: u32| {
            (0..times).for_each(|_| {
                tracker.record(&probe, outcome.clone(), Timestamp::UNIX_EPOCH);
            });
            (tracker.level() == Level::Unhealthy, tracker.is_failing())
        };
        assert_eq!(fails(&error, 1), (false, false));
        assert_eq!(fails(&late, 1), (false, true), "many are late before one is known to be sick");
        assert_eq!(fails(&error, 1), (true, false));
        assert_eq!(fails(&ProbeOutcome::Unreachable, 1), (true, false));
        assert_eq!(fails(&late, 1), (true, true));
        // It is not healthy yet, and its kind of failure is known.
        assert_eq!(fails(&ProbeOutcome::Healthy, 1), (true, true));
        assert_eq!(fails(&ProbeOutcome::Healthy, 1), (false, false));
        // A container that never answered proves nothing: it may still be starting.
        let mut starting = Tracker::new(Level::Starting);
        starting.record(&probe, late, Timestamp::UNIX_EPOCH);
        assert!(!starting.is_failing());
    }

    #[test]
    fn a_starting_container_is_probed_with_back_off() {
        let probe = Probe::default();
        let mut tracker = Tracker::new(Level::Starting);
        let mut delays = Vec::new();
        for _ in 0..8 {
            let refused = ProbeOutcome::Unreachable;
            tracker.record(&probe, refused, Timestamp::UNIX_EPOCH);
            delays.push(tracker.next_delay(&probe, true, 0.5).as_millis());
        }
        assert_eq!(delays, [10, 20, 40, 80, 160, 320, 500, 500]);
    }

    #[test]
    fn a_steady_container_is_probed_at_its_interval() {
        let probe = Probe::default();
        let mut tracker = Tracker::new(Level::Assumed);
        assert_eq!(tracker.next_delay(&probe, true, 0.5), Duration::ZERO);
        tracker.record(&probe, ProbeOutcome::Healthy, Timestamp::UNIX_EPOCH);
        assert_eq!(tracker.next_delay(&probe, true, 0.5), Duration::from_secs(10));
        assert_eq!(tracker.next_delay(&probe, true, 0.0), Duration::from_millis(10_500));
    }
}
