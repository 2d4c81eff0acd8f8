//! The stored hash of a password.

/// A password's hash as a PHC string, parameters and salt included.
#[derive(Clone, PartialEq, Eq)]
pub struct StoredHash(String);

impl StoredHash {
    /// Wraps a string from the store, as [`as_str`](Self::as_str) wrote it.
    pub fn from_stored(text: String) -> Self {
        Self(text)
    }

    /// The PHC string, for the store.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for StoredHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("StoredHash([redacted])")
    }
}
