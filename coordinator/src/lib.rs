//! The coordinator: accounts, tiers, deployments, and signed desired state for hosts.
//!
//! ```text
//! operators ─HTTPS─► api (parse, map) ─► service (one transaction) ─► store
//!                                                  │ wake (a hint)
//! hosts ◄─mTLS, h2─ hosts (sign, send, take reports) ◄┘──► store, live ─► event streams
//! hosts ─TLS 1.3──► api: join (one-time token → certificate)
//! ```

#![allow(missing_docs, reason = "a field whose name says it needs no sentence")]

pub mod api;
pub mod args;
pub mod auth;
pub mod commands;
pub mod config;
pub mod crypto;
pub mod daemon;
pub mod domain;
pub mod host_client;
pub mod hosts;
pub mod key_files;
pub mod limits;
pub mod live;
pub mod process;
pub mod service;
pub mod state;
pub mod store;
pub mod tasks;

#[cfg(test)]
mod testing;
