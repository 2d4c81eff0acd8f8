//! Whether the machine's clock is trusted. While it is not, nothing is signed and nothing is
//! deleted because of its age (`docs/decisions/0020-clock.md`).
//!
//! ```text
//!            as expected, by the monotonic clock and the time kept on disk
//!          ┌───────────────────────────────────────────────────────────────┐
//!          ▼                                                               │
//!      trusted ─── not as expected ────────► doubted ── back again ────────┤
//!                                               │                          │
//!                                               └─ most hosts agree, ──────┘
//!                                                  confirmed, an hour steady
//! ```

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use buddo_runtime::clock::Clock;
use buddo_shared::model::id::HostId;
use jiff::{SignedDuration, Timestamp};

/// How far wall time may be from where it should be while the process runs.
const SLACK: SignedDuration = SignedDuration::from_mins(10);
/// The same at a start: how long the process was down is unknown. Hosts refuse a document from the
/// future anyway, and little expires within an hour that would not expire anyway.
const START_SLACK: SignedDuration = SignedDuration::from_hours(1);
/// How far a host's clock may differ and still agree: as far as hosts accept documents.
const AGREES: SignedDuration = SignedDuration::from_mins(5);
/// The clock is trusted after this long without another jump.
const PROBATION: Duration = Duration::from_hours(1);

/// The clock shows a different time than expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the clock of the coordinator's machine shows {now:.0}, where {expected:.0} was expected: \
     nothing is signed or forgotten until it is right again, most hosts agree with it, it has run \
     steadily for an hour, or `buddo-coordinator clock confirm` says that it is right"
)]
pub struct Doubted {
    /// What it should show.
    pub expected: Timestamp,
    pub now: Timestamp,
}

/// Wall time at a moment of the steady clock.
#[derive(Debug, Clone, Copy)]
struct Reading {
    wall: Timestamp,
    steady: Duration,
}

impl Reading {
    /// Its wall time at another moment.
    fn at(self, steady: Duration) -> Timestamp {
        let passed = SignedDuration::try_from(steady.saturating_sub(self.steady));
        passed.ok().and_then(|passed| self.wall.checked_add(passed).ok()).unwrap_or(Timestamp::MAX)
    }
}

fn apart(one: Timestamp, other: Timestamp) -> SignedDuration {
    one.duration_since(other).abs()
}

#[derive(Debug)]
struct Belief {
    /// The last trusted reading.
    anchor: Reading,
    slack: SignedDuration,
    doubt: Option<Doubt>,
    /// How many hosts there are.
    hosts: usize,
}

#[derive(Debug)]
struct Doubt {
    /// The first reading after the last jump.
    since: Reading,
    /// What the hosts' clocks have shown since.
    heard: BTreeMap<HostId, Reading>,
}

impl Doubt {
    fn is_over(&self, now: Reading, hosts: usize) -> bool {
        let agree = |heard: &&Reading| apart(heard.at(now.steady), now.wall) <= AGREES;
        let agreeing = self.heard.values().filter(agree).count();
        // A majority of all hosts, not just of those heard from: a lying host may be the first.
        (hosts > 0 && agreeing * 2 > hosts)
            || now.steady.saturating_sub(self.since.steady) >= PROBATION
    }
}

impl Belief {
    fn judge(&mut self, now: Reading) -> Result<(), Doubted> {
        let expected = self.anchor.at(now.steady);
        if apart(now.wall, expected) <= self.slack {
            self.believe(now);
            return Ok(());
        }
        match &self.doubt {
            Some(doubt) if apart(now.wall, doubt.since.at(now.steady)) <= SLACK => {
                if doubt.is_over(now, self.hosts) {
                    self.believe(now);
                    return Ok(());
                }
            }
            // Another jump: what was heard before it no longer counts.
            _ => self.doubt = Some(Doubt { since: now, heard: BTreeMap::new() }),
        }
        Err(Doubted { expected, now: now.wall })
    }

    fn believe(&mut self, now: Reading) {
        self.anchor = now;
        self.slack = SLACK;
        self.doubt = None;
    }
}

/// The clock, and whether it is trusted.
pub struct Timekeeper {
    clock: Arc<dyn Clock>,
    belief: Mutex<Belief>,
}

impl std::fmt::Debug for Timekeeper {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Timekeeper").field("belief", &self.belief).finish_non_exhaustive()
    }
}

impl Timekeeper {
    /// Trusts what the clock shows now.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        let anchor = Reading { wall: clock.now(), steady: clock.steady() };
        let belief = Belief { anchor, slack: SLACK, doubt: None, hosts: 0 };
        Self { clock, belief: Mutex::new(belief) }
    }

    /// After a start: the time was `seen` when this program last ran.
    pub fn resume(&self, seen: Timestamp) {
        let anchor = Reading { wall: seen, steady: self.clock.steady() };
        let mut belief = self.lock();
        let hosts = belief.hosts;
        *belief = Belief { anchor, slack: START_SLACK, doubt: None, hosts };
    }

    /// Whether the clock is trusted now. Check before doing anything irreversible because of the
    /// time.
    pub fn check(&self) -> Result<(), Doubted> {
        let mut belief = self.lock();
        belief.judge(self.read())
    }

    /// The current time, if it is trusted.
    pub fn believed(&self) -> Result<Timestamp, Doubted> {
        let mut belief = self.lock();
        let now = self.read();
        belief.judge(now).map(|()| now.wall)
    }

    /// Sets the number of hosts, of which a majority is needed.
    pub fn set_hosts(&self, hosts: usize) {
        self.lock().hosts = hosts;
    }

    /// Whether the clock is doubted and this host was not heard from yet.
    pub fn wants(&self, host: HostId) -> bool {
        let belief = self.lock();
        belief.doubt.as_ref().is_some_and(|doubt| !doubt.heard.contains_key(&host))
    }

    /// Takes what a host's clock shows right now. Returns whether that ended the doubt.
    pub fn heard(&self, host: HostId, wall: Timestamp) -> bool {
        let mut belief = self.lock();
        let now = self.read();
        let Some(doubt) = &mut belief.doubt else { return false };
        doubt.heard.insert(host, Reading { wall, steady: now.steady });
        belief.judge(now).is_ok()
    }

    /// An administrator confirmed the clock at `at`, by the machine's clock. It counts if that was
    /// after the jump.
    pub fn confirmed(&self, at: Timestamp) {
        let mut belief = self.lock();
        let now = self.read();
        let second = SignedDuration::from_secs(1);
        let said = belief.doubt.as_ref().is_some_and(|doubt| {
            // Stored times are truncated to milliseconds.
            at.duration_since(doubt.since.wall) > -second && at.duration_since(now.wall) < SLACK
        });
        if said {
            belief.believe(now);
        }
    }

    fn read(&self) -> Reading {
        Reading { wall: self.clock.now(), steady: self.clock.steady() }
    }

    fn lock(&self) -> MutexGuard<'_, Belief> {
        self.belief.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
