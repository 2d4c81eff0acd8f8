//! Values encrypted under the master key, in any table.

use super::Result;
use crate::domain::encryption::{EncryptionContext, HEAD};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealedValue {
    pub context: EncryptionContext,
    pub sealed: Vec<u8>,
}

/// Access to all encrypted values.
pub trait SealedValues {
    /// At most `limit` values that do not begin with `head`.
    fn sealed_otherwise(&self, head: &[u8; HEAD], limit: u32) -> Result<Vec<SealedValue>>;
    /// Replaces a ciphertext; returns whether the old one was still there.
    fn replace_sealed(&mut self, value: &SealedValue, by: &[u8]) -> Result<bool>;
    /// Whether there may be values of the first form.
    fn has_first_form(&self) -> Result<bool>;
    /// Records that there are none left.
    fn end_first_form(&mut self) -> Result<()>;
}
