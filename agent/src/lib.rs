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
//! `plan`, `health` and `explain` are pure. `ports` names what the core asks of the world.

pub mod clock;
pub mod config;
pub mod ports;
