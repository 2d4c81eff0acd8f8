//! The service's process: ended when it hangs or has grown too large, so that systemd restarts it.
//!
//! ```text
//!   call ── no answer within its deadline, three times in a row ──► SIGKILL ┐
//!   call ── nobody listens on its socket, for a while ────────────► SIGKILL ┤
//!   facts ── more resident memory than it may have ───────────────► SIGTERM ┴► Restart=always
//! ```
//!
//! Podman's API hangs for good (containers/podman issue 16326; 4.3 does after one look at a damaged
//! database) and leaks (issue 14879). Its containers are separate processes and are unaffected. The
//! agent runs as the same user, so it needs no right to command systemd. The kernel says which
//! process to signal: the peer of the socket is the process that listens on it. If systemd itself
//! listens (`podman.socket`), nobody is signalled.
//!
//! A service can also be running but unreachable: rootless it is two processes, and if only the
//! waiting one is killed, the serving one removes the socket's path when it exits, which by then
//! may be its successor's. Such a service is found by the address on its command line.

use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::process::Signal;
use tokio::net::UnixStream;
use tokio::time::Instant;

use super::process::{PROC, command_line, is_own_user, own, signal_if};

/// This many calls in a row without an answer mean that the service hangs.
const MISSES: u32 = 3;

/// If nobody listens for this long, the service is not just starting.
const ABSENT: Duration = Duration::from_secs(15);

/// A fresh service gets this long to recover.
const BETWEEN: Duration = Duration::from_mins(1);

/// How long the kernel may take to report who listens.
const DEADLINE: Duration = Duration::from_secs(1);

/// Counts calls without an answer.
#[derive(Debug, Default)]
pub(super) struct Silence(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    misses: u32,
    absent_since: Option<Instant>,
    ended: Option<Instant>,
}

impl Silence {
    /// A call was answered, successfully or not.
    pub(super) fn broken(&self) {
        let mut state = self.state();
        (state.misses, state.absent_since) = (0, None);
    }

    /// A call met its deadline. True if the service should be killed.
    pub(super) fn missed(&self, now: Instant) -> bool {
        let mut state = self.state();
        state.misses = state.misses.saturating_add(1);
        state.misses >= MISSES && state.ends(now)
    }

