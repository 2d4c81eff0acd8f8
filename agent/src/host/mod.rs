//! The host as a resource: its disk, its kernel, and what is counted.

pub mod disk;
pub mod exits;
pub mod facts;
pub mod metrics;
pub mod oom;
pub mod proxy_errors;
pub mod watchdog;
