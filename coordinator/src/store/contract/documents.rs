//! Signed documents: the outbox. What was signed for a generation is sent again byte for byte.

use buddo_shared::id::{Generation, HostId};
use jiff::Timestamp;

use super::Result;

/// A signed document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DocumentRow {
    /// Its place in the order.
    pub generation: Generation,
    /// `sha256:` of its payload.
    pub digest: String,
    /// The bytes to send.
    pub envelope: Vec<u8>,
    /// When it was signed.
    pub issued_at: Timestamp,
    /// After this the agent refuses it on arrival.
    pub expires_at: Timestamp,
}

/// Access to signed documents.
pub trait Documents {
    /// The document of this generation, if it was signed already.
    fn document(&self, host: HostId, generation: Generation) -> Result<Option<DocumentRow>>;
    /// When the document of this generation was signed: what a look at its age needs of it.
    fn document_issued_at(&self, host: HostId, generation: Generation)
    -> Result<Option<Timestamp>>;
    /// Stores a document and forgets those of older generations.
    fn insert_document(&mut self, host: HostId, document: &DocumentRow) -> Result<()>;
}
