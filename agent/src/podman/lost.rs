//! Containers that run and that Podman does not know any more.
//!
//! Its service was killed in the middle of a start, or its database is another one: the processes
//! go on, and hold the address of their slot for as long as the machine runs. Podman names each
//! container on the command line of its monitor (`conmon(8)`), which passes signals on to it, and
//! whose end ends what forwards its port.

use std::collections::BTreeSet;
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::Duration;

use buddo_shared::id::DeploymentId;
use http::{Method, StatusCode};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::Deserialize;

use super::transport::{Call, Transport};
use crate::exits::pidfd::Pidfds;
use crate::ports::{ContainersError, Process, ProcessExits as _, Slot};
use crate::step::container_owner;

const OPERATION: &str = "end what Podman has lost";

/// The most that is read of one file of the kernel's, in bytes.
const MAX_FILE: u64 = 64 * 1024;

/// From SIGKILL until a process is gone.
pub(super) const KILLED: Duration = Duration::from_secs(5);

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Known {
    id: String,
}

/// Podman's monitor of one container.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Monitor {
    pid: u32,
    container: String,
    name: String,
}

/// Ends containers of this slot that Podman does not know: SIGTERM, SIGKILL after `grace`.
pub(super) async fn end(
    transport: &Transport,
    deployment: DeploymentId,
    slot: Slot,
    grace: Duration,
) -> Result<(), ContainersError> {
    let failed = |source: io::Error| ContainersError::Unavailable {
        operation: OPERATION,
        source: Box::new(source),
    };
    let running = tokio::task::spawn_blocking(|| monitors(Path::new("/proc")));
    let running = running.await.map_err(io::Error::other).map_err(failed)?.map_err(failed)?;
    let ours = |monitor: &Monitor| {
        container_owner(&monitor.name).is_some_and(|i| (i.deployment, i.slot) == (deployment, slot))
    };
    let running: Vec<_> = running.into_iter().filter(ours).collect();
    if running.is_empty() {
        return Ok(());
    }
    // After the look at processes: what was made in between is known.
    let known = known(transport).await?;
    for monitor in running.into_iter().filter(|monitor| !known.contains(&monitor.container)) {
        tracing::warn!(name = monitor.name, "a container that Podman has lost is ended");
        end_one(&monitor, grace).await.map_err(failed)?;
    }
    Ok(())
}

async fn known(transport: &Transport) -> Result<BTreeSet<String>, ContainersError> {
    let call = Call::libpod(OPERATION, Method::GET, "containers/json?all=true");
    let answer = transport.call(call).await?;
    if answer.status != StatusCode::OK {
        return Err(answer.refusal());
    }
    Ok(answer.json::<Vec<Known>>()?.into_iter().map(|known| known.id).collect())
}

async fn end_one(monitor: &Monitor, grace: Duration) -> io::Result<()> {
    let process = Process { container: monitor.container.clone(), pid: monitor.pid };
    // The monitor passes it on to the container, and ends with it.
    signal(monitor, monitor.pid, Signal::TERM)?;
    if gone(&process, grace).await {
        return Ok(());
    }
    for child in children(monitor.pid) {
        signal(monitor, child, Signal::KILL)?;
    }
    if gone(&process, KILLED).await {
        return Ok(());
    }
    signal(monitor, monitor.pid, Signal::KILL)?;
    if gone(&process, KILLED).await {
        return Ok(());
    }
    Err(io::Error::new(io::ErrorKind::TimedOut, format!("{} does not end", monitor.name)))
}

/// Signals the monitor or its child.
fn signal(monitor: &Monitor, pid: u32, signal: Signal) -> io::Result<()> {
    signal_if(pid, signal, || {
        Monitor::of(Path::new("/proc"), monitor.pid).is_some_and(|now| now == *monitor)
            && (pid == monitor.pid || children(monitor.pid).contains(&pid))
    })
}

