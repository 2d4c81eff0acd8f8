//! Whom a host trusts, and what was issued to it.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Whom a host trusts, by name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trusts {
    /// Ids of signing keys.
    pub keys: Vec<String>,
    /// Fingerprints of host CAs, SHA-256 in hex.
    pub cas: Vec<String>,
}

/// A certificate that was made for a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issued {
    /// Its number: one more than that of the host's certificate before.
    pub number: u32,
    /// Fingerprint of the authority that made it.
    pub ca: String,
    pub expires_at: Timestamp,
    /// The request that asked for it and the certificate itself (PEM), where it was a renewal.
    pub renewal: Option<(Uuid, String)>,
}
