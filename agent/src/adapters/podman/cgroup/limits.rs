//! The limits that hold for a container.

use super::{CgroupFs, read, values};
use crate::model::cgroup::{Cgroup, CgroupLimits};
use crate::model::container::Process;

impl CgroupFs {
    /// Where the process is, and what limits it there.
    pub(super) fn find(&self, process: &Process) -> Cgroup {
        let Some(membership) = self.membership(process) else { return Cgroup::Gone };
        let Some(levels) = self.levels_of(&membership, process) else {
            // One that has ended and is not waited for yet has left its cgroup.
            let stat = read(&self.proc.join(process.pid.to_string()).join("stat"));
            let runs = stat.is_some_and(|stat| is_alive(&stat));
            return if runs { Cgroup::Shared } else { Cgroup::Gone };
        };
        // The runtime sets limits at one level or both; the strictest holds.
        let strictest =
            |file: &str, limit: fn(&str) -> Option<u64>| values(&levels, file, limit).min();
        let mut limits = CgroupLimits {
            memory: strictest("memory.max", number),
            swap: strictest("memory.swap.max", number),
            cpu_millicores: strictest("cpu.max", millicores),
            pids: strictest("pids.max", number),
        };
        // The kernel may have it switched off, which does no harm where there is nothing to swap to.
        let counted = levels.iter().any(|level| level.join("memory.swap.max").exists());
        if !counted && !has_swap(&read(&self.proc.join("swaps")).unwrap_or_default()) {
            limits.swap = Some(0);
        }
        // It may have ended meanwhile, and with it its cgroup.
        let stays = self.membership(process).is_some_and(|still| still == membership);
        if stays { Cgroup::Own(limits) } else { Cgroup::Gone }
    }
}

/// From `/proc/PID/stat` (`proc_pid_stat(5)`): the state stands behind the name, which is in
/// parentheses and may hold any.
fn is_alive(stat: &str) -> bool {
    let state = stat.rsplit(')').next().and_then(|rest| rest.trim_start().chars().next());
    state.is_some_and(|state| !matches!(state, 'Z' | 'X' | 'x'))
}

/// `/proc/swaps` has a line of titles.
fn has_swap(swaps: &str) -> bool {
    swaps.lines().count() > 1
}

/// A limit in bytes or processes; `max` means that there is no limit.
fn number(text: &str) -> Option<u64> {
    text.trim().parse().ok()
}

/// `cpu.max`: a quota and its period, in microseconds.
fn millicores(text: &str) -> Option<u64> {
    let (quota, period) = text.trim().split_once(' ')?;
    let (quota, period) = (quota.parse::<u64>().ok()?, period.parse::<u64>().ok()?);
    (period > 0).then(|| quota.saturating_mul(1_000).div_ceil(period))
}
