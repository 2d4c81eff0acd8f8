//! Failed requests as counters: by host name, and by the second in which each began. Tenants and
//! their visitors decide how many there are; the counters stay bounded.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

/// Seconds for which counters are kept: what auto rollback looks back at, plus a margin.
const KEPT: i64 = 360;
/// Gaps kept apart; beyond this number they are merged.
const MAX_GAPS: usize = 16;
/// In a shorter gap, nothing that matters can have been lost.
const LEAST_GAP: Duration = Duration::from_millis(100);

/// Host names whose requests are counted: those of the document in force.
pub type Names = Arc<BTreeSet<String>>;

/// Failures by second since 1970.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Counts(BTreeMap<i64, u32>);

impl Counts {
    fn add(&mut self, began: Timestamp) {
        let count = self.0.entry(began.as_second()).or_default();
        *count = count.saturating_add(1);
    }

    /// Adds all of `other`: an app has several names.
    pub fn extend(&mut self, other: &Self) {
        for (second, more) in &other.0 {
            let count = self.0.entry(*second).or_default();
            *count = count.saturating_add(*more);
        }
    }

    pub fn total(&self) -> u64 {
        self.0.values().map(|count| u64::from(*count)).sum()
    }

    /// Counts of the seconds that lie wholly between `from` and `until`. A second in which
    /// something changed is neither before nor after.
    pub fn within(&self, from: Timestamp, until: Timestamp) -> impl Iterator<Item = (i64, u32)> {
        let whole = |at: Timestamp| at.as_second() + i64::from(at.subsec_nanosecond() > 0);
        // Nothing is counted before 1970, so rounding towards it does no harm.
        let (from, until) = (whole(from), until.as_second());
        self.0.range(from..until.max(from)).map(|(second, count)| (*second, *count))
    }
}

impl FromIterator<Timestamp> for Counts {
    fn from_iter<T: IntoIterator<Item = Timestamp>>(times: T) -> Self {
        let mut counts = Self::default();
        times.into_iter().for_each(|began| counts.add(began));
        counts
    }
}

/// Log lines were lost between two that were read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gap {
    /// The last line before it.
    pub from: Timestamp,
    /// The first line after it.
    pub until: Timestamp,
}

impl Gap {
    /// How much of the time from `from` to `until` it covers.
    pub fn within(&self, from: Timestamp, until: Timestamp) -> Duration {
        let (from, until) = (self.from.max(from), self.until.min(until));
        Duration::try_from(until.duration_since(from)).unwrap_or_default()
    }
}

/// Requests that were answered with a server error (5xx), by the wall clock of this machine.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FailedRequests {
    /// None is missing since then, except in the gaps; `None`: nothing is logged.
    pub known_since: Option<Timestamp>,
    /// Host name, in lower case and without a port → failures by the second they began.
    pub counts: BTreeMap<String, Counts>,
    /// Where the log outran the reader, oldest first.
    pub gaps: Vec<Gap>,
}

impl FailedRequests {
    pub fn add(&mut self, host: String, began: Timestamp) {
        self.counts.entry(host).or_default().add(began);
    }

    /// Nothing is known of the time between these two.
    pub fn lost(&mut self, from: Timestamp, until: Timestamp) {
        let long = Gap { from, until }.within(from, until) >= LEAST_GAP;
        let full = self.gaps.len() >= MAX_GAPS;
        match self.gaps.last_mut() {
            _ if !long => {}
            Some(last) if full => last.until = last.until.max(until),
            _ => self.gaps.push(Gap { from, until }),
        }
    }

    /// Forgets what is too old, and what is later than `newest`, the time of the last line: the
    /// clock was wrong then.
    pub fn forget(&mut self, newest: Timestamp) {
        let (oldest, last) = (newest.as_second() - KEPT, newest.as_second() + 1);
        self.counts.retain(|_, counts| {
            counts.0 = counts.0.split_off(&oldest);
            let _ = counts.0.split_off(&(last + 1));
            !counts.0.is_empty()
        });
        self.gaps.retain(|gap| (oldest..=last).contains(&gap.until.as_second()));
        let kept = Timestamp::from_second(oldest).ok();
        self.known_since = self.known_since.map(|since| kept.map_or(since, |kept| since.max(kept)));
        // The clock was set back: what is left is known only since now.
        self.known_since = self.known_since.map(|since| since.min(newest));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_000_000 + second).unwrap()
    }

    #[test]
    fn within_counts_only_whole_seconds() {
        let half = |second| at(second) + Duration::from_millis(500);
        let counts: Counts = (0..10).map(half).collect();
        let seconds = |from, until| counts.within(from, until).map(|(s, _)| s - 1_000_000);
        assert!(seconds(at(2), at(5)).eq([2, 3, 4]));
        assert!(seconds(half(2), half(5)).eq([3, 4]));
        assert_eq!(seconds(at(5), at(5)).count() + seconds(at(7), at(2)).count(), 0);
        assert_eq!(counts.total(), 10);
    }

    #[test]
    fn short_gaps_are_ignored_and_excess_gaps_are_merged() {
        let mut log = FailedRequests::default();
        log.lost(at(0), at(0) + Duration::from_millis(20));
        log.lost(at(9), at(5));
        assert_eq!(log.gaps, []);
        (0..100).for_each(|n| log.lost(at(n * 2), at(n * 2 + 1)));
        assert_eq!((log.gaps.len(), log.gaps[15]), (16, Gap { from: at(30), until: at(199) }));
        assert_eq!(log.gaps[0].within(at(0), at(1)), Duration::from_secs(1));
        assert_eq!(log.gaps[0].within(at(1), at(9)), Duration::ZERO);
    }

    #[test]
    fn forgets_old_counts_and_gaps() {
        let mut log = FailedRequests::default();
        log.add("a".to_owned(), at(0));
        log.lost(at(1), at(9));
        log.forget(at(9));
        assert_eq!((log.counts.len(), log.gaps.len()), (1, 1));
        log.forget(at(1_000));
        assert_eq!(log, FailedRequests::default());
    }

    proptest! {
        /// However many fail, and however the clock jumps meanwhile.
        #[test]
        fn fm_60_memory_is_bounded_by_time_not_by_failures(
            jumps in proptest::collection::vec((-40_000_000_i64..40_000_000, 1_i64..2_000), 1..12),
        ) {
            let mut log = FailedRequests { known_since: Some(at(0)), ..FailedRequests::default() };
            for (jump, seconds) in jumps {
                for second in 0..seconds {
                    let now = at(50_000_000 + jump + second);
                    for _ in 0..3 {
                        log.add("a".to_owned(), now);
                        log.add("b".to_owned(), now - Duration::from_mins(1));
                    }
                    log.forget(now);
                    prop_assert!(log.counts.values().all(|c| c.0.len() <= 362));
                    prop_assert!(log.known_since <= Some(now));
                    prop_assert_eq!(log.counts["a"].0[&now.as_second()] % 3, 0);
                }
            }
        }
    }
}
