//! The HTTP API: handlers parse, call one use case, and answer.

pub mod deploy;
pub mod health;
pub mod json;
pub mod problem;
pub mod rate_limit;
pub mod router;
