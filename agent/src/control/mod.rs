//! Towards the coordinator: documents come in, reports go out, identities are kept valid.

pub mod desired_state;
pub mod join;
pub mod renew;
pub mod server;
