//! The API by its routes: accounts and OAuth.

mod access;
mod accounts;
mod admin;
mod apps;
mod authorize;
pub(crate) mod browsers;
mod connections;
mod cors;
mod deletion;
mod device;
mod emails;
pub(crate) mod keys;
mod limits;
mod normative;
pub(crate) mod orgs;
mod passwords;
mod post;
mod protection;
mod secrets;
mod sessions;
mod streams;
mod tokens;
mod totp;
