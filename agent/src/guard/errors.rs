//! Whether far more requests fail than before a revision went live. Pure.
//!
//! Times are those at which the failed requests *began*: one that the predecessor was still
//! answering, or that was held while nothing served, says nothing about the revision.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

/// What failed so lately counts.
const WINDOW: Duration = Duration::from_secs(30);
/// So many failures at least, whatever it was before.
const LEAST: usize = 10;
/// And so many times what it was before.
const TIMES: f64 = 5.0;
/// They must lie apart at least so far from first to last: one bad moment is no bad revision.
const SPREAD: Duration = Duration::from_secs(10);
/// How far back 'before' reaches.
const BEFORE: Duration = Duration::from_mins(5);

/// Failed requests in [`WINDOW`], now and before.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rates {
    /// Since it went live.
    pub now: usize,
    /// On average before.
    pub before: f64,
}

impl Rates {
    /// In so many seconds.
    pub const SECONDS: u64 = WINDOW.as_secs();
}

/// Failed requests of one app, as far as the log reaches.
#[derive(Debug, Clone, Copy, Default)]
pub struct Failed<'a> {
    /// When each began, in any order.
    pub began: &'a [Timestamp],
    /// None is missing since then; `None`: there is no log.
    pub known_since: Option<Timestamp>,
}

/// Failed requests in [`WINDOW`] on average before `switched`; `None`: not known any more.
pub fn before(failed: Failed<'_>, switched: Timestamp) -> Option<f64> {
    let from = earlier(switched, BEFORE).max(failed.known_since?);
    let span = Duration::try_from(switched.duration_since(from)).ok().filter(|s| !s.is_zero())?;
    let count = failed.began.iter().filter(|at| (from..switched).contains(at)).count();
    // Less than a whole window is known: its count is the least that the rate can be.
    Some(ratio(count) * WINDOW.as_secs_f64() / span.max(WINDOW).as_secs_f64())
}

/// Judges the requests that began after `steady`, since when the revision alone serves without a
/// break, at `now`.
pub fn far_more(
    failed: Failed<'_>,
    before: f64,
    steady: Timestamp,
    now: Timestamp,
) -> Option<Rates> {
    let from = earlier(now, WINDOW).max(steady);
    let lately = || failed.began.iter().filter(|at| (from..=now).contains(at));
    let count = lately().count();
    let (first, last) = (lately().min()?, lately().max()?);
    let spread = last.duration_since(*first) >= SignedDuration::try_from(SPREAD).ok()?;
    let enough = count >= LEAST && ratio(count) >= TIMES * before;
    (spread && enough).then_some(Rates { now: count, before })
}

fn earlier(at: Timestamp, by: Duration) -> Timestamp {
    at.checked_sub(by).unwrap_or(Timestamp::MIN)
}

fn ratio(count: usize) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_000_000 + second).unwrap()
    }

    fn failed(began: &[Timestamp]) -> Failed<'_> {
        Failed { began, known_since: Some(at(-10_000)) }
    }

    #[test]
    fn ten_failures_over_ten_seconds_are_far_more_than_none() {
        let began: Vec<_> = (1..=11).map(at).collect();
        let rates = far_more(failed(&began), 0.0, at(0), at(11)).unwrap();
        assert_eq!(rates, Rates { now: 11, before: 0.0 });
        assert_eq!(far_more(failed(&began[..9]), 0.0, at(0), at(11)), None, "too few");
        assert_eq!(far_more(failed(&began), 2.5, at(0), at(11)), None, "it was as bad before");
        assert_eq!(far_more(failed(&began), 0.0, at(8), at(11)), None, "it did not serve yet");
        assert_eq!(far_more(failed(&began), 0.0, at(0), at(60)), None, "that is over");
        let moment = vec![at(5); 1_000];
        assert_eq!(far_more(failed(&moment), 0.0, at(0), at(11)), None, "one bad moment");
    }

    #[test]
    fn before_is_an_average_over_what_is_known() {
        let began: Vec<_> = (-100..0).map(at).collect();
        assert_eq!(before(failed(&began), at(0)), Some(10.0));
        let known_since = Some(at(-60));
        assert_eq!(before(Failed { began: &began, known_since }, at(0)), Some(30.0));
        let known_since = Some(at(-15));
        assert_eq!(before(Failed { began: &began, known_since }, at(0)), Some(15.0));
        for known_since in [None, Some(at(0)), Some(at(5))] {
            assert_eq!(before(Failed { began: &began, known_since }, at(0)), None);
        }
    }

    proptest! {
        /// The order of lines, old failures, and failures of the clock's future change nothing;
        /// more failures never acquit; few never convict.
        #[test]
        fn only_what_the_revision_does_counts(
            seconds in proptest::collection::vec(-400_i64..400, 0..80),
            before in 0.0_f64..20.0,
            steady in 0_i64..30,
        ) {
            let now = at(30);
            let began: Vec<_> = seconds.iter().copied().map(at).collect();
            let verdict = far_more(failed(&began), before, at(steady), now);
            let mut turned = began.clone();
            turned.reverse();
            prop_assert_eq!(far_more(failed(&turned), before, at(steady), now), verdict);
            let own: Vec<_> =
                began.iter().copied().filter(|t| (at(steady)..=now).contains(t)).collect();
            prop_assert_eq!(far_more(failed(&own), before, at(steady), now), verdict);
            if verdict.is_some() {
                prop_assert!(own.len() >= LEAST && ratio(own.len()) >= 5.0 * before);
                let more: Vec<_> = began.iter().copied().chain([now]).collect();
                prop_assert!(far_more(failed(&more), before, at(steady), now).is_some());
                // A clock that was set a year ahead or back sees nothing at all.
                for jump in [31_536_000, -31_536_000] {
                    let jumped = at(30 + jump);
                    prop_assert_eq!(far_more(failed(&began), before, at(steady), jumped), None);
                }
            }
        }
    }
}
