//! Wire types, validated names and trust that agent, coordinator and CLI share.
//!
//! Nothing here does I/O, reads a clock or draws randomness unless its caller asks for it. Text
//! from outside is parsed once, at the edge, into a type with a private field; from there on the
//! type is the proof.
//!
//! ```text
//! operator ── api::* ──► coordinator ── manifest::Manifest ─ signed::Signer ──► envelope bytes
//!                             ▲                                                       │
//!                             └── report::Frame ◄── agent ◄─ signed::Verifier ─► Verified<Manifest>
//! ```

pub mod allow_list;
pub mod api;
pub mod connection;
pub mod env;
pub mod id;
pub mod image;
pub mod join;
mod jws;
pub mod limits;
pub mod log;
pub mod manifest;
pub mod name;
pub mod port;
pub mod probe;
pub mod renewal;
pub mod report;
pub mod sealed;
pub mod secret;
pub mod seldom;
pub mod signed;
pub mod spec;
pub mod terminal;
mod text;
pub mod workload;
