//! The endpoints: each handler parses, calls one use case and answers.

pub mod account;
pub mod admin;
pub mod auth;
pub mod connections;
pub mod deploy;
pub mod health;
pub mod join;
pub mod keys;
pub mod oauth;
pub mod orgs;
pub mod renew;
pub mod teams;
