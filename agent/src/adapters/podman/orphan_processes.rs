//! Orphans: containers that run but that Podman no longer knows, found by their processes.
//!
//! Its service was killed in the middle of a start, or its database was replaced: the processes go
//! on, and hold the address of their slot for as long as the machine runs. Podman names each
//! container on the command line of its monitor (`conmon(8)`), which forwards signals to it, and
//! whose exit ends its port forwarder.
//!
//! A command line proves nothing: a container's root could pose as the monitor of another app's
//! container that is orphaned, and keep that app from its address or its end. A real monitor is
//! outside every container, by pid namespace and cgroup, and runs the host's own `conmon`.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http::Method;
use rustix::process::Signal;
use serde::Deserialize;

use super::elements::Keep;
use super::process::{
    KILLED, PROC, children, command_line, failed, gone, is_in_container, look, own, runs_program,
    signal_if,
};
use super::transport::{Call, Transport, TransportError};
use crate::model::workload::{Identity, Slot, WorkloadId, container_name, container_owner};
use crate::ports::ContainersError;

const OPERATION: &str = "find and end orphaned containers";

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Known {
    id: String,
}

/// Name of the monitor's program.
const CONMON: &str = "conmon";

/// Podman's monitor of one container of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Monitor {
    pid: u32,
    container: String,
    identity: Identity,
    bundle: PathBuf,
}

/// Orphans among those created in the storage at `root`.
pub(super) async fn list(
    transport: &Transport,
    root: &Path,
) -> Result<Vec<Identity>, ContainersError> {
    let orphans = orphans(transport, |monitor| monitor.bundle.starts_with(root)).await?;
    Ok(orphans.into_iter().map(|monitor| monitor.identity).collect())
}

/// Ends containers of this workload and slot that Podman does not know: SIGTERM, SIGKILL after `grace`.
pub(super) async fn end(
    transport: &Transport,
    workload: WorkloadId,
    slot: Slot,
    grace: Duration,
) -> Result<(), ContainersError> {
    let of_slot =
        |monitor: &Monitor| (monitor.identity.workload, monitor.identity.slot) == (workload, slot);
    for monitor in orphans(transport, of_slot).await? {
        let name = container_name(&monitor.identity);
        tracing::warn!(name, "ending an orphaned container");
        end_one(&monitor, &name, grace).await.map_err(failed(OPERATION))?;
    }
    Ok(())
}

/// Those of the `meant` monitors whose container Podman does not know.
async fn orphans(
    transport: &Transport,
    meant: impl Fn(&Monitor) -> bool,
) -> Result<Vec<Monitor>, ContainersError> {
    let mut running = look(OPERATION, monitors).await?;
    running.retain(meant);
    if running.is_empty() {
        return Ok(running);
    }
    // Listed after the processes: anything created in between is known.
    let known = known(transport).await?;
    running.retain(|monitor| !known.contains(&monitor.container));
    Ok(running)
}

async fn known(transport: &Transport) -> Result<BTreeSet<String>, ContainersError> {
    let call = Call::libpod(OPERATION, Method::GET, "containers/json?all=true");
    let mut known = BTreeSet::new();
    transport
        .list(call, &[Keep::Whole("Id")], |element| {
            if let Some(decoded) = element.decode::<Known>() {
                known.insert(decoded.map_err(TransportError::Decode)?.id);
            }
            Ok(())
        })
        .await?;
    Ok(known)
}

async fn end_one(monitor: &Monitor, name: &str, grace: Duration) -> io::Result<()> {
    // The monitor forwards it to the container, and exits with it.
    signal(monitor, monitor.pid, Signal::TERM)?;
    if gone(monitor.pid, grace).await {
        return Ok(());
    }
    for child in children(monitor.pid) {
        signal(monitor, child, Signal::KILL)?;
    }
    if gone(monitor.pid, KILLED).await {
        return Ok(());
    }
    signal(monitor, monitor.pid, Signal::KILL)?;
    if gone(monitor.pid, KILLED).await {
        return Ok(());
    }
    Err(io::Error::new(io::ErrorKind::TimedOut, format!("{name} does not end")))
}

/// Signals the monitor or its child.
fn signal(monitor: &Monitor, pid: u32, signal: Signal) -> io::Result<()> {
    signal_if(pid, signal, || {
        Monitor::of(Path::new(PROC), monitor.pid).is_some_and(|now| now == *monitor)
            && (pid == monitor.pid || children(monitor.pid).contains(&pid))
    })?;
    Ok(())
}

/// The monitors of our containers that run as this user.
fn monitors(proc: &Path) -> io::Result<Vec<Monitor>> {
    Ok(own(proc)?.filter_map(|pid| Monitor::of(proc, pid)).collect())
}

impl Monitor {
    /// The monitor that this process is, if it is one of a container of ours. For processes of
    /// [`own`] only.
    fn of(proc: &Path, pid: u32) -> Option<Self> {
        let monitor = Self::parse(pid, &command_line(proc, pid)?)?;
        let genuine = runs_program(proc, pid, CONMON) && !is_in_container(proc, pid);
        genuine.then_some(monitor)
    }

