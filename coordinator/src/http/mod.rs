//! The HTTP API: handlers parse, call one use case, and answer.

pub mod account;
mod arrival;
pub mod auth;
pub mod caller;
pub mod connections;
mod cors;
pub mod deploy;
mod form;
pub mod health;
pub mod join;
pub mod json;
pub mod oauth;
pub mod openapi;
pub mod pages;
mod paging;
pub mod principal;
pub mod problem;
pub mod rate_limit;
mod refusals;
pub mod renew;
pub mod router;

#[cfg(test)]
mod tests;
