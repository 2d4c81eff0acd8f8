//! Whether far more requests fail than before a revision went live. Pure.
//!
//! Times are those at which the failed requests *began*: one that the predecessor was still
//! answering, or that was held while nothing served, says nothing about the revision.

use std::time::Duration;

use jiff::Timestamp;

use crate::model::failed_requests::{Counts, Gap};

/// Failures this recent count.
const WINDOW: Duration = Duration::from_secs(30);
/// The least number of failures, regardless of the rate before.
const LEAST: u64 = 10;
/// And at least this many times the rate before.
const TIMES: f64 = 5.0;
/// First and last must be at least this far apart: one bad moment does not make a bad revision.
const SPREAD: Duration = Duration::from_secs(10);
/// How much of 'before' must be known to tell how much usually fails. Little is enough: an app may
/// be changed soon after its host was set up.
const LEAST_KNOWN: Duration = Duration::from_secs(1);
/// How far back 'before' reaches.
const BEFORE: Duration = Duration::from_mins(5);

/// Failed requests in [`WINDOW`], now and before.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rates {
    /// Since it went live.
    pub now: u64,
    pub before: f64,
}

impl Rates {
    /// [`WINDOW`] in seconds.
    pub const SECONDS: u64 = WINDOW.as_secs();
}

/// Failed requests of one app, as far as the log reaches.
#[derive(Debug, Clone, Copy, Default)]
pub struct Failed<'a> {
    /// Failures by when they began; `None`: none.
    pub counts: Option<&'a Counts>,
    /// Where lines were lost.
    pub gaps: &'a [Gap],
    /// Since when none is missing, except in the gaps; `None`: there is no log.
    pub known_since: Option<Timestamp>,
}

impl Failed<'_> {
    fn within(&self, from: Timestamp, until: Timestamp) -> impl Iterator<Item = (i64, u32)> {
        self.counts.into_iter().flat_map(move |counts| counts.within(from, until))
    }
}

/// Failed requests in [`WINDOW`] on average before `switched`; `None`: too little is known of that
/// time to judge anything by it.
pub fn before(failed: Failed<'_>, switched: Timestamp) -> Option<f64> {
    let from = earlier(switched, BEFORE).max(failed.known_since?);
    let span = Duration::try_from(switched.duration_since(from)).ok()?;
    let lost: Duration = failed.gaps.iter().map(|gap| gap.within(from, switched)).sum();
    let span = Some(span.saturating_sub(lost)).filter(|span| *span >= LEAST_KNOWN)?;
    let count: u64 = failed.within(from, switched).map(|(_, count)| u64::from(count)).sum();
    Some(ratio(count) * WINDOW.as_secs_f64() / span.as_secs_f64())
}

/// Judges, at `now`, the requests that began after `steady`, since when the revision has served
/// alone and without a break. Lost lines count in favour of the revision: it is judged by the rest.
pub fn far_more(
    failed: Failed<'_>,
    before: f64,
    steady: Timestamp,
    now: Timestamp,
) -> Option<Rates> {
    let from = earlier(now, WINDOW).max(steady);
    // The current second counts, too.
    let until = now.checked_add(Duration::from_secs(1)).ok()?;
    let (mut count, mut first, mut last) = (0, None, None);
    for (second, more) in failed.within(from, until) {
        count += u64::from(more);
        first = first.or(Some(second));
        last = Some(second);
    }
    let spread = last?.abs_diff(first?) >= SPREAD.as_secs();
    let enough = count >= LEAST && ratio(count) >= TIMES * before;
    (spread && enough).then_some(Rates { now: count, before })
}

fn earlier(at: Timestamp, by: Duration) -> Timestamp {
    at.checked_sub(by).unwrap_or(Timestamp::MIN)
}

