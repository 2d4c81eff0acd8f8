//! Hosts: how they join, stay trusted, and what they carry.

pub mod epoch;
pub mod join;
pub mod loads;
pub mod renewal;
pub mod reports;
pub mod rotation;
