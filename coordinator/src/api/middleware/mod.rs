//! The middleware that each request passes on its way to its handler.

pub(crate) mod arrival;
pub(crate) mod cors;
pub(crate) mod cross_site;
pub(crate) mod protection;
pub mod rate_limit;
pub(crate) mod traced;
