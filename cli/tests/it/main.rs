//! The built binary against an API in the test's own process.

#[cfg(test)]
mod browser;
#[cfg(test)]
mod commands;
#[cfg(test)]
mod common;
#[cfg(test)]
mod errors;
#[cfg(test)]
mod session;
#[cfg(test)]
mod teams;
