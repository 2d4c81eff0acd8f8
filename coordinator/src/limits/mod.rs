//! Rate limits and quotas of the API: how much, and by whom. No HTTP here.

pub mod config;
mod key;
mod limiters;
pub mod shown;
pub mod window;

pub use self::key::{Key, SITE};
pub use self::limiters::{Limit, Limiters, RateLimitStatus};
