//! Where a world keeps its files and which ports and loopback networks it owns. Worlds have
//! numbers; two worlds with different numbers share nothing, so the demo (0) and tests coexist.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};

/// Highest world number: each has one of 32 slot networks.
pub const HIGHEST: u8 = 31;

/// First port of world 0; each world has [`PORTS`] of them, below the ephemeral range.
const FIRST_PORT: u16 = 21_000;
const PORTS: u16 = 32;

/// Name of the unprivileged user that root's worlds run as.
pub const USER: &str = "buddo-world";

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    number: u8,
    base: PathBuf,
}

/// A port of a world.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u16)]
pub enum PortOf {
    /// The local OCI registry.
    Registry,
    Api,
    /// The coordinator's listener for joining hosts.
    Hosts,
    /// The coordinator's listener for metrics.
    Metrics,
    /// The agent's listener for the coordinator.
    Agent,
    /// The resolver's DNS (UDP).
    Dns,
    /// The resolver's `ask` for certificates.
    Ask,
    Acme,
    AcmeAdmin,
    /// Challenge test server's DNS.
    AcmeDns,
    /// Challenge test server's management.
    AcmeDnsAdmin,
    EdgeHttp,
    Edge,
    /// Free for a test's own use.
    Spare,
}

impl Layout {
    /// The layout of world `number` for the calling user.
    pub fn new(number: u8) -> anyhow::Result<Self> {
        ensure!(number <= HIGHEST, "{number} is not a world number; they go from 0 to {HIGHEST}");
        let base = if nix::unistd::geteuid().is_root() {
            PathBuf::from("/var/lib/buddo-world")
        } else if let Some(data) = std::env::var_os("XDG_DATA_HOME") {
            PathBuf::from(data).join("buddo-world")
        } else {
            let home = std::env::var_os("HOME").context("HOME is not set")?;
            PathBuf::from(home).join(".local/share/buddo-world")
        };
        Ok(Self { number, base })
    }

    pub fn number(&self) -> u8 {
        self.number
    }

    /// The folder of all worlds.
    pub fn base(&self) -> &Path {
        &self.base
    }

    /// The folder of this world.
    pub fn dir(&self) -> PathBuf {
        self.base.join(self.number.to_string())
    }

    /// A path in the world's folder.
    pub fn path(&self, relative: impl AsRef<Path>) -> PathBuf {
        self.dir().join(relative)
    }

    /// The supervisor's control socket.
    pub fn control(&self) -> PathBuf {
        self.path("run/control.sock")
    }

    /// Name of the world's cgroup.
    pub fn cgroup(&self) -> String {
        format!("buddo-world-{}", self.number)
    }

    /// A port of this world on 127.0.0.1. The demo's edge is the well-known 8443.
    pub fn port(&self, port: PortOf) -> u16 {
        match (self.number, port) {
            (0, PortOf::Edge) => 8443,
            (0, PortOf::EdgeHttp) => 8080,
            (0, PortOf::Api) => 8440,
            (number, port) => FIRST_PORT + u16::from(number) * PORTS + port as u16,
        }
    }

    /// [`port`](Self::port) on 127.0.0.1.
    pub fn address(&self, port: PortOf) -> SocketAddrV4 {
        SocketAddrV4::new(Ipv4Addr::LOCALHOST, self.port(port))
    }

    /// First addresses of slot A and of slot B, and the hold address, which pages follow.
    pub fn networks(&self) -> [Ipv4Addr; 3] {
        let n = self.number;
        [
            Ipv4Addr::new(127, 64 + n, 0, 0),
            Ipv4Addr::new(127, 96 + n, 0, 0),
            Ipv4Addr::new(127, 63, n, 1),
        ]
    }
}

/// The folder that holds the workspace's binaries: beside the running program, or above it for a
/// test (`target/debug/deps/…`).
pub fn binaries() -> anyhow::Result<PathBuf> {
    let program = std::env::current_exe().context("cannot determine the running program")?;
    for folder in program.ancestors().skip(1).take(2) {
        if folder.join("buddo-world").is_file() {
            return Ok(folder.to_owned());
        }
    }
    bail!("buddo-world is not beside {}; run `cargo build --workspace --bins`", program.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn worlds_have_distinct_ports_and_networks() {
        let mut ports = std::collections::BTreeSet::new();
        let mut networks = std::collections::BTreeSet::new();
        for number in 0..=HIGHEST {
            let layout = Layout::new(number).unwrap();
            for port in [PortOf::Registry, PortOf::Api, PortOf::Edge, PortOf::Spare] {
                assert!(ports.insert(layout.port(port)));
            }
            for network in layout.networks() {
                assert!(network.is_loopback() && networks.insert(network));
            }
        }
        assert!(ports.last().is_some_and(|&highest| highest < 32_768), "below the ephemeral range");
        assert!(Layout::new(HIGHEST + 1).is_err());
    }
}
