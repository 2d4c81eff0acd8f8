//! What the kernel counts in a container's cgroup.

use super::{CgroupFs, kills, value, values};
use crate::model::cgroup::CgroupCounts;
use crate::model::container::Process;

impl CgroupFs {
    pub(super) fn count(&self, process: &Process) -> Option<CgroupCounts> {
        let levels = self.levels(process)?;
        // Where only one level has the limit, only that one counts how often it was met.
        let events = values(&levels, "memory.events", kills).max();
        let refused = values(&levels, "pids.events", |text| value(text, "max")).max();
        let stats: Vec<_> = values(&levels, "cpu.stat", |text| Some(text.to_owned())).collect();
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
