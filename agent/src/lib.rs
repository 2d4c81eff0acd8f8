//! The agent of one container host.

pub mod ports;
