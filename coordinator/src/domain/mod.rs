//! Decisions without I/O: what a deployment may do next, and where a new one goes.

pub mod lifecycle;
pub mod place;
