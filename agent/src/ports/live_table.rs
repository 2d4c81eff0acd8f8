//! The live table in force.

use crate::model::live_table::LiveTable;

/// Publishes the live table durably and atomically.
pub trait LiveTablePublisher: Send + Sync + 'static {
    /// Makes `table` the one in force: when this returns, new questions get its answers.
    fn publish(&self, table: &LiveTable) -> impl Future<Output = std::io::Result<()>> + Send;
    /// Whether what was published last is still in force, as far as a glance tells: somebody may
    /// have replaced or removed it.
    fn is_in_force(&self) -> impl Future<Output = bool> + Send;
}
