//! How often, and how, what serves went down recently: for reports, not for decisions.

use std::time::Duration;

use buddo_shared::model::id::Revision;
use jiff::Timestamp;
use tokio::time::Instant;

use crate::model::container::ExitInfo;
use crate::model::snapshot::ExitSnapshot;

/// How often what serves went down: reported until ten minutes pass without an end. Separate from
/// [`Crash`](super::state::Crash), which decides when it is started again and starts afresh with each container.
#[derive(Debug, Clone, Copy, Default)]
pub struct Restarts {
    revision: Option<Revision>,
    count: u32,
    last: Option<Instant>,
}

impl Restarts {
    /// How long after the last one they are reported.
    pub const LATELY: Duration = Duration::from_mins(10);

    /// What serves went down, or a fresh container had to take its place.
    pub fn seen(&mut self, revision: Revision, now: Instant) {
        let count = self.lately(revision, now).saturating_add(1);
        *self = Self { revision: Some(revision), count, last: Some(now) };
    }

    /// How often this revision went down recently.
    pub fn lately(&self, revision: Revision, now: Instant) -> u32 {
        let recent = self.forgotten_at(now).is_some() && self.revision == Some(revision);
        if recent { self.count } else { 0 }
    }

    /// When they stop being reported; `None`: they are not reported now.
    pub fn forgotten_at(&self, now: Instant) -> Option<Instant> {
        self.last.map(|last| last + Self::LATELY).filter(|at| *at > now)
    }
}

/// The last end of what serves: shown for as long as [`Restarts`] are, even though it is well again.
#[derive(Debug, Clone, Copy)]
pub struct LastExit {
    at: Instant,
    shown: ExitSnapshot,
}

impl LastExit {
    /// It was found ended at `at`.
    pub fn new(code: Option<i32>, at: Instant, wall: Timestamp) -> Self {
        Self { at, shown: ExitSnapshot { code, oom: false, at: wall } }
    }

    /// Details of it became known.
    pub fn learned(&mut self, exit: &ExitInfo) {
        self.shown.oom |= exit.oom_killed;
    }

    /// While it was recent.
    pub fn lately(&self, now: Instant) -> Option<ExitSnapshot> {
        (now.duration_since(self.at) < Restarts::LATELY).then_some(self.shown)
    }
}
