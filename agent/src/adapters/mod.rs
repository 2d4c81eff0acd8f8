//! The world as it is: each module does what one of the [`ports`](crate::ports) asks for.

pub mod caddy;
pub mod pidfd;
pub mod podman;
pub mod probe;
pub mod resolver;
pub mod store;
