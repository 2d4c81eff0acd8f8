//! The outside world: each module implements one of the [`ports`](crate::ports).

pub mod caddy;
pub mod pidfd;
pub mod podman;
pub mod probe;
pub mod resolver;
pub mod store;
