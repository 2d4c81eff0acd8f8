//! Decisions without I/O: what a deployment may do next, what hosts can carry, where a new one
//! goes, and what of its past is kept.

pub mod capacity;
pub mod deployment;
pub mod encryption;
pub mod failure;
pub mod history;
pub mod host_trust;
pub mod identity;
pub mod lifecycle;
pub mod revision;
pub mod scheduler;
