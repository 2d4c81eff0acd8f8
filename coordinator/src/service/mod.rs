//! Use cases, one a function. Each authorises, reads, decides and commits in one transaction.

pub mod accounts;
pub mod admin;
pub mod at_rest;
mod audit;
pub mod backup;
pub mod deployments;
pub mod epoch;
pub mod failed_logins;
pub mod hosts;
pub mod ledger;
pub mod loads;
pub mod oauth;
pub mod renewals;
pub mod reports;
pub mod retention;
pub mod rotation;
pub mod teams;
pub mod timekeeping;
