//! Values that are encrypted under the master key, wherever they are.

use super::Result;
use crate::vault::Place;

/// An encrypted value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealedValue {
    /// Where it is.
    pub place: Place,
    /// The ciphertext.
    pub sealed: Vec<u8>,
}

/// Access to all encrypted values.
pub trait SealedValues {
    /// `limit` values, at most, that do not begin with `head`.
    fn sealed_otherwise(&self, head: &[u8], limit: u32) -> Result<Vec<SealedValue>>;
    /// Puts another ciphertext in the place of one.
    fn replace_sealed(&mut self, value: &SealedValue) -> Result<()>;
    /// Whether there may be values of the first form.
    fn has_first_form(&self) -> Result<bool>;
    /// Notes that there are none any more.
    fn end_first_form(&mut self) -> Result<()>;
}
