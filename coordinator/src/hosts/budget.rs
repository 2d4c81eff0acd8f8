//! Limits per host: bytes, frames, durable reports and connections per minute. A healthy agent
//! stays far below; a compromised one must not take the database from all other hosts.

use std::time::Duration;

use buddo_shared::host_wire::report::Frame;
use tokio::time::Instant;

/// The period of the limits. A host that was silent for this long has its full budget.
pub(super) const WINDOW: Duration = Duration::from_mins(1);

/// Bytes per minute. The status of a thousand apps is less than one MiB.
const BYTES: u64 = 16 * 1024 * 1024;
/// Frames per minute, each probe in a list counted as one: each costs a read.
const FRAMES: u64 = 60_000;
/// Durable reports per minute: each costs a write. A thousand apps deployed at once make eight
/// each.
const REPORTS: u64 = 12_000;
/// Connections per minute: each gets the whole document. An agent that crashes on receiving it and
/// is restarted every few seconds stays below.
const CONNECTIONS: u64 = 30;

/// The host exceeded its budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the host sends more reports, or ends more connections, than a thousand apps can make; it is \
     disconnected for {} s: look at its agent, somebody else may run it",
    WINDOW.as_secs()
)]
pub(super) struct OverBudget;

/// The remaining budget of one host. It outlives connections, so that reconnecting does not reset
/// it.
#[derive(Debug)]
pub(super) struct Budget {
    bytes: Bucket,
    frames: Bucket,
    reports: Bucket,
    connections: Bucket,
}

impl Budget {
    pub(super) fn new(now: Instant) -> Self {
        let bucket = |most| {
            let each = WINDOW.as_secs().saturating_mul(1_000_000_000) / most;
            Bucket { each, used_until: now }
        };
        Self {
            bytes: bucket(BYTES),
            frames: bucket(FRAMES),
            reports: bucket(REPORTS),
            connections: bucket(CONNECTIONS),
        }
    }

    /// Counts an established connection.
    pub(super) fn connected(&mut self, now: Instant) -> Result<(), OverBudget> {
        self.connections.take(1, now)
    }

    /// Counts received bytes.
    pub(super) fn read(&mut self, bytes: usize, now: Instant) -> Result<(), OverBudget> {
        self.bytes.take(u64::try_from(bytes).unwrap_or(u64::MAX), now)
    }

    /// Counts a line, readable or not.
    pub(super) fn parsed(&mut self, frame: Option<&Frame>, now: Instant) -> Result<(), OverBudget> {
        let units = match frame {
            Some(Frame::Checked(probes)) => u64::try_from(probes.len()).unwrap_or(u64::MAX).max(1),
            _ => 1,
        };
        self.frames.take(units, now)?;
        match frame {
            Some(Frame::Report(_)) => self.reports.take(1, now),
            _ => Ok(()),
        }
    }
}

/// A token bucket, stored as the time at which it is full again (generic cell rate algorithm): no
/// refill needed.
#[derive(Debug)]
struct Bucket {
    /// Nanoseconds until a token is available again.
    each: u64,
    used_until: Instant,
}

impl Bucket {
    fn take(&mut self, tokens: u64, now: Instant) -> Result<(), OverBudget> {
        let since = self.used_until.max(now);
        let cost = Duration::from_nanos(self.each.saturating_mul(tokens));
        let until = since.checked_add(cost).filter(|until| *until - now <= WINDOW);
        // A refused request uses up what was left, but no more: a minute later the budget is full
        // again, however much was asked for.
        self.used_until = until.unwrap_or(now + WINDOW);
        until.map(drop).ok_or(OverBudget)
    }
}

#[cfg(test)]
mod tests {
    use buddo_shared::host_wire::report::{Checked, Report, ReportBody};
    use buddo_shared::model::id::DeploymentId;
    use jiff::Timestamp;
    use proptest::prelude::*;

    use super::*;

    type Say = Box<dyn Fn(&mut Budget, Instant) -> bool>;

