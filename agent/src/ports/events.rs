//! Podman's events.

use std::sync::Arc;

use tokio::sync::{Notify, watch};

use super::Named;

/// Podman's events as hints, never as data. The stream behind them is reopened whenever it ends.
#[derive(Debug, Clone)]
pub struct EventFeed {
    /// Changes with each hint that something happened to one of our containers; the number itself
    /// means nothing. Many hints may be one change.
    pub hints: watch::Receiver<u64>,
    /// Which containers the hints were about.
    pub named: Arc<Named>,
    /// How many lines came, including those about other containers: each shows that the stream
    /// lives.
    pub lines: watch::Receiver<u64>,
    /// Whether the stream appears to be open. While it is not, list often.
    pub healthy: watch::Receiver<bool>,
    /// Asks for a new stream because this one is open but dead.
    pub renew: Arc<Notify>,
}
