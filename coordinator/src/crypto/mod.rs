//! Keys and cryptography.

pub mod ca;
pub mod random;
pub mod signing;
pub mod vault;
