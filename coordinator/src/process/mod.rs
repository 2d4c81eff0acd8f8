//! The process environment: listeners, clock, metrics.

pub mod metrics;
pub mod secret_file;
pub mod serve;
pub mod trusted_clock;
