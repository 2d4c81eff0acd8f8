//! Values that are encrypted under the master key, wherever they are.

use super::Result;
use crate::domain::encryption::{EncryptionContext, HEAD};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealedValue {
    pub place: EncryptionContext,
    pub sealed: Vec<u8>,
}

/// Access to all encrypted values.
pub trait SealedValues {
    /// `limit` values, at most, that do not begin with `head`.
    fn sealed_otherwise(&self, head: &[u8; HEAD], limit: u32) -> Result<Vec<SealedValue>>;
    /// Puts another ciphertext in the place of one; whether that was still there.
    fn replace_sealed(&mut self, value: &SealedValue, by: &[u8]) -> Result<bool>;
    /// Whether there may be values of the first form.
    fn has_first_form(&self) -> Result<bool>;
    /// Notes that there are none any more.
    fn end_first_form(&mut self) -> Result<()>;
}
