//! Caddy: what it is configured with, and how that is put in force.
//!
//! ```text
//! validated types ──► render ──► RouteFiles ──► routes ── POST /load ──► admin (Unix socket)
//!                                                 └─ after it loaded ──► routes folder
//! ```
//!
//! Failed requests are logged, and the log is read while auto rollback watches a revision.
//!
//! An app's life cycle changes none of these files: the zone's file asks the resolver who is live.

mod admin;
mod error_log;
mod log_reader;
mod render;
mod route_files;
mod version;
mod warm;

pub use self::admin::{Admin, AdminError};
pub use self::render::{Edge, main_file};
pub use self::version::{loses_bodies, version};
pub use route_files::{Routes, write_main_file};
