//! The first process of a world: keeps its services running, as systemd does on a real host.
//!
//! ```text
//! control.sock ─ requests ─┐
//!                          ├─► one loop: start, restart after a back-off, answer
//! waitpid ─ exits ─────────┘
//! ```
//!
//! It must reap every orphan (each container's monitor becomes one), so it waits for *any*
//! child, and nobody else in this process may wait for one.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddrV4, TcpListener, UdpSocket};
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::waitpid;
use nix::unistd::Pid;

use super::protocol::{LONGEST, PATIENCE, Request, Response, Service, ServiceStatus};

/// First pause before a restart; doubles with each start that did not last.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// A process that ran this long starts with the first pause again.
const LASTED: Duration = Duration::from_secs(10);
/// Between SIGTERM and SIGKILL at the end.
const GRACE: Duration = Duration::from_secs(5);

/// What a supervisor needs to know.
#[derive(Debug, Clone)]
pub(super) struct Supervisor {
    pub control: PathBuf,
    /// Folder of the logs.
    pub logs: PathBuf,
    /// Environment of every service.
    pub env: BTreeMap<String, String>,
    /// User and group that services run as.
    pub user: (u32, u32),
    /// Address of the UDP socket held for the resolver: queries wait in it while it restarts.
    pub held_udp: SocketAddrV4,
    /// Address of the TCP listener held for the resolver.
    pub held_tcp: SocketAddrV4,
}

enum Event {
    Exited(Pid),
    Asked(Request, Sender<Response>),
}

struct Kept {
    service: Service,
    pid: Option<Pid>,
    starts: u32,
    started: Instant,
    pause: Duration,
    /// When to start it again, while it is down.
    due: Option<Instant>,
}

struct Loop {
    config: Supervisor,
    held: [OwnedFd; 2],
    kept: BTreeMap<String, Kept>,
}

impl Supervisor {
    /// Binds, then keeps services running until shut down.
    pub(super) fn run(self) -> anyhow::Result<()> {
        let udp = UdpSocket::bind(self.held_udp)
            .with_context(|| format!("cannot hold udp {}", self.held_udp))?;
        let tcp = TcpListener::bind(self.held_tcp)
            .with_context(|| format!("cannot hold tcp {}", self.held_tcp))?;
        let held = [OwnedFd::from(udp), OwnedFd::from(tcp)];
        anyhow::ensure!(
            held[0].as_raw_fd() + 1 == held[1].as_raw_fd(),
            "the held sockets are not neighbours"
        );
        let _ = std::fs::remove_file(&self.control);
        let listener = UnixListener::bind(&self.control)
            .with_context(|| format!("cannot listen on {}", self.control.display()))?;
        let (events, inbox) = channel();
        let exits = events.clone();
        std::thread::Builder::new().name("reaper".into()).spawn(move || reap(&exits))?;
        std::thread::Builder::new()
            .name("control".into())
            .spawn(move || serve(&listener, &events))?;
        Loop { config: self, held, kept: BTreeMap::new() }.run(&inbox)
    }
}

fn reap(events: &Sender<Event>) {
    loop {
        match waitpid(None, None) {
            Ok(status) => {
                if let Some(pid) = status.pid()
                    && events.send(Event::Exited(pid)).is_err()
                {
                    return;
                }
            }
            Err(Errno::ECHILD) => std::thread::park_timeout(Duration::from_millis(20)),
            Err(_) => {}
        }
    }
}

fn serve(listener: &UnixListener, events: &Sender<Event>) {
    for stream in listener.incoming().flatten() {
        // A client that sends nonsense or disconnects is its own problem.
        let _ = converse(&stream, events);
    }
}

fn converse(mut stream: &UnixStream, events: &Sender<Event>) -> anyhow::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut line = String::new();
    BufReader::new(stream.take(LONGEST)).read_line(&mut line)?;
    let response = match serde_json::from_str(&line) {
        Ok(request) => {
            let (reply, answer) = channel();
            events.send(Event::Asked(request, reply))?;
            answer.recv_timeout(PATIENCE)?
        }
        Err(error) => Response::Refused(error.to_string()),
    };
    let mut line = serde_json::to_vec(&response)?;
    line.push(b'\n');
    Ok(stream.write_all(&line)?)
}

