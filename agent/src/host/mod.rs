//! The host's resources: its disk, its kernel, and its metrics.

pub mod cgroup_counts;
pub mod disk;
pub mod exits;
pub mod facts;
pub mod limits;
pub mod metrics;
pub mod oom;
pub mod proxy_errors;
pub mod watchdog;