fn ratio(count: u64) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_000_000 + second).unwrap()
    }

    fn counted(began: &[Timestamp]) -> Counts {
        began.iter().copied().collect()
    }

    fn failed(counts: &Counts) -> Failed<'_> {
        Failed { counts: Some(counts), gaps: &[], known_since: Some(at(-10_000)) }
    }

    #[test]
    fn ten_failures_over_ten_seconds_are_far_more_than_none() {
        let began: Vec<_> = (1..=11).map(at).collect();
        let all = counted(&began);
        let rates = far_more(failed(&all), 0.0, at(0), at(11)).unwrap();
        assert_eq!(rates, Rates { now: 11, before: 0.0 });
        assert_eq!(far_more(failed(&counted(&began[..9])), 0.0, at(0), at(11)), None, "too few");
        assert_eq!(far_more(failed(&all), 2.5, at(0), at(11)), None, "it was as bad before");
        assert_eq!(far_more(failed(&all), 0.0, at(8), at(11)), None, "it did not serve yet");
        assert_eq!(far_more(failed(&all), 0.0, at(0), at(60)), None, "that is over");
        let moment = counted(&[at(5); 1_000]);
        assert_eq!(far_more(failed(&moment), 0.0, at(0), at(11)), None, "one bad moment");
    }

    #[test]
    fn the_baseline_averages_over_the_known_time() {
        let counts = counted(&(-100..0).map(at).collect::<Vec<_>>());
        assert_eq!(before(failed(&counts), at(0)), Some(10.0));
        let known = |known_since| Failed { known_since, ..failed(&counts) };
        assert_eq!(before(known(Some(at(-60))), at(0)), Some(30.0));
        assert_eq!(before(known(Some(at(-15))), at(0)), Some(30.0));
        for known_since in [None, Some(at(0)), Some(at(5))] {
            assert_eq!(before(known(known_since), at(0)), None);
        }
    }

    /// A neighbour floods the host with errors, before the change and after it. However little is
    /// known of the time before, the revision is not at fault.
    #[test]
    fn a_steady_flood_is_not_blamed_on_the_revision() {
        let counts = counted(&(-400..60).map(at).collect::<Vec<_>>());
        for known in 1..400 {
            let failed = Failed { known_since: Some(at(-known)), ..failed(&counts) };
            let Some(before) = before(failed, at(0)) else { continue };
            assert_eq!(far_more(failed, before, at(0), at(40)), None, "known for {known} s");
        }
    }

    /// A gap does not count as time without failures.
    #[test]
    fn fm_60_log_gaps_do_not_count_as_time_without_failures() {
        let counts = counted(&(-300..-150).map(at).collect::<Vec<_>>());
        let gaps = [Gap { from: at(-150), until: at(0) }];
        assert_eq!(before(failed(&counts), at(0)), Some(15.0));
        assert_eq!(before(Failed { gaps: &gaps, ..failed(&counts) }, at(0)), Some(30.0));
        let all = [Gap { from: at(-400), until: at(0) }];
        assert_eq!(
            before(Failed { gaps: &all, ..failed(&counts) }, at(0)),
            None,
            "nothing is known"
        );
        // Failures that were lost while it serves are not made up.
        let counts = counted(&[1, 2, 3, 4, 5, 16, 17, 18, 19, 20].map(at));
        let gaps = [Gap { from: at(5), until: at(16) }];
        let rates = far_more(Failed { gaps: &gaps, ..failed(&counts) }, 0.0, at(0), at(20));
        assert_eq!(rates, Some(Rates { now: 10, before: 0.0 }));
    }

    proptest! {
        /// The order of lines, old failures, and failures in the clock's future change nothing;
        /// more failures never acquit; few never convict.
        #[test]
        fn only_failures_while_the_revision_serves_count(
            seconds in proptest::collection::vec(-400_i64..400, 0..80),
            before in 0.0_f64..20.0,
            steady in 0_i64..30,
        ) {
            let now = at(30);
            let began: Vec<_> = seconds.iter().copied().map(at).collect();
            let all = counted(&began);
            let verdict = far_more(failed(&all), before, at(steady), now);
            let own: Vec<_> =
                began.iter().copied().filter(|t| (at(steady)..=now).contains(t)).collect();
            prop_assert_eq!(far_more(failed(&counted(&own)), before, at(steady), now), verdict);
            if verdict.is_some() {
                let count = u64::try_from(own.len()).unwrap();
                prop_assert!(count >= LEAST && ratio(count) >= 5.0 * before);
                let more: Vec<_> = began.iter().copied().chain([now]).collect();
                let more = counted(&more);
                prop_assert!(far_more(failed(&more), before, at(steady), now).is_some());
                // If the clock was set a year ahead or back, nothing is seen at all.
                for jump in [31_536_000, -31_536_000] {
                    let jumped = at(30 + jump);
                    prop_assert_eq!(far_more(failed(&all), before, at(steady), jumped), None);
                }
            }
        }
    }
}
