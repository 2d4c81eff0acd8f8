//! The HTTP API: handlers parse, call one use case, and answer.

pub mod account;
pub mod admin;
mod arrival;
pub mod auth;
pub mod caller;
pub mod connections;
mod cors;
mod cross_site;
pub mod deploy;
mod form;
pub mod health;
pub mod join;
pub mod json;
pub mod keys;
pub mod oauth;
pub mod openapi;
pub mod orgs;
pub mod pages;
mod paging;
mod path;
pub mod principal;
pub mod problem;
mod protection;
pub mod rate_limit;
mod refusals;
pub mod renew;
pub mod router;
pub mod teams;
mod traced;

#[cfg(test)]
pub(crate) mod tests;
