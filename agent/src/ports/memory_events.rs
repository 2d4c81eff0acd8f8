//! Kills for memory.

use crate::model::container::Process;

/// The kernel's count of kills for memory, as far as auto rollback needs it.
pub trait MemoryEvents: Send + Sync + 'static {
    /// How often a process of this run of a container was killed because the container had reached
    /// its own memory limit. `None`: nobody counts that here, or it no longer runs. Blocks for as
    /// long as the kernel takes.
    fn kills(&self, process: &Process) -> Option<u64>;
}
