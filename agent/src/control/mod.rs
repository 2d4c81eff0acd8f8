//! The connection with the coordinator: documents come in, reports go out, identities are renewed.

pub mod desired_state;
pub mod join;
pub mod renew;
pub mod server;
