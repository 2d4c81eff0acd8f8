//! The agent of one container host: it owns the host's containers and routes.
//!
//! ```text
//! link ──► intent ──► store(agent.db)          Podman events, probes, timers
//!             │ announces                               │ hints
//!             ▼                                         ▼
//!          reconcile:  observe ──► plan (pure) ──► apply ──► Containers, live table, Proxy
//!                                     │
//!                                     ▼
//!                                  status ──► store ──► link (reports)
//! ```
//!
//! `plan`, `health`, `guard` and `explain` are pure. `ports` names what the core asks of the world.

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