    fn report() -> Frame {
        let body = ReportBody::Removed { id: DeploymentId::new(uuid::Uuid::nil()) };
        Frame::Report(Report { seq: 1, at: Timestamp::UNIX_EPOCH, body })
    }

    #[test]
    fn fm_67_a_busy_agent_stays_within_its_budget() {
        let start = Instant::now();
        let mut budget = Budget::new(start);
        // A thousand apps deployed at once, then probed every half minute for an hour.
        for _ in 0..8 * 1000 {
            budget.read(600, start).unwrap();
            budget.parsed(Some(&report()), start).unwrap();
        }
        let id = DeploymentId::new(uuid::Uuid::nil());
        let probes = Frame::Checked(vec![Checked { id, at: Timestamp::UNIX_EPOCH }; 1000]);
        for half_minutes in 0..120 {
            let now = start + WINDOW / 2 * half_minutes;
            budget.read(100_000, now).unwrap();
            budget.parsed(Some(&probes), now).unwrap();
        }
    }

    #[test]
    fn fm_67_a_flood_is_cut_off_for_one_minute() {
        let start = Instant::now();
        let cases: [(&str, Say); 5] = [
            ("connections", Box::new(|budget, now| budget.connected(now).is_ok())),
            ("bytes", Box::new(|budget, now| budget.read(1024 * 1024, now).is_ok())),
            ("reports", Box::new(|budget, now| budget.parsed(Some(&report()), now).is_ok())),
            ("unreadable lines", Box::new(|budget, now| budget.parsed(None, now).is_ok())),
            (
                "a long list",
                Box::new(|budget, now| {
                    let id = DeploymentId::new(uuid::Uuid::nil());
                    let probes = vec![Checked { id, at: Timestamp::UNIX_EPOCH }; 20_000];
                    budget.parsed(Some(&Frame::Checked(probes)), now).is_ok()
                }),
            ),
        ];
        for (what, say) in cases {
            let mut budget = Budget::new(start);
            let said = (0..100_000).take_while(|_| say(&mut budget, start)).count();
            assert!((3..100_000).contains(&said), "{what}: {said}");
            assert!(!say(&mut budget, start + Duration::from_nanos(1)), "{what}");
            assert!(say(&mut budget, start + WINDOW), "{what}");
        }
    }

    #[test]
    fn costlier_frames_are_cut_off_sooner() {
        let start = Instant::now();
        let most = |frame: &Frame| {
            let mut budget = Budget::new(start);
            (0..FRAMES).take_while(|_| budget.parsed(Some(frame), start).is_ok()).count() as u64
        };
        let id = DeploymentId::new(uuid::Uuid::nil());
        let probes = |n| Frame::Checked(vec![Checked { id, at: Timestamp::UNIX_EPOCH }; n]);
        assert_eq!((most(&probes(1)), most(&probes(1000))), (FRAMES, FRAMES / 1000));
        assert_eq!(most(&report()), REPORTS);
    }

    proptest! {
        /// In any minute at most two budgets get through: the saved one, and the one refilled
        /// meanwhile.
        #[test]
        fn any_minute_admits_at_most_two_budgets(
            takes in prop::collection::vec((0..3000u64, 1..400_000usize), 1..200),
        ) {
            let start = Instant::now();
            let mut budget = Budget::new(start);
            let (mut now, mut accepted) = (start, Vec::new());
            for (later, bytes) in takes {
                now += Duration::from_millis(later);
                if budget.read(bytes, now).is_ok() {
                    accepted.push((now, bytes));
                }
            }
            for (index, (from, _)) in accepted.iter().enumerate() {
                let minute = accepted[index..].iter().take_while(|(at, _)| *at - *from < WINDOW);
                let sum: usize = minute.map(|(_, bytes)| bytes).sum();
                // The price of a byte is rounded down to a nanosecond.
                prop_assert!(sum as u64 <= 2 * BYTES + BYTES / 100);
            }
        }
    }
}
