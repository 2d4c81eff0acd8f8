//! For people on the host: the socket and the commands that query it.

pub mod client;
pub mod doctor;
pub mod explain;
pub mod show;
pub mod socket;
