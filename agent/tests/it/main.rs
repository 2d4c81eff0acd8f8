//! The agent's parts together: the loop on a fake host, the resolver as a process.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "what fails here fails its test; the lint knows test functions only"
)]

mod reconcile;
mod resolver;
