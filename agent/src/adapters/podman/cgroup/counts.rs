//! What the kernel counts in a container's cgroup.

use super::{CgroupFs, kills, read, value};
use crate::model::cgroup::CgroupCounts;
use crate::model::container::Process;

impl CgroupFs {
    pub(super) fn count(&self, process: &Process) -> Option<CgroupCounts> {
        let levels = self.levels(process)?;
        // Where only one level has the limit, only that one counts how often it was met.
        let most = |file: &str, count: fn(&str) -> Option<u64>| {
            levels.iter().filter_map(|level| count(&read(&level.join(file))?)).max()
        };
        let events = most("memory.events", kills);
        let refused = most("pids.events", |text| value(text, "max"));
        let stats: Vec<_> =
            levels.iter().filter_map(|level| read(&level.join("cpu.stat"))).collect();
        let stat = |key: &str| stats.iter().filter_map(|text| value(text, key)).max();
        let (periods, waited) = (stat("nr_throttled"), stat("throttled_usec"));
        if [events, refused, periods, waited].iter().all(Option::is_none) {
            return None;
        }
        Some(CgroupCounts {
            oom_kills: events.unwrap_or_default(),
            pids_refused: refused.unwrap_or_default(),
            throttled_periods: periods.unwrap_or_default(),
            throttled_us: waited.unwrap_or_default(),
        })
    }
}
