//! Podman's events.

use std::sync::Arc;

use tokio::sync::{Notify, watch};

use super::Named;

/// What is heard of Podman's events: hints, never data. The stream behind it is opened anew
/// whenever it ends.
#[derive(Debug, Clone)]
pub struct EventFeed {
    /// Changes with each hint that something happened to a container of ours; the number means
    /// nothing. Many hints may be one change.
    pub hints: watch::Receiver<u64>,
    /// Which containers the hints were about.
    pub named: Arc<Named>,
    /// How many lines came, also of what is not ours: each shows that the stream lives.
    pub lines: watch::Receiver<u64>,
    /// Whether the stream is open as far as one can see. While it is not, list often.
    pub healthy: watch::Receiver<bool>,
    /// Asks for a new stream, for this one is open and dead.
    pub renew: Arc<Notify>,
}
