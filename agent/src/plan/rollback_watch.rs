//! The judgement of auto rollback: whether a revision that has just gone live must be rolled back. Pure.
//!
//! ```text
//!           serves for the first time              window over
//!   (none) ───────────────────────────► Watching ──────────────► (none)
//!                                          │ crash loop, kills for memory,
//!                                          │ sickness, failed requests
//!                                          ▼
//!                                       RolledBack: the revision is given up and its
//!                                         predecessor rolled out, until the document names another
//! ```
//!
//! Only what the revision does counts. These say nothing about it: an end whose beginning nobody
//! saw (the agent was away), one of many at the same time ([`mass_failure`]), one soon after Podman
//! was away, and anything that happens while its operator wants it stopped.

pub mod failed_requests;
pub mod mass_failure;

use std::time::Duration;

use failed_requests::Rates;
use jiff::Timestamp;
use tokio::time::Instant;

use crate::model::container::{ExitInfo, KILLED};
use crate::model::oom_kills::OomKills;

/// Ends within the window that make a crash loop.
const MAX_ENDS: usize = 3;
/// Kills within the window that can no longer be an accident.
const MAX_KILLS: usize = 2;
/// Ends this close to trouble of the host are blamed on the host.
const EXCUSED: Duration = Duration::from_secs(10);
/// A kill counted by the kernel and a killed container this close together are the same kill: the
/// agent learns of them in different ways, in either order.
const SAME: Duration = Duration::from_secs(10);

/// How much of a window of `seconds` is left at `wall`.
///
/// A clock that was set back leaves all of it, one that was set ahead nothing: the first watches
/// somewhat longer, the second ends early, and neither rolls anything back by itself.
pub fn remaining(since: Timestamp, wall: Timestamp, seconds: u32) -> Duration {
    let window = Duration::from_secs(u64::from(seconds));
    let passed = Duration::try_from(wall.duration_since(since)).unwrap_or_default();
    window.saturating_sub(passed)
}

/// One end of a container that served.
#[derive(Debug, Clone, PartialEq, Eq)]
struct End {
    at: Instant,
    code: Option<i32>,
    memory: bool,
}

impl End {
    fn is_kill(&self) -> bool {
        self.memory || self.code == Some(KILLED)
    }
}

/// What was seen of a watched revision since it went live or the agent came back.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct FailureHistory {
    /// When the window ends.
    pub until: Option<Instant>,
    /// Bounded: the third fires.
    ends: Vec<End>,
    /// The kernel's count when it was last read.
    counted: Option<OomKills>,
    /// When that count had risen. Bounded: the second fires.
    rises: Vec<Instant>,
    /// What it printed last before it ended.
    last_words: String,
    /// Since when it runs and fails its probes.
    sick_since: Option<Instant>,
    /// Failed requests before it went live, once known.
    pub before: Option<f64>,
}

/// Why a revision must be rolled back.
#[derive(Debug, Clone, PartialEq)]
pub enum RollbackVerdict {
    /// Its container ended again and again.
    CrashLoop {
        ends: usize,
        /// The last exit code, where it is known.
        code: Option<i32>,
        /// What it printed last.
        last_words: String,
    },
    /// It, or a process in it, was killed again and again, most often by the kernel for its memory.
    Memory {
        kills: usize,
        /// Whether the kernel or Podman says that it was memory.
        certain: bool,
    },
    /// It runs, but has failed its probes for as long as a new container may take to start.
    Unhealthy {
        lasted: Duration,
        /// Why the last probe failed.
        reason: String,
    },
    /// Far more requests fail than before.
    Errors(Rates),
}

impl FailureHistory {
    /// Nothing seen yet of a revision that is watched until `at`.
    pub fn until(at: Instant) -> Self {
        Self { until: Some(at), ..Self::default() }
    }

    /// Its container ended, or had to be replaced (no code), and was known to have run.
    pub fn ended(&mut self, code: Option<i32>, now: Instant) {
        if self.ends.len() < MAX_ENDS {
            self.ends.push(End { at: now, code, memory: false });
        }
        self.sick_since = None;
    }

    /// Details of the last end became known.
    pub fn learned(&mut self, exit: &ExitInfo) {
        if let Some(end) = self.ends.last_mut() {
            end.memory |= exit.oom_killed;
        }
        self.last_words.clone_from(&exit.log_tail);
    }

    /// Takes the kernel's count. Kills from before the watch began do not matter; any number since
    /// the last look count as one, because one bad moment is one.
    pub fn counted(&mut self, kills: &OomKills, now: Instant) {
        let before = match &self.counted {
            None => kills.count,
            Some(last) if last.process == kills.process => last.count,
            // It was started again, in a new cgroup whose count begins at zero.
            Some(_) => 0,
        };
        if kills.count > before && self.rises.len() < MAX_KILLS {
            self.rises.push(now);
        }
        self.counted = Some(kills.clone());
    }

