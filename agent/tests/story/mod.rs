//! What operators want and what their apps do, drawn at random, and what a coordinator makes of it:
//! the inputs that the simulation, the plan alone and a real Podman all run on.
//!
//! ```text
//!            ┌─ act ──► documents ─► signed ───► the agent in the simulation   (10,000 seeds)
//!   chance ──┤             ▲                ├──► its recorded views: plan alone
//!            └─ app        └── reports ─────┴──► the real agent on real Podman (a few seeds)
//!                                                     │
//!                     converged (one check for all) ◄─┘
//! ```
//!
//! It is included as source by `agent/tests/sim` and by `tests/tests/it/stories.rs`. As a library
//! it would either belong to the tests' crate, on which the agent's tests would then depend, and so
//! on everything that brings a world up; or be test code in the product.

pub(crate) mod act;
pub(crate) mod app;
pub(crate) mod converged;
pub(crate) mod documents;
pub(crate) mod rng;
