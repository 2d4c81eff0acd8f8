//! The process environment: listeners, clock, metrics, waits before a retry.

pub mod metrics;
pub mod retries;
pub mod secret_file;
pub mod serve;
pub mod trusted_clock;
