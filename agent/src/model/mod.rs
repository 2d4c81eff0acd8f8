//! What the host knows. Plain data and pure functions; no I/O.

pub mod address;
pub mod cgroup;
pub mod container;
pub mod document;
pub mod failed_requests;
pub mod health;
pub mod host_facts;
pub mod live_table;
pub mod oom_kills;
pub mod persisted;
pub mod retries;
pub mod snapshot;
pub mod spec;
pub mod step;
pub mod trust;
pub mod workload;
