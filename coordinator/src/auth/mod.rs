//! Everything between a request and a principal, and what that principal may do.

pub mod access;
pub mod access_token;
pub mod authentication;
pub mod failed_logins;
pub mod guesses;
pub mod password;
pub mod session;
pub mod token;
pub mod totp;
