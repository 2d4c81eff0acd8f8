//! JSON of the published HTTP API, as the coordinator answers and the CLI reads it.
//!
//! Fields have the names of the published pages. Requests hold plain text and numbers: a handler
//! turns them into validated types and reports all bad fields at once.

pub mod account;
pub mod admin;
pub mod auth;
pub mod connections;
pub mod deploy;
pub mod oauth;
pub mod problem;
pub mod teams;
