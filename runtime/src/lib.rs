//! What both daemons need of a process, and nothing of what they do.

pub mod accept;
pub mod backoff;
pub mod bounded;
pub mod clock;
pub mod core_dump;
pub mod durable;
pub mod error_chain;
pub mod process_metrics;
pub mod uri;
