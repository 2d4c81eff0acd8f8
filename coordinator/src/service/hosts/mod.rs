//! Hosts: join, certificates and keys, loads, reports.

pub mod epoch;
pub mod join;
pub mod loads;
pub mod renewal;
pub mod reports;
pub mod rotation;
