//! What is remembered of wall time.

use jiff::Timestamp;

use super::Result;

/// A moment that is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClockMark {
    /// The last one at which the clock was believed.
    Seen,
    /// When an administrator said last that the clock is right, by that clock.
    Confirmed,
}

/// Access to those moments.
pub trait ClockMarks {
    /// One of them, if it was ever kept.
    fn clock_mark(&self, mark: ClockMark) -> Result<Option<Timestamp>>;
    fn set_clock_mark(&mut self, mark: ClockMark, at: Timestamp) -> Result<()>;
}
