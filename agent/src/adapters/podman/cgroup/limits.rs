//! The limits that hold for a container.

use super::{CgroupFs, INNER, read, scope};
use crate::model::cgroup::{Cgroup, CgroupLimits};
use crate::model::container::Process;

impl CgroupFs {
    /// Where the process is, and what limits it there.
    pub(super) fn find(&self, process: &Process) -> Cgroup {
        let folder = self.proc.join(process.pid.to_string());
        let Some(membership) = read(&folder.join("cgroup")) else { return Cgroup::Gone };
        let Some(scope) = scope(&membership, &process.container) else {
            // One that has ended and is not waited for yet has left its cgroup.
            let runs = read(&folder.join("stat")).is_some_and(|stat| is_alive(&stat));
            return if runs { Cgroup::Shared } else { Cgroup::Gone };
        };
        let scope = self.cgroup.join(scope);
        // The runtime sets limits at one level or both; the strictest holds.
        let levels = [scope.join(INNER), scope];
        let strictest = |file: &str, limit: fn(&str) -> Option<u64>| {
            let texts = levels.iter().filter_map(|level| read(&level.join(file)));
            texts.filter_map(|text| limit(&text)).min()
        };
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
        match read(&folder.join("cgroup")) {
            Some(still) if still == membership => Cgroup::Own(limits),
            _ => Cgroup::Gone,
        }
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

/// A limit in bytes or processes; `max`, which is none, is no number.
fn number(text: &str) -> Option<u64> {
    text.trim().parse().ok()
}

/// `cpu.max`: a quota and its period, in microseconds.
fn millicores(text: &str) -> Option<u64> {
    let (quota, period) = text.trim().split_once(' ')?;
    let (quota, period) = (quota.parse::<u64>().ok()?, period.parse::<u64>().ok()?);
    (period > 0).then(|| quota.saturating_mul(1_000).div_ceil(period))
}
