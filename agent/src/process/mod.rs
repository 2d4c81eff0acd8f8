//! What this process needs of the kernel and the log.

pub mod disk_reserve;
pub mod log;
pub mod open_files;
pub(crate) mod tls;
