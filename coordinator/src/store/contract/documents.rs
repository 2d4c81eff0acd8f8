//! Signed documents: the outbox. What was first signed for a generation is sent again byte for
//! byte.

use buddo_shared::model::id::{Generation, HostId};
use jiff::Timestamp;

use super::Result;
use crate::domain::host_trust::Trusts;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DocumentRow {
    /// Its position in the order of documents.
    pub generation: Generation,
    /// `sha256:` of its payload.
    pub digest: String,
    /// The bytes to send.
    pub envelope: Vec<u8>,
    /// When it was signed.
    pub issued_at: Timestamp,
    /// After this the agent refuses it on arrival.
    pub expires_at: Timestamp,
    /// Its signer and the trust it sets; `None`: stored before that was recorded.
    pub trust: Option<DocumentTrust>,
}

/// What a document changes in its host's trust.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DocumentTrust {
    /// The id of the key that signed it.
    pub signer: String,
    pub names: Trusts,
}

/// Access to signed documents.
pub trait Documents {
    /// The document of this generation, if it was already signed.
    fn document(&self, host: HostId, generation: Generation) -> Result<Option<DocumentRow>>;
    /// When the document of this generation was signed, and its trust: enough to decide whether it
    /// is still current, without its bytes.
    fn document_mark(
        &self,
        host: HostId,
        generation: Generation,
    ) -> Result<Option<(Timestamp, Option<DocumentTrust>)>>;
    /// The newest stored document of the host, of any generation.
    fn last_document(&self, host: HostId) -> Result<Option<Vec<u8>>>;
    /// The generation of the newest document of this host.
    fn newest_document(&self, host: HostId) -> Result<Option<Generation>>;
    /// Stores a document and deletes those of older generations.
    fn insert_document(&mut self, host: HostId, document: &DocumentRow) -> Result<()>;
}
