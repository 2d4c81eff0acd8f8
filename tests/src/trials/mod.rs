//! Whole scenarios: what `make chaos`, `make redeploys` and `make density` run in full, and
//! `make test` in short.

pub mod absence;
pub mod busy;
pub mod chaos;
pub mod containers;
pub mod density;
pub mod recreate;
pub mod redeploys;
