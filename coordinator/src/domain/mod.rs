//! Decisions without I/O: lifecycle transitions, host capacity, scheduling, and which revisions are
//! kept.

pub mod capacity;
pub mod deployment;
pub mod encryption;
pub mod failure;
pub mod field_error;
pub mod history;
pub mod host_trust;
pub mod identity;
pub mod lifecycle;
pub mod mailed_link;
pub mod revision;
pub mod scheduler;
pub mod service;
