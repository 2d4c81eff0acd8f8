//! The agent's configuration: one TOML file → pure data. Nothing here opens, binds or creates.
//!
//! Every key has a default that suits a rootless user with `XDG_RUNTIME_DIR`; an unknown key, a
//! wrong type or an unusable value is refused with the key's name and what to write.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

mod disk;
mod file;

pub use file::{ConfigError, Environment, default_path};

/// The agent's configuration, complete and checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Persisted state: `agent.db`, keys, identity, live table, Caddy's files.
    pub state_dir: PathBuf,
    /// Sockets that live as long as the processes.
    pub runtime_dir: PathBuf,
    /// Where the coordinator reaches the agent (HTTPS, HTTP/2, mutual TLS).
    pub listen: SocketAddr,
    /// The local socket that `buddo-agent status` and its siblings use.
    pub socket: PathBuf,
    /// Podman's API.
    pub podman: Podman,
    /// Caddy, its files and its edge.
    pub caddy: Caddy,
    /// Loopback addresses of containers and pages.
    pub network: Network,
    /// The resolver process.
    pub resolver: Resolver,
    /// How an old container is drained.
    pub drain: Drain,
    /// What the host offers to containers; `None` is read from the system.
    pub capacity: Capacity,
    /// Limits on disk usage.
    pub disk: Disk,
    /// Bounds on images.
    pub pull: Pull,
    /// Where metrics are served besides the local socket.
    pub metrics: Metrics,
    /// How the log is written.
    pub log: Log,
}

/// Podman's API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Podman {
    /// Its Unix socket.
    pub socket: PathBuf,
    /// Run apps even if cgroups do not enforce their tiers' limits. For development.
    pub allow_unenforced_limits: bool,
    /// Containers that may exist on this host at the same time: Podman needs a lock for each.
    pub max_containers: usize,
}

/// Caddy, its files and its edge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caddy {
    /// Its admin API's Unix socket.
    pub admin: PathBuf,
    /// The main Caddyfile, which imports the route files.
    pub caddyfile: PathBuf,
    /// Folder of the route files; the agent owns every `*.caddy` in it.
    pub routes_dir: PathBuf,
    /// Caddy's own storage (certificates).
    pub storage: PathBuf,
    /// Where Caddy logs failed requests; it creates the folder, and more files beside it.
    pub error_log: PathBuf,
    /// For how many seconds browsers that saw a page of ours use only HTTPS for that name in the
    /// zone (RFC 6797); 0: not sent.
    pub hsts_s: u32,
    /// Where Caddy serves HTTPS, for the first TLS handshakes made from this host.
    pub edge: SocketAddr,
    /// The port it listens on for HTTP.
    pub http_port: u16,
    /// The port it listens on for HTTPS.
    pub https_port: u16,
    /// Who signs certificates.
    pub issuer: Issuer,
    /// One wildcard certificate for the whole zone, instead of one per name on demand.
    pub certificate: Option<Certificate>,
}

/// Who signs certificates.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Issuer {
    /// Caddy's own authority: for development and tests.
    Internal {},
    /// An ACME authority (RFC 8555).
    Acme {
        /// Its directory; `None` is Caddy's default.
        directory: Option<String>,
        /// A root to trust for the directory itself, in PEM form.
        ca_root: Option<PathBuf>,
        /// The account's email address.
        email: Option<String>,
    },
}

impl Default for Issuer {
    fn default() -> Self {
        Self::Acme { directory: None, ca_root: None, email: None }
    }
}

/// A certificate and its key, PEM files.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Certificate {
    /// The chain.
    pub cert: PathBuf,
    /// The key.
    pub key: PathBuf,
}

/// Loopback addresses. Configurable so that several instances can live on one machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Network {
    /// First address of the deployments' slots A.
    pub slot_a: Ipv4Addr,
    /// First address of the deployments' slots B.
    pub slot_b: Ipv4Addr,
    /// First of the special addresses, see [`SpecialAddresses`].
    pub special: Ipv4Addr,
    /// The one port that containers are published on.
    pub app_port: u16,
}

/// Addresses that stand for a state instead of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpecialAddresses {
    /// Nothing listens here: Caddy's connection is refused, and it holds the request.
    pub hold: Ipv4Addr,
    /// Caddy's 'stopped' page.
    pub stopped: Ipv4Addr,
    /// Caddy's 'suspended' page.
    pub suspended: Ipv4Addr,
    /// Caddy's 'no such app' page.
    pub missing: Ipv4Addr,
}

impl Network {
    /// The four special addresses: `special` and the three after it.
    pub fn specials(&self) -> SpecialAddresses {
        let at = |n: u32| Ipv4Addr::from_bits(self.special.to_bits().wrapping_add(n));
        SpecialAddresses { hold: at(0), stopped: at(1), suspended: at(2), missing: at(3) }
    }
}

/// The resolver process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolver {
    /// Where it answers DNS questions (UDP).
    pub dns: SocketAddrV4,
    /// Where it answers Caddy's `ask` (HTTP).
    pub ask: SocketAddrV4,
    /// The live table, written by the agent.
    pub table: PathBuf,
}

/// How an old container is drained.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drain {
    /// From the switch to SIGTERM: Caddy must have asked the resolver again, and requests in flight
    /// get time.
    pub before_stop: Duration,
    /// From SIGTERM to SIGKILL.
    pub stop_grace: Duration,
}

impl Drain {
    /// Valid times from the switch to SIGTERM. Within the least, the edge learns of the switch and
    /// requests that were on their way arrive.
    pub const BEFORE_STOP: RangeInclusive<Duration> =
        Duration::from_millis(1_200)..=Duration::from_hours(1);
    /// Maximum time from SIGTERM to SIGKILL.
    pub const MOST_GRACE: Duration = Duration::from_mins(5);
}

/// What the host offers to containers.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Capacity {
    /// MiB of memory that may be promised to apps; absent: all that the system has, minus a reserve
    /// for the system and the edge.
    pub memory_mb: Option<u64>,
    /// Thousandths of cores; absent: all that the system has.
    pub cpu_millicores: Option<u64>,
}

/// How full the file systems of images and of the agent's state may get.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Disk {
    /// Above this percentage of a file system, unneeded images are removed at once.
    pub high_percent: u8,
    /// Until usage is below this.
    pub low_percent: u8,
    /// With fewer free bytes than this, no pull begins and those under way are ended.
    pub floor: u64,
    /// An unneeded image is removed after this long, even if there is space.
    pub keep_unused: Duration,
    /// Whether images are collected at all.
    pub collect: bool,
    /// Bytes kept in reserve for essential writes; 0: none.
    pub reserve: u64,
}

/// Bounds on images.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pull {
    /// Bytes of one image: both as its registry sends it and as it lies on the disk.
    pub max_image: u64,
}

/// Where metrics are served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Metrics {
    /// A loopback address for a collector that cannot use the local socket; absent: none.
    pub listen: Option<SocketAddr>,
}

/// How the log is written, to standard error. What is logged is up to `RUST_LOG`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Log {
    /// As lines for people, or as JSON for programs.
    pub format: LogFormat,
}

/// Format of the log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

impl Config {
    /// The file that occupies the disk reserve.
    pub fn reserve(&self) -> PathBuf {
        self.state_dir.join("reserve")
    }

    /// The agent's database.
    pub fn database(&self) -> PathBuf {
        self.state_dir.join("agent.db")
    }
}
