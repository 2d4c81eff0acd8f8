//! Wire types, validated names and trust that agent, coordinator and CLI share.
//!
//! [`model`] is the vocabulary: validated names and numbers. [`host_wire`] is what coordinator and
//! agents say to each other, [`api`] the JSON of the HTTP API; neither is a domain model.
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

pub mod api;
pub mod host_wire;
pub mod model;
pub mod seldom;
pub mod terminal;
