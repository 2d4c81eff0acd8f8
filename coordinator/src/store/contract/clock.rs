//! Recorded times, for checks of the clock.

use jiff::Timestamp;

use super::Result;

/// A recorded time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClockMark {
    /// The last time at which the clock was trusted.
    Seen,
    /// When an administrator last confirmed the clock, by that clock.
    Confirmed,
}

/// Access to recorded times.
pub trait ClockMarks {
    /// One of them, if it was ever recorded.
    fn clock_mark(&self, mark: ClockMark) -> Result<Option<Timestamp>>;
    fn set_clock_mark(&mut self, mark: ClockMark, at: Timestamp) -> Result<()>;
}
