//! Use cases, one a function. Each authorises, reads, decides and commits in one transaction.

pub mod accounts;
mod audit;
pub mod deployments;
pub mod epoch;
pub mod hosts;
pub mod oauth;
pub mod renewals;
pub mod reports;
pub mod retention;
pub mod rotation;
pub mod teams;
