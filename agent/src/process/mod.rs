//! What this process needs from the kernel, and logging.

pub mod disk_reserve;
pub mod log;
pub mod open_files;
pub(crate) mod tls;
