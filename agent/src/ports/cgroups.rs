//! The kernel's cgroups of containers.

use std::pin::Pin;

use crate::model::cgroup::{Cgroup, CgroupCounts};
use crate::model::container::Process;

/// What a look into a cgroup gives, some time later: the kernel may take as long as it likes.
pub type Look<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// What the kernel says of one run of a container.
pub trait Cgroups: Send + Sync + 'static {
    /// The limits that hold for it.
    fn limits(&self, process: &Process) -> Look<Cgroup>;

    /// What it counted in each of them; `None`: it counts nothing there, or it has ended.
    fn counts(&self, processes: Vec<Process>) -> Look<Vec<Option<CgroupCounts>>>;
}
