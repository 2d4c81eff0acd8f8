//! Kills for memory, as the kernel counts them.

use crate::model::container::Process;

/// How often the kernel killed a process in one run of a container because of the container's
/// memory limit, since that run began.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OomKills {
    pub process: Process,
    pub count: u64,
}