    /// Nobody listened. True if the service, should there be one, should be killed.
    pub(super) fn absent(&self, now: Instant) -> bool {
        let mut state = self.state();
        let since = *state.absent_since.get_or_insert(now);
        now.duration_since(since) >= ABSENT && state.ends(now)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Unless that was done just now.
    fn ends(&mut self, now: Instant) -> bool {
        if self.ended.is_some_and(|ended| now.duration_since(ended) < BETWEEN) {
            return false;
        }
        *self = Self { ended: Some(now), ..Self::default() };
        true
    }
}

/// Kills the hanging service.
pub(super) async fn end(socket: &Path) {
    match listener(socket).await {
        Some(pid) => {
            signal(pid, Signal::KILL, "it hangs");
        }
        None => end_absent(socket).await,
    }
}

/// Kills the service that runs for `socket` but cannot be reached there, if there is one.
pub(super) async fn end_absent(socket: &Path) {
    let address = format!("unix://{}", socket.display()).into_bytes();
    let found = tokio::task::spawn_blocking(move || services_of(&address)).await;
    for pid in found.unwrap_or_default() {
        signal(pid, Signal::KILL, "it is not reachable on its socket");
    }
}

/// This user's Podman services that were told to listen on `address`.
fn services_of(address: &[u8]) -> Vec<u32> {
    let proc = Path::new(PROC);
    let told = |pid: &u32| {
        let command = command_line(proc, *pid).unwrap_or_default();
        is_service(&command) && command.split(|byte| *byte == 0).any(|word| word == address)
    };
    own(proc).into_iter().flatten().filter(told).collect()
}

/// Ends the service if it uses more than `limit_kib` KiB of memory. Returns whether it did.
pub(super) async fn end_if_larger(socket: &Path, limit_kib: u64) -> bool {
    let Some(pid) = listener(socket).await else { return false };
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    if resident_kib(&status).is_none_or(|resident| resident <= limit_kib) {
        return false;
    }
    signal(pid, Signal::TERM, "it has grown too large")
}

/// Returns whether it was signalled.
fn signal(pid: u32, signal: Signal, reason: &str) -> bool {
    match signal_if(pid, signal, || runs_service(pid)) {
        Ok(true) => tracing::warn!(pid, ?signal, reason, "ending Podman's service"),
        Ok(false) => return false,
        Err(error) => {
            tracing::warn!(pid, %error, reason, "cannot end Podman's service");
            return false;
        }
    }
    true
}

/// The process that listens on `socket`, if it is a Podman service of this user.
async fn listener(socket: &Path) -> Option<u32> {
    let connected = tokio::time::timeout(DEADLINE, UnixStream::connect(socket)).await;
    let peer = connected.ok()?.ok()?.peer_cred().ok()?;
    let pid = peer.pid().filter(|_| is_own_user(peer.uid()))?.try_into().ok()?;
    runs_service(pid).then_some(pid)
}

fn runs_service(pid: u32) -> bool {
    command_line(Path::new(PROC), pid).is_some_and(|command| is_service(&command))
}

/// Whether a command line (`proc_pid_cmdline(5)`) is that of `podman system service`.
fn is_service(command: &[u8]) -> bool {
    let mut words = command.split(|byte| *byte == 0);
    let podman = words.next().is_some_and(|program| program.ends_with(b"podman"));
    podman && words.any(|word| word == b"service")
}

/// `VmRSS` of `/proc/PID/status` (`proc_pid_status(5)`), in KiB.
fn resident_kib(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_unanswered_calls_in_a_row_end_the_service_at_most_once_a_minute() {
        let (silence, begun) = (Silence::default(), Instant::now());
        assert!(!silence.missed(begun) && !silence.missed(begun));
        silence.broken();
        assert!(!silence.missed(begun) && !silence.missed(begun) && silence.missed(begun));
        for _ in 0..10 {
            assert!(!silence.missed(begun + BETWEEN / 2));
        }
        assert!(silence.missed(begun + BETWEEN));
    }

    #[test]
    fn a_lasting_absence_triggers_a_check_and_an_answer_resets_it() {
        let (silence, begun) = (Silence::default(), Instant::now());
        assert!(!silence.absent(begun) && !silence.absent(begun + ABSENT / 2));
        silence.broken();
        assert!(!silence.absent(begun + ABSENT) && silence.absent(begun + ABSENT * 2));
        assert!(!silence.absent(begun + ABSENT * 3) && !silence.absent(begun + ABSENT * 4));
        assert!(silence.absent(begun + ABSENT * 2 + BETWEEN));
    }

    #[test]
    fn only_a_podman_service_is_ever_signalled() {
        assert!(is_service(b"podman\0system\0service\0--time=0\0unix:///run/p.sock\0"));
        assert!(is_service(b"/usr/bin/podman\0--log-level=info\0system\0service\0"));
        for other in
            [&b"/lib/systemd/systemd\0--user\0"[..], b"podman\0run\0x\0", b"service\0", b""]
        {
            assert!(!is_service(other));
        }
    }

    #[test]
    fn parses_resident_memory_from_proc_status() {
        assert_eq!(resident_kib("Name:\tpodman\nVmRSS:\t   30688 kB\n"), Some(30_688));
        assert_eq!(resident_kib("Name:\tkthreadd\n"), None);
    }

    #[tokio::test]
    async fn a_listener_other_than_podman_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("s");
        let _listening = tokio::net::UnixListener::bind(&socket).unwrap();
        assert_eq!(listener(&socket).await, None);
        end(&socket).await;
        assert!(!end_if_larger(&socket, 0).await);
    }
}
