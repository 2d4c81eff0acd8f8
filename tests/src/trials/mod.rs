//! Whole scenarios under load: what `make chaos` and `make redeploys` run in full, and `make test`
//! in short.

pub mod absence;
pub mod chaos;
pub mod containers;
pub mod recreate;
pub mod redeploys;
