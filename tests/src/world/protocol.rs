//! The protocol of the supervisor's control socket: one JSON line each way.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde::{Deserialize, Serialize};

/// Longest line either way.
pub(super) const LONGEST: u64 = 1024 * 1024;

/// How long either side waits for the other.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

/// A process that the supervisor keeps running.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Service {
    /// Its name; its log is `log/NAME.log`.
    pub name: String,
    pub argv: Vec<String>,
    /// Environment besides the world's own.
    pub env: BTreeMap<String, String>,
    /// Whether it gets the held sockets (`LISTEN_FDS`), as from a socket unit.
    pub held_sockets: bool,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
pub enum Request {
    /// Start it and keep it running; one already kept under that name is left alone.
    Keep(Service),
    /// Stop keeping it, and send it a signal that ends it.
    Stop { name: String, signal: i32 },
    /// Send it a signal; if it dies of that, it is restarted.
    Signal { name: String, signal: i32 },
    /// Describe every service.
    Status,
    /// End all services and the supervisor itself.
    Shutdown,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Response {
    Done,
    Services(Vec<ServiceStatus>),
    /// It was not done.
    Refused(String),
}

/// The current state of one service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceStatus {
    pub name: String,
    /// Its process id inside the world; `None` while it is down.
    pub pid: Option<i32>,
    /// How often it was started.
    pub starts: u32,
    /// Resident memory in KiB.
    pub rss_kib: u64,
    /// Processor time used so far, in clock ticks (hundredths of a second).
    pub cpu_ticks: u64,
    /// Bytes that it caused to be written to disk so far; no difference: nothing was made durable.
    pub written: u64,
}

/// Asks the supervisor behind `socket`.
pub(super) fn ask(socket: &Path, request: &Request) -> anyhow::Result<Response> {
    let mut stream = UnixStream::connect(socket)
        .with_context(|| format!("no supervisor answers on {}", socket.display()))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut line = serde_json::to_vec(request)?;
    line.push(b'\n');
    stream.write_all(&line)?;
    let mut answer = String::new();
    BufReader::new(stream.take(LONGEST)).read_line(&mut answer)?;
    match serde_json::from_str(&answer).context("the supervisor's answer is not JSON")? {
        Response::Refused(why) => bail!("the supervisor refused: {why}"),
        response => Ok(response),
    }
}
