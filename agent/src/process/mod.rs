//! What this process needs from the kernel and the service manager, what it counts, and logging.

pub mod disk_reserve;
pub mod disk_space;
pub mod log;
pub mod metrics;
pub mod open_files;
pub(crate) mod tls;
pub mod watchdog;
