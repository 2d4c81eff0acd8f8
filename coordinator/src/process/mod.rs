//! What the coordinator needs of its process: listeners, time, metrics.

pub mod metrics;
pub mod secret_file;
pub mod serve;
pub mod trusted_clock;