impl Loop {
    fn run(mut self, inbox: &Receiver<Event>) -> anyhow::Result<()> {
        loop {
            let now = Instant::now();
            let next = self.kept.values().filter_map(|kept| kept.due).min();
            let wait = next.map_or(PATIENCE, |due| due.saturating_duration_since(now));
            match inbox.recv_timeout(wait) {
                Ok(Event::Exited(pid)) => self.exited(pid),
                Ok(Event::Asked(Request::Shutdown, reply)) => {
                    self.shutdown(inbox);
                    let _ = reply.send(Response::Done);
                    // Lets the answer be sent: the control thread dies with this process.
                    let _ = inbox.recv_timeout(Duration::from_millis(200));
                    return Ok(());
                }
                Ok(Event::Asked(request, reply)) => {
                    let _ = reply.send(self.answer(request));
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
            }
            self.start_due(Instant::now());
        }
    }

    fn answer(&mut self, request: Request) -> Response {
        match request {
            Request::Keep(service) => {
                let now = Instant::now();
                self.kept.entry(service.name.clone()).or_insert(Kept {
                    service,
                    pid: None,
                    starts: 0,
                    started: now,
                    pause: FIRST_PAUSE,
                    due: Some(now),
                });
                Response::Done
            }
            Request::Stop { name, signal } => match self.kept.remove(&name) {
                Some(kept) => {
                    if let Ok(signal) = signal.try_into() {
                        send(kept.pid, signal);
                    }
                    Response::Done
                }
                None => Response::Refused(format!("there is no service {name}")),
            },
            Request::Signal { name, signal } => self.signal(&name, signal),
            Request::Status => Response::Services(self.kept.values().map(status).collect()),
            Request::Shutdown => Response::Done,
        }
    }

    fn signal(&self, name: &str, signal: i32) -> Response {
        let Some(kept) = self.kept.get(name) else {
            return Response::Refused(format!("there is no service {name}"));
        };
        let Ok(signal) = signal.try_into() else {
            return Response::Refused(format!("there is no signal {signal}"));
        };
        // Killing a process that is already dead would mean waiting for a restart that does not
        // come.
        let Some(pid) = kept.pid else {
            return Response::Refused(format!("the service {name} is down, between two starts"));
        };
        send(Some(pid), signal);
        Response::Done
    }

    fn exited(&mut self, pid: Pid) {
        let Some(kept) = self.kept.values_mut().find(|kept| kept.pid == Some(pid)) else { return };
        kept.pid = None;
        if kept.started.elapsed() >= LASTED {
            kept.pause = FIRST_PAUSE;
        }
        kept.due = Some(Instant::now() + kept.pause);
        kept.pause = (kept.pause * 2).min(LONGEST_PAUSE);
    }

    fn start_due(&mut self, now: Instant) {
        for kept in self.kept.values_mut() {
            if kept.due.is_none_or(|due| due > now) {
                continue;
            }
            kept.starts += 1;
            kept.started = now;
            match start(&self.config, &kept.service, &self.held) {
                Ok(pid) => (kept.pid, kept.due) = (Some(pid), None),
                Err(_) => kept.due = Some(now + LONGEST_PAUSE),
            }
        }
    }

    fn shutdown(&mut self, inbox: &Receiver<Event>) {
        let mut left: Vec<Pid> = self.kept.values().filter_map(|kept| kept.pid).collect();
        self.kept.clear();
        let end = Instant::now() + GRACE;
        for pid in &left {
            send(Some(*pid), Signal::SIGTERM);
        }
        while !left.is_empty() {
            match inbox.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(Event::Exited(pid)) => left.retain(|other| *other != pid),
                Ok(Event::Asked(_, reply)) => {
                    let _ = reply.send(Response::Refused("shutting down".to_owned()));
                }
                Err(_) => break,
            }
        }
        for pid in left {
            send(Some(pid), Signal::SIGKILL);
        }
    }
}

fn send(pid: Option<Pid>, signal: Signal) {
    if let Some(pid) = pid {
        // It may have ended meanwhile; its exit is on the way to us then.
        let _ = kill(pid, signal);
    }
}

/// Starts via `setpriv`, which execs the program: a failing exec is then an exit
/// status for the reaper and never a child that `Command` itself waits for.
fn start(config: &Supervisor, service: &Service, held: &[OwnedFd; 2]) -> anyhow::Result<Pid> {
    let log = open_log(config, &service.name)?;
    let mut command = Command::new("setpriv");
    if nix::unistd::geteuid().is_root() {
        let (user, group) = config.user;
        command.args([format!("--reuid={user}"), format!("--regid={group}")]);
        command.arg("--clear-groups");
    }
    command.arg("--").args(&service.argv).env_clear().envs(&config.env).envs(&service.env);
    command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    if service.held_sockets {
        command.env("LISTEN_FDS", "2").env("LISTEN_FDNAMES", "dns:ask");
        command.env("LISTEN_FDS_FIRST_FD", held[0].as_raw_fd().to_string());
        inheritable(held, true)?;
    }
    let child = command.spawn();
    if service.held_sockets {
        inheritable(held, false)?;
    }
    Ok(Pid::from_raw(i32::try_from(child?.id())?))
}

/// Only this thread starts processes, so nobody else inherits them in between.
fn inheritable(held: &[OwnedFd; 2], yes: bool) -> nix::Result<()> {
    let flag = if yes { FdFlag::empty() } else { FdFlag::FD_CLOEXEC };
    held.iter().try_for_each(|fd| fcntl(fd.as_fd(), FcntlArg::F_SETFD(flag)).map(drop))
}

fn open_log(config: &Supervisor, name: &str) -> anyhow::Result<File> {
    let path = config.logs.join(format!("{name}.log"));
    OpenOptions::new()
        .create(true)
        .append(true)
        .open(&path)
        .with_context(|| format!("cannot write {}", path.display()))
}

fn status(kept: &Kept) -> ServiceStatus {
    let (rss_kib, cpu_ticks, written) = kept.pid.and_then(usage).unwrap_or_default();
    ServiceStatus {
        name: kept.service.name.clone(),
        pid: kept.pid.map(Pid::as_raw),
        starts: kept.starts,
        rss_kib,
        cpu_ticks,
        written,
    }
}

/// Resident memory, processor time and bytes written of a process, from `proc_pid_stat(5)` and
/// `proc_pid_io(5)`.
fn usage(pid: Pid) -> Option<(u64, u64, u64)> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let rss = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let rss = rss.trim().trim_end_matches("kB").trim().parse().ok()?;
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split(' ').collect();
    let ticks = |index: usize| fields.get(index)?.parse::<u64>().ok();
    let io = std::fs::read_to_string(format!("/proc/{pid}/io")).ok()?;
    let written = io.lines().find_map(|line| line.strip_prefix("write_bytes: "))?;
    Some((rss, ticks(11)? + ticks(12)?, written.parse().ok()?))
}
