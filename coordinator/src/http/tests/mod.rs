//! The API by its routes: accounts and OAuth.

mod access;
mod accounts;
mod admin;
mod apps;
mod authorize;
mod browsers;
mod connections;
mod cors;
mod deletion;
mod device;
mod emails;
mod keys;
mod limits;
mod normative;
mod orgs;
mod passwords;
mod post;
mod protection;
mod secrets;
mod sessions;
mod tokens;
mod totp;
