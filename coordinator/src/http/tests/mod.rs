//! The API by its routes: accounts and OAuth.

mod accounts;
mod apps;
mod authorize;
mod connections;
mod cors;
mod deletion;
mod device;
mod emails;
mod limits;
mod normative;
mod passwords;
mod post;
mod protection;
mod secrets;
mod sessions;
mod tokens;
mod totp;
