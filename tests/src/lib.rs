//! The world that the tests, the demo and the benches run in: one container host with the whole
//! product on it, real, and torn down without a trace.

#![allow(missing_docs, reason = "a field whose name says it needs no sentence")]

pub mod api;
pub mod bench;
pub mod demo;
pub mod edge;
mod greed;
#[cfg(test)]
mod hosts;
pub mod image;
pub mod impostor;
pub mod load;
pub mod mail;
pub mod poll;
pub mod product;
mod raw_podman;
pub mod registry;
pub mod scan;
pub mod totp;
pub mod trials;
pub mod unix_http;
pub mod vm;
pub mod web;
pub mod world;
