//! The live table in force.

use crate::model::live_table::LiveTable;

/// Publishes the live table atomically and persistently.
pub trait LiveTablePublisher: Send + Sync + 'static {
    /// Puts `table` in force: when this returns, new queries get its answers.
    fn publish(&self, table: &LiveTable) -> impl Future<Output = std::io::Result<()>> + Send;
    /// Whether the table published last is still in force, by a cheap check: somebody may have
    /// replaced or removed it.
    fn is_in_force(&self) -> impl Future<Output = bool> + Send;
}
