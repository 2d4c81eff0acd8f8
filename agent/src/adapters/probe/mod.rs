//! Probes: how one is made, and the tasks that make them.

pub mod board;
pub mod connection;
pub mod counted;
