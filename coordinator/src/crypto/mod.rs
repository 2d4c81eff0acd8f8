//! Keys, and what is done with them.

pub mod ca;
pub mod random;
pub mod signing;
pub mod vault;
