//! Podman's processes, as `/proc` shows them: found by their command line, and signalled through a
//! handle, so that a number that is another process's by now harms nobody.

use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::exits::pidfd::Pidfds;
use crate::ports::{ContainersError, Process, ProcessExits as _};

/// Where the kernel shows processes.
pub(super) const PROC: &str = "/proc";

/// From SIGKILL until a process is gone.
pub(super) const KILLED: Duration = Duration::from_secs(5);

/// The most that is read of one file of the kernel's, in bytes.
const MAX_FILE: u64 = 64 * 1024;

/// Looks through what the kernel shows, off the async threads.
pub(super) async fn look<T: Send + 'static>(
    operation: &'static str,
    find: impl FnOnce(&Path) -> io::Result<T> + Send + 'static,
) -> Result<T, ContainersError> {
    let found = tokio::task::spawn_blocking(|| find(Path::new(PROC))).await;
    found.map_err(io::Error::other).flatten().map_err(failed(operation))
}

/// What an error of the kernel's means for an operation.
pub(super) fn failed(operation: &'static str) -> impl Fn(io::Error) -> ContainersError {
    move |source| ContainersError::Unavailable { operation, source: Box::new(source) }
}

/// The processes that run as this user.
pub(super) fn own(proc: &Path) -> io::Result<impl Iterator<Item = u32> + use<>> {
    let processes = std::fs::read_dir(proc)?.filter_map(Result::ok).filter(|entry| {
        // What ended meanwhile is none of them.
        entry.metadata().is_ok_and(|metadata| is_own_user(metadata.uid()))
    });
    Ok(processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok()))
}

/// Whether this is the user that the agent runs as.
pub(super) fn is_own_user(uid: u32) -> bool {
    uid == nix::unistd::geteuid().as_raw()
}

/// A process's words, each ended by a zero (`proc_pid_cmdline(5)`). Nothing if it is gone.
pub(super) fn command_line(proc: &Path, pid: u32) -> Option<Vec<u8>> {
    let mut line = Vec::new();
    let file = std::fs::File::open(proc.join(pid.to_string()).join("cmdline")).ok()?;
    file.take(MAX_FILE).read_to_end(&mut line).ok()?;
    Some(line)
}

/// Children of a process, of all its threads (`proc_pid_task(5)`).
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

/// Signals a process if it is the one that is meant: asked once there is a handle of it. Whether
/// it was; one that is gone by then is not.
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

/// Whether the process ends in time.
pub(super) async fn gone(pid: u32, within: Duration) -> bool {
    // The end of a process is told by its number alone.
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
    async fn only_the_process_that_is_meant_is_signalled() {
        let mut child = Command::new("sleep").arg("600").spawn().unwrap();
        let pid = child.id();
        let proc = Path::new(PROC);
        let is_sleep = |pid| command_line(proc, pid).is_some_and(|line| line == b"sleep\x00600\0");
        // Until it is another program than this one.
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
