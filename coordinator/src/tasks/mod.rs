//! Scheduled tasks.

pub mod mail;
