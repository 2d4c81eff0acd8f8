//! What the kernel says of a container's cgroup: its limits, and what it counts in it. Version 2 only;
//! elsewhere nothing is limited or counted.
//!
//! ```text
//! /proc/PID/cgroup ──► 0::/…/libpod-ID.scope/container ──► memory.max, memory.events … of the scope
//!                                                      └─► the same of `container` below it
//! ```
//!
//! After an OOM kill Podman's `OOMKilled` is mostly false, and about a killed child process neither
//! Podman nor an exit code says anything. The cgroup lives as long as the run: a restart creates a
//! new one, whose counts begin at zero.
//!
//! A process may be killed because the *host* ran out of memory, which is not its fault: that
//! raises only `oom_kill`, while reaching the cgroup's own limit raises `oom`, too.

mod counts;
mod limits;
#[cfg(test)]
mod tests;

use std::fs::File;
use std::io::Read as _;
use std::path::{Component, Path, PathBuf};

use crate::model::cgroup::{Cgroup, CgroupCounts};
use crate::model::container::Process;
use crate::ports::{Cgroups, Look, MemoryEvents};

/// The most that is read of one file, in bytes: cgroup paths and event files are shorter.
const MAX_FILE: u64 = 16 * 1024;

/// The sub-cgroup that crun makes for the container's processes.
const INNER: &str = "container";

/// The kernel's files, read where it mounts them.
#[derive(Debug, Clone)]
pub struct CgroupFs {
    proc: PathBuf,
    cgroup: PathBuf,
}

impl Default for CgroupFs {
    fn default() -> Self {
        Self { proc: PathBuf::from("/proc"), cgroup: PathBuf::from("/sys/fs/cgroup") }
    }
}

impl MemoryEvents for CgroupFs {
    fn kills(&self, process: &Process) -> Option<u64> {
        // The limit may be set at either level. Both show the same counts, unless the kernel was told
        // to count only where it happens (`memory_localevents`).
        values(&self.levels(process)?, "memory.events", kills).max()
    }
}

impl Cgroups for CgroupFs {
    fn limits(&self, process: &Process) -> Look<Cgroup> {
        let (kernel, process) = (self.clone(), process.clone());
        Box::pin(async move {
            let look = tokio::task::spawn_blocking(move || kernel.find(&process));
            look.await.unwrap_or(Cgroup::Gone)
        })
    }

    fn counts(&self, processes: Vec<Process>) -> Look<Vec<Option<CgroupCounts>>> {
        let kernel = self.clone();
        Box::pin(async move {
            let count = move || processes.iter().map(|process| kernel.count(process)).collect();
            tokio::task::spawn_blocking(count).await.unwrap_or_default()
        })
    }
}

impl CgroupFs {
    /// The container's cgroup: the inner one, which has its processes, and the one around it.
    fn levels(&self, process: &Process) -> Option<[PathBuf; 2]> {
        self.levels_of(&self.membership(process)?, process)
    }

    fn levels_of(&self, membership: &str, process: &Process) -> Option<[PathBuf; 2]> {
        let scope = self.cgroup.join(scope(membership, &process.container)?);
        Some([scope.join(INNER), scope])
    }

    fn membership(&self, process: &Process) -> Option<String> {
        read(&self.proc.join(process.pid.to_string()).join("cgroup"))
    }
}

/// The cgroup of the container with this id, if the process says (`cgroups(7)`) that it is in it,
/// relative to the mount. `None`: it is in another one, because its PID was reused; or there is no
/// cgroup v2.
fn scope(membership: &str, container: &str) -> Option<PathBuf> {
    let path = membership.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let name = format!("libpod-{container}");
    let mut scope = PathBuf::new();
    for component in Path::new(path).components() {
        // `..` leads outside what this process may see.
        let Component::Normal(part) = component else { return None };
        scope.push(part);
        let part = part.to_str()?;
        if part.strip_suffix(".scope").unwrap_or(part) == name {
            return Some(scope);
        }
    }
    None
}

/// How often the cgroup's limit was reached and one of its processes killed, from its
/// `memory.events` (kernel, `admin-guide/cgroup-v2`).
fn kills(events: &str) -> Option<u64> {
    Some(value(events, "oom")?.min(value(events, "oom_kill")?))
}

/// What a file says at each level that has it.
fn values<T>(
    levels: &[PathBuf; 2],
    file: &str,
    parse: impl Fn(&str) -> Option<T>,
) -> impl Iterator<Item = T> {
    levels.iter().filter_map(move |level| parse(&read(&level.join(file))?))
}

/// One of the kernel's `key value` lines.
fn value(text: &str, key: &str) -> Option<u64> {
    let mut lines = text.lines().filter_map(|line| line.split_once(' '));
    lines.find(|(name, _)| *name == key)?.1.trim().parse().ok()
}

fn read(path: &Path) -> Option<String> {
    let mut text = String::new();
    File::open(path).ok()?.take(MAX_FILE).read_to_string(&mut text).ok()?;
    Some(text)
}
