//! The coordinator: accounts, tiers, deployments, and signed intent for hosts.
//!
//! ```text
//! operators ─HTTPS─► http (parse) ─► service (one transaction) ─► store
//!                                                │ wake (a hint)
//! hosts ◄─mTLS, h2─ push (sign, send, take reports) ◄┘──► store, live ─► event streams
//! hosts ─TLS 1.3──► join (one-time token → certificate)
//! ```

pub mod access;
pub mod admin;
pub mod args;
pub mod attempts;
pub mod ca;
pub mod clock;
pub mod config;
pub mod core_dump;
pub mod daemon;
pub mod domain;
pub mod door;
pub mod failures;
pub mod http;
pub mod identity;
pub mod keys;
pub mod live;
pub mod mail;
pub mod metrics;
pub mod password;
pub mod push;
pub mod random;
pub mod secret_file;
pub mod serve;
pub mod service;
pub mod sign;
pub mod state;
pub mod store;
pub mod timekeeper;
pub mod token;
pub mod totp;
pub mod vault;

#[cfg(test)]
mod testing;
