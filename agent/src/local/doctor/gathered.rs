//! What was seen of the host. Plain data: everything the checks judge by, and no secret.

use std::path::PathBuf;

use buddo_shared::host_wire::report::Failure;
use jiff::Timestamp;

/// A fact, or why it could not be learned.
pub(super) type Seen<T> = Result<T, String>;

#[derive(Debug, Clone)]
pub(super) struct Facts {
    pub(super) now: Timestamp,
    pub(super) host: Host,
    pub(super) agent: Agent,
    pub(super) podman: Podman,
    pub(super) caddy: Caddy,
    /// File systems that must not fill up: what lies there, and how full it is.
    pub(super) disks: Vec<(&'static str, PathBuf, Seen<Space>)>,
}

/// The user and the kernel.
#[derive(Debug, Clone)]
pub(super) struct Host {
    pub(super) uid: u32,
    /// Login name; `None` if the user is not in the password database.
    pub(super) user: Option<String>,
    /// How many subordinate user ids and group ids the user has.
    pub(super) subordinate: [Seen<u64>; 2],
    /// Those of `newuidmap` and `newgidmap` that are missing.
    pub(super) missing_id_tools: Vec<&'static str>,
    /// Whether the user's units start at boot.
    pub(super) lingers: bool,
    pub(super) runtime_dir: Seen<PathInfo>,
    /// Whether the user's systemd answers.
    pub(super) manager: bool,
    pub(super) sysctl: Sysctl,
    /// Whether `/dev/net/tun`, through which containers reach the network, opens for this user.
    pub(super) tun: Seen<()>,
    /// Controllers of the user's services; an error if the cgroup is not version 2.
    pub(super) controllers: Seen<Vec<String>>,
    /// Whether a time server keeps the kernel's clock.
    pub(super) clock_kept: Seen<bool>,
}

/// Kernel settings; `None` where the kernel has no such setting.
#[derive(Debug, Clone, Default)]
pub(super) struct Sysctl {
    pub(super) tcp_migrate_req: Option<u64>,
    pub(super) unprivileged_port_start: Option<u64>,
    pub(super) inotify_instances: Option<u64>,
    pub(super) max_user_namespaces: Option<u64>,
    pub(super) unprivileged_userns_clone: Option<u64>,
    pub(super) max_keys: Option<u64>,
}

/// A file or folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PathInfo {
    pub(super) uid: u32,
    pub(super) mode: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Space {
    pub(super) bytes: crate::process::disk_space::Space,
    pub(super) free_inodes: u64,
    /// 0 where the file system does not count them.
    pub(super) total_inodes: u64,
}

/// The agent's own process and files.
#[derive(Debug, Clone)]
pub(super) struct Agent {
    pub(super) running: Seen<Running>,
    pub(super) state_dir: Seen<PathInfo>,
    /// Existing files that hold keys.
    pub(super) keys: Vec<(PathBuf, PathInfo)>,
    /// Validity of the certificate for the coordinator; `None` before a join.
    pub(super) certificate: Seen<Option<Validity>>,
    /// Whether anything answers where the coordinator would connect.
    pub(super) listens: Seen<()>,
    /// Whether the disk reserve is there.
    pub(super) reserve: Seen<bool>,
    pub(super) dns: Seen<()>,
    pub(super) ask: Seen<()>,
}

/// What a running agent and the kernel say about it.
#[derive(Debug, Clone)]
pub(super) struct Running {
    pub(super) version: String,
    pub(super) joined: bool,
    /// Generation of the document in force, and whether it has expired.
    pub(super) document: Option<(String, bool)>,
    pub(super) warnings: Vec<String>,
    /// What the host lacks to take another app.
    pub(super) lacks: Option<Failure>,
    /// The hard limit of its core dumps in bytes; `None`: unlimited.
    pub(super) core_limit: Seen<Option<u64>>,
    /// The route files that it wants.
    pub(super) routes: Vec<String>,
}

/// From when to when a certificate is valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Validity {
    pub(super) from: Timestamp,
    pub(super) until: Timestamp,
}

#[derive(Debug, Clone)]
pub(super) struct Podman {
    pub(super) info: Seen<crate::adapters::podman::Info>,
    /// The command line of the process that made the socket.
    pub(super) command: Seen<Vec<String>>,
    /// Whether it gives each container a kernel keyring.
    pub(super) keyring: Seen<bool>,
    /// Which of `iptables` and `nft` are installed.
    pub(super) firewalls: Vec<&'static str>,
}

#[derive(Debug, Clone)]
pub(super) struct Caddy {
    pub(super) admin: Seen<()>,
    pub(super) admin_socket: Seen<PathInfo>,
    pub(super) version: Option<String>,
    pub(super) main_file: Seen<String>,
    /// Files in the routes folder that Caddy loads.
    pub(super) route_files: Seen<Vec<String>>,
    /// Whether anything answers on the HTTPS port.
    pub(super) edge: Seen<()>,
    /// The zone's own certificate; `None` if one per name is obtained on demand.
    pub(super) certificate: Option<Seen<Validity>>,
}
