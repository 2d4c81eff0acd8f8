//! Decisions without I/O: what a deployment may do next, where a new one goes, and what of its
//! past is kept.

pub mod history;
pub mod lifecycle;
pub mod place;
