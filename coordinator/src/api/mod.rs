//! The HTTP API: handlers parse, call one use case, and answer.

pub mod extract;
pub mod middleware;
pub mod openapi;
pub mod pages;
pub mod problem;
mod refusals;
pub mod router;
pub mod routes;
pub mod scrape;
pub mod state;

#[cfg(test)]
pub(crate) mod tests;
