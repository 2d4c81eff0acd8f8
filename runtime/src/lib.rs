//! What both daemons need from a process; nothing specific to either.

pub mod accept;
pub mod backoff;
pub mod bounded;
pub mod bounded_map;
pub mod clock;
pub mod core_dump;
pub mod durable;
pub mod error_chain;
pub mod lines;
pub mod process_metrics;
pub mod uri;