    fn parse(pid: u32, line: &[u8]) -> Option<Self> {
        let line = std::str::from_utf8(line).ok()?;
        let words: Vec<&str> = line.split('\0').collect();
        let program = Path::new(words.first()?).file_name()?;
        let value = |option: &str| {
            let at = words.iter().position(|word| *word == option)?;
            words.get(at + 1).map(|value| (*value).to_owned())
        };
        (program == CONMON).then_some(())?;
        let identity = container_owner(&value("-n")?)?;
        Some(Self { pid, container: value("-c")?, identity, bundle: value("-b")?.into() })
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    const NAME: &str = "buddo-550e8400-e29b-41d4-a716-446655440000-web-1-r12-b";

    /// A folder that looks like the kernel's, and the host's program.
    struct Kernel(tempfile::TempDir);

    impl Kernel {
        fn new() -> Self {
            let kernel = Self(tempfile::tempdir().unwrap());
            fs::write(kernel.conmon(), "").unwrap();
            kernel.process("self", "pid:[1]", &kernel.conmon(), "0::/x\n");
            kernel
        }

        fn conmon(&self) -> PathBuf {
            self.0.path().join("conmon")
        }

        /// A process with the command line of a monitor.
        fn process(&self, pid: &str, namespace: &str, program: &Path, cgroup: &str) {
            let folder = self.0.path().join(pid);
            fs::create_dir_all(folder.join("ns")).unwrap();
            symlink(namespace, folder.join("ns/pid")).unwrap();
            symlink(program, folder.join("exe")).unwrap();
            fs::write(folder.join("cgroup"), cgroup).unwrap();
            let line = format!("/usr/bin/conmon\0-c\0abc\0-b\0/s/abc\0-n\0{NAME}\0");
            fs::write(folder.join("cmdline"), line).unwrap();
        }

        fn monitors(&self) -> Vec<u32> {
            let found = monitors(self.0.path()).unwrap();
            found.into_iter().map(|monitor| monitor.pid).collect()
        }
    }

    #[test]
    fn fm_55_only_the_hosts_own_conmon_outside_of_containers_is_a_monitor() {
        let id = "0123456789abcdef".repeat(4);
        let of_monitor = format!("0::/user.slice/libpod-conmon-{id}.scope\n");
        let kernel = Kernel::new();
        let conmon = kernel.conmon();
        kernel.process("7", "pid:[1]", &conmon, &of_monitor);
        kernel.process("8", "pid:[1]", &conmon, "0::/user.slice/buddo-podman.service\n");
        // Upgraded since.
        kernel.process("9", "pid:[1]", Path::new("/usr/bin/conmon (deleted)"), &of_monitor);
        let mut genuine = kernel.monitors();
        genuine.sort_unstable();
        assert_eq!(genuine, [7, 8, 9]);

        let kernel = Kernel::new();
        let conmon = kernel.conmon();
        kernel.process("7", "pid:[2]", &conmon, &of_monitor);
        for (pid, inside) in [
            ("8", format!("0::/user.slice/libpod-{id}.scope/container\n")),
            ("9", format!("9:memory:/libpod_parent/libpod-{id}\n0::/\n")),
        ] {
            kernel.process(pid, "pid:[1]", &conmon, &inside);
        }
        let app = kernel.0.path().join("app");
        fs::write(&app, "").unwrap();
        kernel.process("10", "pid:[1]", &app, &of_monitor);
        // The path of the host's program, in an image: another file.
        let other = kernel.0.path().join("image/conmon");
        fs::create_dir(other.parent().unwrap()).unwrap();
        kernel.process("11", "pid:[1]", &other, &of_monitor);
        // A process that reveals nothing is not a monitor.
        kernel.process("12", "pid:[1]", &conmon, &of_monitor);
        fs::remove_file(kernel.0.path().join("12/ns/pid")).unwrap();
        kernel.process("13", "pid:[1]", &conmon, &of_monitor);
        fs::remove_file(kernel.0.path().join("13/exe")).unwrap();
        kernel.process("14", "pid:[1]", &conmon, &of_monitor);
        fs::remove_file(kernel.0.path().join("14/cgroup")).unwrap();
        assert_eq!(kernel.monitors(), Vec::<u32>::new());
    }

    #[test]
    fn a_monitor_is_known_by_its_command_line() {
        let name = "buddo-550e8400-e29b-41d4-a716-446655440000-web-1-r12-b";
        let line = format!(
            "/usr/bin/conmon\0-c\0abc\0-u\0abc\0-r\0/usr/bin/crun\0-b\0/s/abc\0-n\0{name}\0"
        );
        let expected = Monitor {
            pid: 7,
            container: "abc".to_owned(),
            identity: container_owner(name).unwrap(),
            bundle: PathBuf::from("/s/abc"),
        };
        assert_eq!(Monitor::parse(7, line.as_bytes()), Some(expected));
        for other in [
            String::new(),
            line.replace("conmon", "vim"),
            line.replace("buddo-", "postgres-"),
            line.replace("-n\0", "-m\0"),
            line.replace("-c\0", "-d\0"),
            "/usr/bin/conmon\0-c\0abc\0-b\0/s/abc\0-n".to_owned(),
        ] {
            assert_eq!(Monitor::parse(7, other.as_bytes()), None, "{other}");
        }
    }
}
