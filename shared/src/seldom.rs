//! Rate limit for log lines that others can trigger at will: one a minute is enough.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Minimum time between two lines.
const BETWEEN: Duration = Duration::from_mins(1);

/// Lets the first line of a kind through, and then one a minute.
#[derive(Debug, Default)]
pub struct Seldom(Mutex<Said>);

#[derive(Debug, Default)]
struct Said {
    last: Option<Instant>,
    /// Lines suppressed since.
    others: u64,
}

impl Seldom {
    /// Whether to write a line at `now`: `Some` with the number suppressed since the last one;
    /// `None`: suppress it. `now` must come from one monotonic clock.
    pub fn turn(&self, now: Instant) -> Option<u64> {
        // A time and a count, always consistent: a panic elsewhere leaves nothing half-done.
        let mut said = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if said.last.is_some_and(|last| now.duration_since(last) < BETWEEN) {
            said.others = said.others.saturating_add(1);
            return None;
        }
        said.last = Some(now);
        Some(std::mem::take(&mut said.others))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn allows_one_message_a_minute_and_counts_the_skipped() {
        let (seldom, start) = (Seldom::default(), Instant::now());
        assert_eq!(seldom.turn(start), Some(0));
        for second in 1..60 {
            assert_eq!(seldom.turn(start + Duration::from_secs(second)), None);
        }
        assert_eq!(seldom.turn(start + BETWEEN), Some(59));
        assert_eq!(seldom.turn(start + BETWEEN), None);
        assert_eq!(seldom.turn(start + 5 * BETWEEN), Some(1));
        assert_eq!(seldom.turn(start + 6 * BETWEEN), Some(0));
    }
}