    /// Whether the kills last counted were this container's.
    pub fn counts_in(&self, container: &str) -> bool {
        self.counted.as_ref().is_some_and(|counted| counted.process.container == container)
    }

    /// Known kills for memory, each counted once.
    pub fn kills(&self) -> usize {
        let mut rises = self.rises.clone();
        let mut kills = 0;
        for end in self.ends.iter().filter(|end| end.is_kill()) {
            let together = |rise: &Instant| *rise <= end.at + SAME && end.at <= *rise + SAME;
            if let Some(same) = rises.iter().position(together) {
                rises.remove(same);
            }
            kills += 1;
        }
        kills + rises.len()
    }

    /// Since when, at the latest, it has run without answering; `None`: it does not run, or
    /// answers.
    pub fn sick(&mut self, since: Option<Instant>) {
        self.sick_since = since.map(|since| self.sick_since.unwrap_or(since));
    }

    /// When sickness that lasts is no longer tolerated.
    pub fn patience(&self, deadline: Duration) -> Option<Instant> {
        self.sick_since.map(|since| since + deadline)
    }

    /// The host is in trouble of its own: recent events are blamed on that.
    pub fn excuse(&mut self, now: Instant) {
        self.ends.retain(|end| now.duration_since(end.at) > EXCUSED);
        self.rises.retain(|rise| now.duration_since(*rise) > EXCUSED);
        self.sick_since = None;
    }

