//! Podman's processes, as `/proc` shows them: found by their command line, and signalled through a
//! pidfd, so that a reused PID is never hit.
//!
//! A container's root is this very user on the host, and may give its processes any command line.
//! They are in another pid namespace, which they cannot leave, so those are never considered.

use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::adapters::pidfd::Pidfds;
use crate::model::container::Process;
use crate::ports::{ContainersError, ProcessExits as _};

/// Where the kernel shows processes.
pub(super) const PROC: &str = "/proc";

/// From SIGKILL until a process is gone.
pub(super) const KILLED: Duration = Duration::from_secs(5);

/// The most that is read of one file of the kernel's, in bytes.
const MAX_FILE: u64 = 64 * 1024;

/// Reads from `/proc`, off the async threads.
pub(super) async fn look<T: Send + 'static>(
    operation: &'static str,
    find: impl FnOnce(&Path) -> io::Result<T> + Send + 'static,
) -> Result<T, ContainersError> {
    let found = tokio::task::spawn_blocking(|| find(Path::new(PROC))).await;
    found.map_err(io::Error::other).flatten().map_err(failed(operation))
}

/// Maps a kernel error to an operation's error.
pub(super) fn failed(operation: &'static str) -> impl Fn(io::Error) -> ContainersError {
    move |source| ContainersError::Unavailable { operation, source: Box::new(source) }
}

/// The processes that run as this user, outside containers: in the agent's pid namespace. A process
/// whose namespace cannot be read is not this user's to signal either.
pub(super) fn own(proc: &Path) -> io::Result<impl Iterator<Item = u32> + use<>> {
    let ours = pid_namespace(&proc.join("self"))
        .ok_or_else(|| io::Error::other("the kernel does not tell the agent's pid namespace"))?;
    let proc_of = proc.to_owned();
    let is_outside =
        move |pid: &u32| pid_namespace(&proc_of.join(pid.to_string())).is_some_and(|n| n == ours);
    let processes = std::fs::read_dir(proc)?.filter_map(Result::ok).filter(|entry| {
        // A process that exited meanwhile is skipped.
        entry.metadata().is_ok_and(|metadata| is_own_user(metadata.uid()))
    });
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    Ok(pids.filter(is_outside))
}

/// `pid:[4026531836]` (`pid_namespaces(7)`). `None` if it is gone, or another user's.
fn pid_namespace(process: &Path) -> Option<PathBuf> {
    std::fs::read_link(process.join("ns/pid")).ok()
}

/// Whether a process runs a program of this name that is a file of the host: the path leads, here,
/// to the very file that runs. A container's own file of that path is a different one. A program
/// that was upgraded since no longer has a path (`proc_pid_exe(5)`).
pub(super) fn runs_program(proc: &Path, pid: u32, name: &str) -> bool {
    let link = proc.join(pid.to_string()).join("exe");
    let Ok(path) = std::fs::read_link(&link) else { return false };
    let (path, deleted) = match path.to_str().and_then(|text| text.strip_suffix(" (deleted)")) {
        Some(former) => (PathBuf::from(former), true),
        None => (path, false),
    };
    if path.file_name().is_none_or(|file| file != name) {
        return false;
    }
    let file = |path: &Path| std::fs::metadata(path).ok().map(|seen| (seen.dev(), seen.ino()));
    let running = file(&link);
    deleted || running.is_some() && running == file(&path)
}

/// Whether a process is in a container's cgroup, by Podman's names for these: its monitor is not,
/// everything else of a container is (`cgroups(7)`). One that cannot be read counts as inside.
pub(super) fn is_in_container(proc: &Path, pid: u32) -> bool {
    let file = std::fs::File::open(proc.join(pid.to_string()).join("cgroup"));
    let mut table = String::new();
    if file.and_then(|file| file.take(MAX_FILE).read_to_string(&mut table)).is_err() {
        return true;
    }
    let of_container = |part: &str| {
        let id = part.strip_prefix("libpod-").map(|id| id.strip_suffix(".scope").unwrap_or(id));
        id.is_some_and(|id| id.len() == 64 && id.bytes().all(|byte| byte.is_ascii_hexdigit()))
    };
    table.lines().any(|line| line.split('/').any(of_container))
}

/// Whether this is the agent's own user.
pub(super) fn is_own_user(uid: u32) -> bool {
    uid == nix::unistd::geteuid().as_raw()
}

/// A process's arguments, each terminated by a zero (`proc_pid_cmdline(5)`). Empty if it is gone.
pub(super) fn command_line(proc: &Path, pid: u32) -> Option<Vec<u8>> {
    let mut line = Vec::new();
    let file = std::fs::File::open(proc.join(pid.to_string()).join("cmdline")).ok()?;
    file.take(MAX_FILE).read_to_end(&mut line).ok()?;
    Some(line)
}

/// Children of a process, across all its threads (`proc_pid_task(5)`).
pub(super) fn children(pid: u32) -> Vec<u32> {
    let Ok(tasks) = std::fs::read_dir(format!("{PROC}/{pid}/task")) else { return Vec::new() };
    let files = tasks.filter_map(Result::ok).map(|task| task.path().join("children"));
    let texts = files.filter_map(|file| std::fs::read_to_string(file).ok());
    texts
        .flat_map(|text| {
            text.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>()
        })
        .collect()
}

/// Signals a process if it is the intended one: checked once its pidfd is held. Returns whether it
/// was; one that is gone by then was not.
pub(super) fn signal_if(pid: u32, signal: Signal, is: impl Fn() -> bool) -> io::Result<bool> {
    let Some(raw) = pid.try_into().ok().and_then(Pid::from_raw) else { return Ok(false) };
    let handle = match pidfd_open(raw, PidfdFlags::empty()) {
        Ok(handle) => handle,
        Err(Errno::SRCH) => return Ok(false),
        Err(error) => return Err(error.into()),
    };
    if !is() {
        return Ok(false);
    }
    match pidfd_send_signal(handle, signal) {
        Ok(()) => Ok(true),
        Err(Errno::SRCH) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Whether the process exits in time.
pub(super) async fn gone(pid: u32, within: Duration) -> bool {
    // A PID alone suffices to see it exit.
    match Pidfds.exit(&Process { container: String::new(), pid }) {
        Some(exit) => tokio::time::timeout(within, exit).await.is_ok(),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[tokio::test]
    async fn only_the_intended_process_is_signalled() {
        let mut child = Command::new("sleep").arg("600").spawn().unwrap();
        let pid = child.id();
        let proc = Path::new(PROC);
        let is_sleep = |pid| command_line(proc, pid).is_some_and(|line| line == b"sleep\x00600\0");
        // Until it has exec'd another program.
        while !is_sleep(pid) {
            tokio::task::yield_now().await;
        }
        assert!(own(proc).unwrap().any(|own| own == pid));
        assert!(children(std::process::id()).contains(&pid));
        assert!(!signal_if(pid, Signal::KILL, || false).unwrap());
        assert!(child.try_wait().unwrap().is_none(), "it is not the one");
        assert!(signal_if(pid, Signal::KILL, || is_sleep(pid)).unwrap());
        assert!(gone(pid, KILLED).await);
        child.wait().unwrap();
        assert!(!signal_if(pid, Signal::KILL, || true).unwrap(), "it is gone");
        assert_eq!(command_line(proc, pid), None);
    }
}
