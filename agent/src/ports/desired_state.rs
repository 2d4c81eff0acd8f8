//! Incoming documents.

use buddo_shared::host_wire::report::Accepted;
use buddo_shared::host_wire::signed::VerifyError;
use buddo_shared::model::id::Generation;
use jiff::Timestamp;

use crate::model::trust::TrustRootsError;

/// Where the server hands documents to. Implemented by `desired_state`.
pub trait DesiredStateSink: Send + Sync + 'static {
    /// Verifies, persists with fsync, announces; only then answers.
    fn offer(
        &self,
        envelope: bytes::Bytes,
    ) -> impl Future<Output = Result<Accepted, Refusal>> + Send;
    /// Waits until no document is being accepted: shows that none is stuck for good.
    fn answers(&self) -> impl Future<Output = ()> + Send;
}

/// A document that was not accepted. Nothing changed.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// Its signature does not verify.
    #[error(transparent)]
    Unverified(#[from] VerifyError),
    /// Older than the one held.
    #[error("the document {offered} is older than {held}, which this host holds")]
    Stale {
        /// The offered document's place.
        offered: Generation,
        /// The held document's place.
        held: Generation,
    },
    /// Same generation as the one held, with other content.
    #[error(
        "the document {0} has other content than the one of the same generation that this host holds"
    )]
    Conflict(Generation),
    #[error("the document expired at {expires_at}, it is {now} here; check both clocks")]
    Expired { expires_at: Timestamp, now: Timestamp },
    /// Issued further in the future than clocks may differ.
    #[error(
        "the document was issued at {issued_at}, it is {now} here: the clock of the coordinator \
         or of this host is wrong; set it right (timedatectl on each machine). Until then each \
         document is refused at first, and taken once it is less than 5 minutes ahead"
    )]
    IssuedInFuture { issued_at: Timestamp, now: Timestamp },
    /// Its trust roots are not usable.
    #[error("the document's trust roots are not acceptable")]
    Trust(#[from] TrustRootsError),
    /// It could not be persisted; the old one stays in force.
    #[error("the document could not be stored; the old one stays in force")]
    Store(#[source] Box<dyn std::error::Error + Send + Sync>),
}
