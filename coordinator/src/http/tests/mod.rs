//! The API by its routes: accounts and OAuth.

mod accounts;
mod authorize;
mod deletion;
mod emails;
mod limits;
mod passwords;
mod post;
mod protection;
mod secrets;
mod sessions;
mod tokens;
mod totp;