    /// Judges what was seen. `deadline` is how long a new container may take to answer, `reason`
    /// why its last probe failed.
    pub fn judge(
        &self,
        deadline: Duration,
        reason: Option<&str>,
        now: Instant,
    ) -> Option<RollbackVerdict> {
        let kills = self.kills();
        if kills >= MAX_KILLS {
            let certain = !self.rises.is_empty() || self.ends.iter().any(|end| end.memory);
            return Some(RollbackVerdict::Memory { kills, certain });
        }
        if self.ends.len() >= MAX_ENDS {
            return Some(RollbackVerdict::CrashLoop {
                ends: self.ends.len(),
                code: self.ends.last().and_then(|end| end.code),
                last_words: self.last_words.clone(),
            });
        }
        let lasted = now.duration_since(self.sick_since?);
        let reason = reason.unwrap_or("no answer").to_owned();
        (lasted >= deadline).then_some(RollbackVerdict::Unhealthy { lasted, reason })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::container::Process;

    const DEADLINE: Duration = Duration::from_mins(1);

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn the_window_follows_the_wall_clock_and_never_grows() {
        assert_eq!(remaining(at(1_000), at(1_000), 300), Duration::from_mins(5));
        assert_eq!(remaining(at(1_000), at(1_100), 300), Duration::from_secs(200));
        assert_eq!(remaining(at(1_000), at(1_400), 300), Duration::ZERO);
        // ±1 year.
        assert_eq!(remaining(at(31_537_000), at(1_000), 300), Duration::from_mins(5));
        assert_eq!(remaining(at(1_000), at(31_537_000), 300), Duration::ZERO);
    }

    #[test]
    fn three_exits_are_a_crash_loop_and_two_kills_are_out_of_memory() {
        let now = Instant::now();
        let mut failure_history = FailureHistory::default();
        failure_history.ended(Some(1), now);
        failure_history.ended(Some(KILLED), now);
        assert_eq!(failure_history.judge(DEADLINE, None, now), None);
        let mut other = failure_history.clone();
        failure_history.ended(Some(2), now);
        assert!(matches!(
            failure_history.judge(DEADLINE, None, now),
            Some(RollbackVerdict::CrashLoop { ends: 3, code: Some(2), .. })
        ));
        other.ended(Some(KILLED), now);
        let verdict = other.judge(DEADLINE, None, now);
        assert_eq!(verdict, Some(RollbackVerdict::Memory { kills: 2, certain: false }));
    }

    /// Podman seldom says so; where it does, the code does not matter.
    #[test]
    fn an_oom_kill_reported_by_podman_counts_as_out_of_memory() {
        let now = Instant::now();
        let mut failure_history = FailureHistory::default();
        for _ in 0..2 {
            failure_history.ended(Some(1), now);
            let log_tail = "boom".to_owned();
            failure_history.learned(&ExitInfo { exit_code: 1, oom_killed: true, log_tail });
        }
        let verdict = failure_history.judge(DEADLINE, None, now);
        assert_eq!(verdict, Some(RollbackVerdict::Memory { kills: 2, certain: true }));
    }

    fn run(pid: u32) -> Process {
        Process { container: "c".to_owned(), pid }
    }

    fn count(failure_history: &mut FailureHistory, pid: u32, count: u64, now: Instant) {
        failure_history.counted(&OomKills { process: run(pid), count }, now);
    }

    /// Its main process lives on: only the kernel reports the kill.
    #[test]
    fn kernel_oom_kills_count_only_from_the_start_of_the_watch() {
        let now = Instant::now();
        let mut failure_history = FailureHistory::default();
        count(&mut failure_history, 7, 40, now);
        count(&mut failure_history, 7, 40, now + SAME);
        assert_eq!(failure_history.kills(), 0);
        // One bad moment, however many it killed.
        count(&mut failure_history, 7, 45, now + SAME * 2);
        assert_eq!(
            (failure_history.kills(), failure_history.judge(DEADLINE, None, now)),
            (1, None)
        );
        count(&mut failure_history, 7, 46, now + SAME * 2 + Duration::from_secs(2));
        let verdict = failure_history.judge(DEADLINE, None, now + SAME * 3);
        assert_eq!(verdict, Some(RollbackVerdict::Memory { kills: 2, certain: true }));
    }

    /// Each start makes a new cgroup.
    #[test]
    fn oom_kills_are_counted_from_zero_after_each_restart() {
        let now = Instant::now();
        let mut failure_history = FailureHistory::default();
        count(&mut failure_history, 7, 5, now);
        count(&mut failure_history, 8, 0, now);
        assert_eq!(failure_history.kills(), 0);
        count(&mut failure_history, 9, 1, now);
        assert_eq!(failure_history.kills(), 1);
        count(&mut failure_history, 10, 1, now);
        assert_eq!(failure_history.kills(), 2);
    }

    /// The main process is killed: its end shows that, and the kernel's count may come before or
    /// after.
    #[test]
    fn an_oom_kill_reported_twice_counts_once() {
        let now = Instant::now();
        let mut ends_first = FailureHistory::default();
        count(&mut ends_first, 7, 0, now);
        let mut rises_first = ends_first.clone();
        ends_first.ended(Some(KILLED), now + SAME);
        count(&mut ends_first, 7, 1, now + SAME * 2);
        count(&mut rises_first, 7, 1, now + SAME);
        rises_first.ended(Some(KILLED), now + SAME * 2);
        for mut failure_history in [ends_first, rises_first] {
            assert_eq!(
                (failure_history.kills(), failure_history.judge(DEADLINE, None, now)),
                (1, None)
            );
            // Another child, a minute later.
            count(&mut failure_history, 8, 1, now + SAME * 6);
            assert_eq!(failure_history.kills(), 2);
        }
        let mut apart = FailureHistory::default();
        count(&mut apart, 7, 0, now);
        count(&mut apart, 7, 1, now);
        apart.ended(Some(KILLED), now + SAME * 2);
        assert_eq!(apart.kills(), 2);
        // A main process that exits because its child was killed: one kill, one end.
        let mut child = FailureHistory::default();
        count(&mut child, 7, 0, now);
        count(&mut child, 7, 1, now);
        child.ended(Some(1), now);
        assert_eq!(child.kills(), 1);
    }

    #[test]
    fn exits_during_host_trouble_are_excused_and_earlier_ones_count() {
        let now = Instant::now();
        let mut failure_history = FailureHistory::default();
        failure_history.ended(Some(1), now);
        failure_history.ended(Some(1), now + EXCUSED * 3);
        failure_history.excuse(now + EXCUSED * 3);
        failure_history.ended(Some(1), now + EXCUSED * 6);
        assert_eq!(failure_history.judge(DEADLINE, None, now + EXCUSED * 6), None);
        failure_history.ended(Some(1), now + EXCUSED * 6);
        assert!(failure_history.judge(DEADLINE, None, now + EXCUSED * 6).is_some());

        let mut failure_history = FailureHistory::default();
        count(&mut failure_history, 7, 0, now);
        for kills in 1..4 {
            count(&mut failure_history, 7, kills, now);
            failure_history.excuse(now);
        }
        assert_eq!(failure_history.kills(), 0);
    }

    #[test]
    fn unhealthiness_counts_past_the_deadline_and_recovery_resets_it() {
        let now = Instant::now();
        let mut failure_history = FailureHistory::default();
        failure_history.sick(Some(now));
        failure_history.sick(Some(now + DEADLINE / 2));
        assert_eq!(failure_history.judge(DEADLINE, None, now + DEADLINE / 2), None);
        assert_eq!(failure_history.patience(DEADLINE), Some(now + DEADLINE));
        let verdict = failure_history.judge(DEADLINE, Some("status 500"), now + DEADLINE);
        let reason = "status 500".to_owned();
        assert_eq!(verdict, Some(RollbackVerdict::Unhealthy { lasted: DEADLINE, reason }));
        failure_history.sick(None);
        failure_history.sick(Some(now + DEADLINE));
        assert_eq!(failure_history.judge(DEADLINE, None, now + DEADLINE), None);
    }
}
