//! What the kernel counts in a container's cgroup: cgroup v2 only; elsewhere nothing is counted.
//!
//! ```text
//! /proc/PID/cgroup ──► 0::/…/libpod-ID.scope/container ──► memory.events of libpod-ID.scope
//!                                                      └─► memory.events of container below it
//! ```
//!
//! After an OOM kill Podman's `OOMKilled` is mostly false, and about a killed child process neither
//! Podman nor an exit code says anything. The cgroup lives as long as the run: a restart creates a
//! new one, whose counts begin at zero.
//!
//! A process may be killed because the *host* ran out of memory, which is not its fault: that
//! raises only `oom_kill`, while reaching the cgroup's own limit raises `oom`, too.

use std::fs::File;
use std::io::Read as _;
use std::path::{Component, Path, PathBuf};

use crate::model::container::Process;
use crate::ports::MemoryEvents;

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
        let membership = read(&self.proc.join(process.pid.to_string()).join("cgroup"))?;
        let scope = self.cgroup.join(scope(&membership, &process.container)?);
        // The limit may be set at either. Both show the same counts, unless the kernel was told to
        // count only where it happens (`memory_localevents`).
        let levels = [scope.join(INNER), scope];
        levels.iter().filter_map(|level| kills(&read(&level.join("memory.events"))?)).max()
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
    let value = |key: &str| {
        let mut lines = events.lines().filter_map(|line| line.split_once(' '));
        lines.find(|(name, _)| *name == key)?.1.trim().parse::<u64>().ok()
    };
    Some(value("oom")?.min(value("oom_kill")?))
}

fn read(path: &Path) -> Option<String> {
    let mut text = String::new();
    File::open(path).ok()?.take(MAX_FILE).read_to_string(&mut text).ok()?;
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "1435ea19";
    const SCOPE: &str =
        "user.slice/user-1000.slice/user@1000.service/user.slice/libpod-1435ea19.scope";

    /// A folder that looks like the kernel's.
    struct Kernel(tempfile::TempDir);

    impl Kernel {
        fn new() -> Self {
            Self(tempfile::tempdir().unwrap())
        }

        fn write(&self, path: &str, text: &str) {
            let path = self.0.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }

        fn events(&self, cgroup: &str, oom: u64, oom_kill: u64) {
            let text = format!(
                "low 0\nhigh 0\nmax 812\noom {oom}\noom_kill {oom_kill}\noom_group_kill 0\n"
            );
            self.write(&format!("cgroup/{cgroup}/memory.events"), &text);
        }

        fn kills(&self, pid: u32) -> Option<u64> {
            let (proc, cgroup) = (self.0.path().join("proc"), self.0.path().join("cgroup"));
            CgroupFs { proc, cgroup }.kills(&Process { container: ID.to_owned(), pid })
        }
    }

    #[test]
    fn oom_kills_are_read_at_any_cgroup_level_and_reset_with_each_run() {
        for (process, counted) in [
            ("/container", "/container"),
            ("/container", ""),
            ("", ""),
            // An init system inside.
            ("/container/init.scope", "/container"),
        ] {
            let kernel = Kernel::new();
            kernel.write("proc/7/cgroup", &format!("0::/{SCOPE}{process}\n"));
            assert_eq!(kernel.kills(7), None, "the host has no memory controller");
            for count in [0, 1, 5] {
                kernel.events(&format!("{SCOPE}{counted}"), count, count);
                assert_eq!(kernel.kills(7), Some(count), "{process} {counted}");
            }
            std::fs::remove_dir_all(kernel.0.path().join("cgroup").join(SCOPE)).unwrap();
            assert_eq!(kernel.kills(7), None, "it has ended");
            kernel.write("proc/8/cgroup", &format!("0::/{SCOPE}{process}\n"));
            kernel.events(&format!("{SCOPE}{counted}"), 0, 0);
            assert_eq!((kernel.kills(8), kernel.kills(9)), (Some(0), None));
        }
    }

    /// `--cgroup-manager=cgroupfs` uses other names.
    #[test]
    fn cgroups_of_the_cgroupfs_manager_are_found() {
        let kernel = Kernel::new();
        kernel.write("proc/7/cgroup", &format!("0::/libpod_parent/libpod-{ID}/container\n"));
        kernel.events(&format!("libpod_parent/libpod-{ID}/container"), 2, 3);
        assert_eq!(kernel.kills(7), Some(2));
    }

    #[test]
    fn host_wide_oom_kills_are_not_counted_against_the_container() {
        let kernel = Kernel::new();
        kernel.write("proc/7/cgroup", &format!("0::/{SCOPE}/container\n"));
        kernel.events(&format!("{SCOPE}/container"), 0, 4);
        assert_eq!(kernel.kills(7), Some(0));
    }

    #[test]
    fn a_reused_pid_is_not_taken_for_the_container() {
        let kernel = Kernel::new();
        for other in ["0::/user.slice/x.scope", "0::/", "0::/../libpod-1435ea19.scope", ""] {
            kernel.write("proc/7/cgroup", other);
            kernel.events("user.slice/x.scope", 9, 9);
            kernel.events("libpod-1435ea19.scope", 9, 9);
            assert_eq!(kernel.kills(7), None, "{other}");
        }
        kernel.write("proc/7/cgroup", "0::/libpod-1435ea19ff.scope\n");
        kernel.events("libpod-1435ea19ff.scope", 9, 9);
        assert_eq!(kernel.kills(7), None);
    }

    #[test]
    fn cgroup_v1_and_malformed_counters_give_no_count() {
        let kernel = Kernel::new();
        let v1 = format!("9:memory:/{SCOPE}\n1:name=systemd:/{SCOPE}\n");
        kernel.write("proc/7/cgroup", &v1);
        kernel.events(SCOPE, 9, 9);
        assert_eq!(kernel.kills(7), None);
        kernel.write("proc/7/cgroup", &format!("{v1}0::/{SCOPE}\n"));
        for nonsense in ["", "oom 1\n", "oom x\noom_kill 1\n", "oom_kill 1\n"] {
            kernel.write(&format!("cgroup/{SCOPE}/memory.events"), nonsense);
            assert_eq!(kernel.kills(7), None, "{nonsense}");
        }
    }
}
