//! What the kernel says of a container's cgroup: its limits, against those that were ordered, and what
//! it counted.

use std::fmt;
use std::iter::Sum;

use buddo_shared::model::limits::Limits;
use serde::{Deserialize, Serialize};

const MIB: u64 = 1024 * 1024;

/// systemd counts CPU in hundredths of a core, and rounds up.
const CPU_ROUNDING: u64 = 10;

/// The limits of a container's cgroup; `None`: it has no such limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CgroupLimits {
    /// Bytes.
    pub memory: Option<u64>,
    /// Bytes of swap, beside the memory.
    pub swap: Option<u64>,
    /// Thousandths of a core.
    pub cpu_millicores: Option<u64>,
    /// Processes and threads.
    pub pids: Option<u64>,
}

/// Where the process of a container was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cgroup {
    /// Nowhere: it has ended.
    Gone,
    /// In a cgroup that is not the container's own.
    Shared,
    Own(CgroupLimits),
}

/// What the kernel counted in one run of a container, or in several.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct CgroupCounts {
    /// Processes that it killed because the container had reached its memory limit.
    pub oom_kills: u64,
    /// How often it refused another process, or thread, because of the limit of those.
    pub pids_refused: u64,
    /// Periods of 100 ms in which all allowed CPU time was used up before their end.
    pub throttled_periods: u64,
    /// For how long its threads had to wait because of that, in microseconds, all added up.
    pub throttled_us: u64,
}

impl CgroupCounts {
    /// What was counted since an earlier reading.
    #[must_use]
    pub fn since(self, before: Self) -> Self {
        Self {
            oom_kills: self.oom_kills.saturating_sub(before.oom_kills),
            pids_refused: self.pids_refused.saturating_sub(before.pids_refused),
            throttled_periods: self.throttled_periods.saturating_sub(before.throttled_periods),
            throttled_us: self.throttled_us.saturating_sub(before.throttled_us),
        }
    }
}

impl Sum for CgroupCounts {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), |a, b| Self {
            oom_kills: a.oom_kills.saturating_add(b.oom_kills),
            pids_refused: a.pids_refused.saturating_add(b.pids_refused),
            throttled_periods: a.throttled_periods.saturating_add(b.throttled_periods),
            throttled_us: a.throttled_us.saturating_add(b.throttled_us),
        })
    }
}

/// Whether one run of a container is held to what was ordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LimitCheck {
    /// Not known yet.
    #[default]
    Unread,
    Held,
    Broken(Breach),
}

/// What a container is not held to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Breach {
    /// It shares a cgroup with others.
    Shared,
    /// It has a cgroup with these limits instead of what was ordered; `None`: nobody knows any longer
    /// what that was.
    Limits { found: CgroupLimits, ordered: Option<Limits> },
}

impl Cgroup {
    /// Compares with what was ordered; without that, any limit is enough. A stricter limit is no
    /// breach: it cannot harm the neighbours.
    pub fn check(self, ordered: Option<Limits>) -> LimitCheck {
        let found = match self {
            Self::Gone => return LimitCheck::Unread,
            Self::Shared => return LimitCheck::Broken(Breach::Shared),
            Self::Own(found) => found,
        };
        let breach = Breach::Limits { found, ordered };
        let held = breach.rows().iter().all(Row::is_held);
        if held { LimitCheck::Held } else { LimitCheck::Broken(breach) }
    }
}

/// One limit: its file, what it says, and the most that it may say.
struct Row {
    file: &'static str,
    found: Option<u64>,
    most: u64,
}

impl Row {
    fn is_held(&self) -> bool {
        self.found.is_some_and(|found| found <= self.most)
    }
}

impl Breach {
    fn rows(self) -> Vec<Row> {
        let Self::Limits { found, ordered } = self else { return Vec::new() };
        let most = |of: fn(Limits) -> u64| ordered.map_or(u64::MAX, of);
        vec![
            Row {
                file: "memory.max",
                found: found.memory,
                most: most(|limits| u64::from(limits.memory_mb) * MIB),
            },
            Row { file: "memory.swap.max", found: found.swap, most: most(|_| 0) },
            Row {
                file: "cpu.max in thousandths of a core",
                found: found.cpu_millicores,
                most: most(|limits| u64::from(limits.cpu_millicores) + CPU_ROUNDING),
            },
            Row {
                file: "pids.max",
                found: found.pids,
                most: most(|limits| u64::from(limits.pids)),
            },
        ]
    }
}

/// The part of a sentence about a container.
impl fmt::Display for Breach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::Shared {
            return f.write_str("it shares a cgroup with others");
        }
        let mut between = "";
        for Row { file, found, most } in self.rows().into_iter().filter(|row| !row.is_held()) {
            match found {
                Some(found) => write!(f, "{between}{file} is {found} instead of at most {most}")?,
                None => write!(f, "{between}{file} is not limited")?,
            }
            between = ", ";
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ORDERED: Limits = Limits { memory_mb: 256, cpu_millicores: 250, pids: 100 };

    fn as_ordered() -> CgroupLimits {
        CgroupLimits {
            memory: Some(256 * MIB),
            swap: Some(0),
            cpu_millicores: Some(250),
            pids: Some(100),
        }
    }

    fn check(found: CgroupLimits) -> LimitCheck {
        Cgroup::Own(found).check(Some(ORDERED))
    }

    #[test]
    fn limits_are_held_as_ordered_or_stricter() {
        assert_eq!(check(as_ordered()), LimitCheck::Held);
        let stricter = CgroupLimits { memory: Some(255 * MIB), pids: Some(50), ..as_ordered() };
        assert_eq!(check(stricter), LimitCheck::Held);
        let rounded = CgroupLimits { cpu_millicores: Some(260), ..as_ordered() };
        assert_eq!(check(rounded), LimitCheck::Held);
        assert_eq!(Cgroup::Gone.check(Some(ORDERED)), LimitCheck::Unread);
    }

    #[test]
    fn each_limit_that_is_missing_or_too_high_is_named() {
        let words = |found| match check(found) {
            LimitCheck::Broken(breach) => breach.to_string(),
            other => panic!("{other:?}"),
        };
        for (found, says) in [
            (CgroupLimits { memory: None, ..as_ordered() }, "memory.max is not limited"),
            (
                CgroupLimits { memory: Some(256 * MIB + 1), ..as_ordered() },
                "memory.max is 268435457 instead of at most 268435456",
            ),
            (CgroupLimits { swap: None, ..as_ordered() }, "memory.swap.max is not limited"),
            (
                CgroupLimits { swap: Some(1), ..as_ordered() },
                "memory.swap.max is 1 instead of at most 0",
            ),
            (
                CgroupLimits { cpu_millicores: Some(270), pids: None, ..as_ordered() },
                "cpu.max in thousandths of a core is 270 instead of at most 260, pids.max is not \
                 limited",
            ),
        ] {
            assert_eq!(words(found), says);
        }
        let shared = Cgroup::Shared.check(Some(ORDERED));
        assert_eq!(shared, LimitCheck::Broken(Breach::Shared));
    }

    /// The document no longer describes what serves.
    #[test]
    fn without_an_order_any_limit_is_enough() {
        let loose = CgroupLimits { memory: Some(u64::MAX), swap: Some(1), ..as_ordered() };
        assert_eq!(Cgroup::Own(loose).check(None), LimitCheck::Held);
        let none = Cgroup::Own(CgroupLimits { pids: None, ..loose }).check(None);
        assert!(matches!(none, LimitCheck::Broken(_)));
    }
}
