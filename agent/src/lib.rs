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

mod accept;
pub mod address;
pub mod apply;
pub mod args;
pub mod backoff;
mod bounded;
pub mod caddy;
pub mod clock;
pub mod config;
pub mod core_dump;
pub mod daemon;
pub mod disk;
pub mod doctor;
mod durable;
pub mod echo;
pub mod errors;
pub mod exits;
pub mod explain;
pub mod facts;
pub mod failed_requests;
pub mod guard;
pub mod health;
pub mod intent;
pub mod join;
pub mod kills;
pub mod link;
pub mod local;
pub mod log;
pub mod memory;
pub mod metrics;
pub mod observe;
pub mod open_files;
pub mod picture;
pub mod plan;
pub mod podman;
pub mod ports;
pub mod probe;
pub mod probes;
pub mod reconcile;
pub mod renew;
pub mod reserve;
pub mod resolver;
pub mod routes;
pub mod show;
pub mod status;
pub mod step;
pub mod store;
#[cfg(test)]
mod testing;
mod text;
mod tls;
pub mod trust;
pub mod wanted;
pub mod watchdog;
