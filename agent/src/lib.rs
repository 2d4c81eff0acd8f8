//! The agent of one container host: it owns the host's containers and routes.
//!
//! ```text
//! control ──► adapters/store (agent.db)        Podman events, probes, timers
//!    │ announces                                       │ hints
//!    ▼                                                 ▼
//!  reconcile:  observe ──► plan (pure) ──► execute ──► adapters: Podman, live table, Caddy
//!                              │
//!                              ▼
//!                           report ──► adapters/store ──► control (reports)
//! ```
//!
//! `model` and `plan` are pure. `ports` names what the core needs from outside.

#![allow(missing_docs, reason = "a field whose name says it needs no sentence")]

pub mod adapters;
pub mod args;
pub mod config;
pub mod control;
pub mod daemon;
pub mod host;
pub mod local;
pub mod model;
pub mod plan;
pub mod ports;
pub mod process;
pub mod reconcile;
#[cfg(test)]
mod testing;
