//! All statements, once for every backend.
//!
//! ```text
//! use case ── Tables (contract) ──► Tx: statements, rows ↔ types ── Driver ──► sqlite
//! ```
//!
//! [`Tx`] implements the contract over a [`driver::Driver`]. A statement uses only what SQLite and
//! PostgreSQL have in common; a test lists the words that they do not.

mod accounts;
mod acts;
mod administration;
mod api_keys;
mod audit;
pub(in crate::store) mod audit_chain;
mod changes;
mod clock;
mod column;
mod consents;
mod deployments;
mod devices;
mod documents;
pub(in crate::store) mod driver;
mod factors;
mod hosts;
mod idempotency;
mod invitations;
mod leases;
mod logins;
mod mails;
mod oauth;
mod orgs;
mod params;
#[cfg(test)]
mod portable;
mod query;
mod revisions;
mod sealed;
mod services;
mod teams;
mod tiers;
mod trust;
pub(in crate::store) mod value;

use std::cell::Cell;

use driver::{Driver, DriverError, ErrorKind, Row};
use params::{Params, named_params, params};
pub(in crate::store) use query::failed;

/// One transaction's tables.
pub(in crate::store) struct Tx<'d> {
    driver: &'d dyn Driver,
    failure: Cell<Option<ErrorKind>>,
    conflict: Cell<Option<(&'static str, DriverError)>>,
}