/// Signals a process if it is the one that is meant: asked once there is a handle of it, for its
/// number may be another process's by now. One that is gone is success.
pub(super) fn signal_if(pid: u32, signal: Signal, is: impl Fn() -> bool) -> io::Result<()> {
    let Some(raw) = pid.try_into().ok().and_then(Pid::from_raw) else { return Ok(()) };
    let handle = match pidfd_open(raw, PidfdFlags::empty()) {
        Ok(handle) => handle,
        Err(rustix::io::Errno::SRCH) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    if !is() {
        return Ok(());
    }
    match pidfd_send_signal(handle, signal) {
        Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Whether the process ends in time.
pub(super) async fn gone(process: &Process, within: Duration) -> bool {
    match Pidfds.exit(process) {
        Some(exit) => tokio::time::timeout(within, exit).await.is_ok(),
        None => false,
    }
}

/// Children of a process, of all its threads (`proc_pid_task(5)`).
fn children(pid: u32) -> Vec<u32> {
    let Ok(tasks) = std::fs::read_dir(format!("/proc/{pid}/task")) else { return Vec::new() };
    let files = tasks.filter_map(Result::ok).map(|task| task.path().join("children"));
    let texts = files.filter_map(|file| std::fs::read_to_string(file).ok());
    texts
        .flat_map(|text| {
            text.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>()
        })
        .collect()
}

/// The monitors that run as this user.
fn monitors(proc: &Path) -> io::Result<Vec<Monitor>> {
    Ok(own_processes(proc)?.filter_map(|pid| Monitor::of(proc, pid)).collect())
}

/// The processes that run as this user.
pub(super) fn own_processes(proc: &Path) -> io::Result<impl Iterator<Item = u32> + use<>> {
    let user = nix::unistd::geteuid().as_raw();
    let processes = std::fs::read_dir(proc)?.filter_map(Result::ok).filter(move |entry| {
        // What ended meanwhile is none of them.
        entry.metadata().is_ok_and(|metadata| metadata.uid() == user)
    });
    Ok(processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok()))
}

/// A process's words, each ended by a zero (`proc_pid_cmdline(5)`).
pub(super) fn command_line(proc: &Path, pid: u32) -> Option<Vec<u8>> {
    let mut line = Vec::new();
    let file = std::fs::File::open(proc.join(pid.to_string()).join("cmdline")).ok()?;
    file.take(MAX_FILE).read_to_end(&mut line).ok()?;
    Some(line)
}

impl Monitor {
    /// The monitor that this process is, if it is one.
    fn of(proc: &Path, pid: u32) -> Option<Self> {
        Self::parse(pid, &command_line(proc, pid)?)
    }

    fn parse(pid: u32, line: &[u8]) -> Option<Self> {
        let line = std::str::from_utf8(line).ok()?;
        let words: Vec<&str> = line.split('\0').collect();
        let program = Path::new(words.first()?).file_name()?;
        let value = |option: &str| {
            let at = words.iter().position(|word| *word == option)?;
            words.get(at + 1).map(|value| (*value).to_owned())
        };
        (program == "conmon").then_some(())?;
        Some(Self { pid, container: value("-c")?, name: value("-n")? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_monitor_is_known_by_its_command_line() {
        let line = "/usr/bin/conmon\0-s\0-c\0abc\0-u\0abc\0-r\0/usr/bin/crun\0-n\0buddo-x\0";
        let monitor = Monitor::parse(7, line.as_bytes()).unwrap();
        let expected = Monitor { pid: 7, container: "abc".to_owned(), name: "buddo-x".to_owned() };
        assert_eq!(monitor, expected);
        for other in
            ["", "/usr/bin/vim\0-c\0abc\0-n\0buddo-x", "/usr/bin/conmon\0-c\0abc", "conmon\0-n"]
        {
            assert_eq!(Monitor::parse(7, other.as_bytes()), None, "{other}");
        }
    }
}
