//! What coordinator and agents say to each other, and what proves who says it.

pub mod connection;
pub mod join;
mod jws;
pub mod log;
pub mod manifest;
pub mod renewal;
pub mod report;
pub mod sealed;
pub mod signed;
