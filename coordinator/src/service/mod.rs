//! Use cases, one per function. Each authorises, reads, decides and commits in one transaction.

pub mod accounts;
pub mod admin;
pub(crate) mod audit;
pub mod audit_chain;
pub mod backup;
pub mod clock;
pub mod deployments;
pub mod failed_logins;
pub mod hosts;
pub mod master_key;
pub mod oauth;
pub mod retention;
pub mod teams;
