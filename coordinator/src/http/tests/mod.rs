//! The API by its routes: accounts and OAuth.

mod accounts;
mod authorize;
mod limits;
mod secrets;
mod tokens;
