//! Which keys and CAs a host trusts, and which certificate it was issued.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// What a host trusts, by name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trusts {
    /// Ids of signing keys.
    pub keys: Vec<String>,
    /// Fingerprints of host CAs, SHA-256 in hex.
    pub cas: Vec<String>,
}

/// A certificate issued to a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issued {
    /// Its number: one more than that of the host's previous certificate.
    pub number: u32,
    /// Fingerprint of the CA that issued it.
    pub ca: String,
    pub expires_at: Timestamp,
    /// For a renewal: id of the request, and the certificate (PEM).
    pub renewal: Option<(Uuid, String)>,
}
