//! The resource limits that a tier sets for a container.

use serde::{Deserialize, Serialize};

/// Resource limits of one container, enforced by cgroup v2.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Memory cap in MiB (`memory.max`); swap is capped to the same.
    pub memory_mb: u32,
    /// CPU share in thousandths of a core (`cpu.max`).
    pub cpu_millicores: u32,
    /// Maximum processes and threads at once (`pids.max`).
    pub pids: u32,
}
