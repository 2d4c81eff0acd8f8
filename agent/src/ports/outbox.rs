//! Outgoing reports.

use buddo_shared::host_wire::report::{Frame, Report};
use tokio::sync::watch;

/// Where the server reads reports from. Implemented by `reconcile::report`.
pub trait Outbox: Send + Sync + 'static {
    /// A reader starts over and has committed all up to `after`. If that is less than it once
    /// acknowledged, it lost state (it was restored from a backup): all levels are then reported
    /// once more, under new numbers.
    fn resume(&self, after: u64) -> impl Future<Output = std::io::Result<()>> + Send;
    /// Unacknowledged reports after `seq`, oldest first, at most `limit`.
    fn after(
        &self,
        seq: u64,
        limit: usize,
    ) -> impl Future<Output = std::io::Result<Vec<Report>>> + Send;
    /// Forgets all up to and including `seq`.
    fn acknowledge(&self, seq: u64) -> impl Future<Output = std::io::Result<()>> + Send;
    /// Changes whenever there is a new report: a hint, read with [`after`](Self::after).
    fn changed(&self) -> watch::Receiver<u64>;
    /// Frames that are not kept (progress, checks); a slow reader loses the oldest.
    fn ephemeral(&self) -> tokio::sync::broadcast::Receiver<Frame>;
}
