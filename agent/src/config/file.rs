//! The TOML file: its keys, its defaults, and error messages for what is wrong with it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use super::disk::{self, RawDisk, RawPull};
use super::{
    Caddy, Capacity, Certificate, Config, Drain, Issuer, Log, Metrics, Network, Podman, Resolver,
    SpecialAddresses,
};

/// Each slot has an address for every index (16 bits).
const LAST_OF_RANGE: u32 = u16::MAX as u32;

/// Why a configuration is rejected.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration {path}; create it, or name another with --config")]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Not TOML of this form. The source names line, column and key.
    #[error("the configuration is malformed; correct the line shown")]
    Parse(#[source] Box<toml::de::Error>),
    /// A key has an unusable value.
    #[error("the configuration's key `{key}` {problem}; {fix}")]
    Value {
        /// Which key.
        key: &'static str,
        /// What is wrong.
        problem: String,
        /// What to write.
        fix: &'static str,
    },
    /// No state directory is configured and none follows from the environment.
    #[error("`{0}` is not configured and neither HOME nor XDG variables suggest a place")]
    NoPlace(&'static str),
}

/// The few environment variables that defaults depend on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Environment {
    /// `HOME`.
    pub home: Option<PathBuf>,
    /// `XDG_CONFIG_HOME`.
    pub config_home: Option<PathBuf>,
    /// `XDG_STATE_HOME`.
    pub state_home: Option<PathBuf>,
    /// `XDG_RUNTIME_DIR`.
    pub runtime_dir: Option<PathBuf>,
}

impl Environment {
    /// Reads the process's environment.
    pub fn of_process() -> Self {
        let path = |name| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
        Self {
            home: path("HOME"),
            config_home: path("XDG_CONFIG_HOME"),
            state_home: path("XDG_STATE_HOME"),
            runtime_dir: path("XDG_RUNTIME_DIR"),
        }
    }
}

/// Where the configuration is looked for when no `--config` is given, first to last.
pub fn default_path(environment: &Environment) -> Vec<PathBuf> {
    let home = environment
        .config_home
        .clone()
        .or_else(|| environment.home.as_ref().map(|home| home.join(".config")));
    home.map(|dir| dir.join("buddo-agent/agent.toml"))
        .into_iter()
        .chain([PathBuf::from("/etc/buddo/agent.toml")])
        .collect()
}

#[derive(Deserialize, Default)]
#[serde(default, deny_unknown_fields)]
struct Raw {
    state_dir: Option<PathBuf>,
    runtime_dir: Option<PathBuf>,
    listen: Option<SocketAddr>,
    socket: Option<PathBuf>,
    podman: RawPodman,
    caddy: RawCaddy,
    network: RawNetwork,
    resolver: RawResolver,
    drain: RawDrain,
    capacity: Capacity,
    disk: RawDisk,
    pull: RawPull,
    metrics: Metrics,
    log: Log,
}

#[derive(Deserialize, Default)]
#[serde(default, deny_unknown_fields)]
struct RawPodman {
    socket: Option<PathBuf>,
    allow_unenforced_limits: bool,
    max_containers: Option<u32>,
}

#[derive(Deserialize, Default)]
#[serde(default, deny_unknown_fields)]
struct RawCaddy {
    admin: Option<PathBuf>,
    caddyfile: Option<PathBuf>,
    routes_dir: Option<PathBuf>,
    storage: Option<PathBuf>,
    error_log: Option<PathBuf>,
    hsts_s: Option<u32>,
    edge: Option<SocketAddr>,
    http_port: Option<u16>,
    https_port: Option<u16>,
    issuer: Issuer,
    certificate: Option<Certificate>,
}

#[derive(Deserialize, Default)]
#[serde(default, deny_unknown_fields)]
struct RawNetwork {
    slot_a: Option<Ipv4Addr>,
    slot_b: Option<Ipv4Addr>,
    special: Option<Ipv4Addr>,
    app_port: Option<u16>,
}

#[derive(Deserialize, Default)]
#[serde(default, deny_unknown_fields)]
struct RawResolver {
    dns: Option<SocketAddrV4>,
    ask: Option<SocketAddrV4>,
    table: Option<PathBuf>,
}

#[derive(Deserialize, Default)]
#[serde(default, deny_unknown_fields)]
struct RawDrain {
    before_stop_ms: Option<u64>,
    stop_grace_ms: Option<u64>,
}

impl Config {
    /// Reads and checks the file at `path`.
    pub fn load(path: &Path, environment: &Environment) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
        Self::parse(&text, environment)
    }

    /// Checks the text of a configuration.
    pub fn parse(text: &str, environment: &Environment) -> Result<Self, ConfigError> {
        let raw: Raw = toml::from_str(text).map_err(|error| ConfigError::Parse(Box::new(error)))?;
        let state_dir = place("state_dir", raw.state_dir, || {
            let home = || environment.home.as_ref().map(|home| home.join(".local/state"));
            environment.state_home.clone().or_else(home).map(|dir| dir.join("buddo-agent"))
        })?;
        let runtime_dir = place("runtime_dir", raw.runtime_dir, || {
            environment.runtime_dir.as_ref().map(|dir| dir.join("buddo-agent"))
        })?;
        let podman_socket = place("podman.socket", raw.podman.socket, || {
            environment.runtime_dir.as_ref().map(|dir| dir.join("buddo-podman/podman.sock"))
        })?;
        let network = network(&raw.network)?;
        Ok(Self {
            listen: raw.listen.unwrap_or(SocketAddr::from((Ipv4Addr::UNSPECIFIED, 7443))),
            socket: raw.socket.unwrap_or_else(|| runtime_dir.join("agent.sock")),
            podman: Podman {
                socket: podman_socket,
                allow_unenforced_limits: raw.podman.allow_unenforced_limits,
                max_containers: disk::max_containers(raw.podman.max_containers)?,
            },
            caddy: caddy(raw.caddy, &state_dir, &runtime_dir)?,
            resolver: resolver(raw.resolver, &state_dir, &network)?,
            network,
            drain: drain(&raw.drain)?,
            capacity: raw.capacity,
            disk: disk::disk(&raw.disk)?,
            pull: disk::pull(&raw.pull)?,
            metrics: disk::metrics(raw.metrics)?,
            log: raw.log,
            state_dir,
            runtime_dir,
        })
    }
}

fn place(
    key: &'static str,
    given: Option<PathBuf>,
    default: impl FnOnce() -> Option<PathBuf>,
) -> Result<PathBuf, ConfigError> {
    let path = given.or_else(default).ok_or(ConfigError::NoPlace(key))?;
    if path.is_absolute() {
        Ok(path)
    } else {
        Err(ConfigError::Value {
            key,
            problem: format!("is `{}`, a relative path", path.display()),
            fix: "write an absolute path",
        })
    }
}

fn caddy(raw: RawCaddy, state_dir: &Path, runtime_dir: &Path) -> Result<Caddy, ConfigError> {
    let https_port = nonzero("caddy.https_port", raw.https_port.unwrap_or(443))?;
    Ok(Caddy {
        admin: raw.admin.unwrap_or_else(|| runtime_dir.join("caddy-admin.sock")),
        caddyfile: raw.caddyfile.unwrap_or_else(|| state_dir.join("caddy/Caddyfile")),
        routes_dir: raw.routes_dir.unwrap_or_else(|| state_dir.join("caddy/routes")),
        storage: raw.storage.unwrap_or_else(|| state_dir.join("caddy/data")),
        error_log: raw.error_log.unwrap_or_else(|| state_dir.join("caddy/log/errors.json")),
        hsts_s: raw.hsts_s.unwrap_or(31_536_000),
        edge: raw.edge.unwrap_or(SocketAddr::from((Ipv4Addr::LOCALHOST, https_port))),
        http_port: nonzero("caddy.http_port", raw.http_port.unwrap_or(80))?,
        https_port,
        issuer: raw.issuer,
        certificate: raw.certificate,
    })
}

fn network(raw: &RawNetwork) -> Result<Network, ConfigError> {
    let network = Network {
        slot_a: loopback("network.slot_a", raw.slot_a.unwrap_or(Ipv4Addr::new(127, 64, 0, 0)))?,
        slot_b: loopback("network.slot_b", raw.slot_b.unwrap_or(Ipv4Addr::new(127, 96, 0, 0)))?,
        special: loopback("network.special", raw.special.unwrap_or(Ipv4Addr::new(127, 63, 0, 1)))?,
        app_port: nonzero("network.app_port", raw.app_port.unwrap_or(8000))?,
    };
    for (key, base) in [("network.slot_a", network.slot_a), ("network.slot_b", network.slot_b)] {
        let last = Ipv4Addr::from_bits(base.to_bits().saturating_add(LAST_OF_RANGE));
        if !last.is_loopback() {
            return Err(ConfigError::Value {
                key,
                problem: format!("is {base}, and its range ends at {last}"),
                fix: "leave room for 65,536 addresses of 127.0.0.0/8",
            });
        }
    }
    // Each range has room for every index (16 bits), so two ranges must be that far apart.
    let apart = network.slot_a.to_bits().abs_diff(network.slot_b.to_bits());
    if u16::try_from(apart).is_ok() {
        return Err(ConfigError::Value {
            key: "network.slot_b",
            problem: format!("is {}, within the range of `network.slot_a`", network.slot_b),
            fix: "leave at least 65,536 addresses between the two",
        });
    }
    let SpecialAddresses { hold, stopped, suspended, missing } = network.specials();
    for address in [hold, stopped, suspended, missing] {
        if !address.is_loopback() {
            return Err(ConfigError::Value {
                key: "network.special",
                problem: format!("is {}, and the last of its four is {address}", network.special),
                fix: "leave room for four addresses of 127.0.0.0/8",
            });
        }
        // An app there would get the visitors of all held requests, or serve a page to everybody.
        outside_of_slots("network.special", address, &network)?;
    }
    Ok(network)
}

/// Refuses an address at which an app's container may be published.
fn outside_of_slots(
    key: &'static str,
    address: Ipv4Addr,
    network: &Network,
) -> Result<(), ConfigError> {
    for (slot, base) in [("slot_a", network.slot_a), ("slot_b", network.slot_b)] {
        let offset = address.to_bits().checked_sub(base.to_bits());
        if offset.is_some_and(|offset| offset <= LAST_OF_RANGE) {
            return Err(ConfigError::Value {
                key,
                problem: format!("takes {address}, within the range of `network.{slot}` ({base})"),
                fix: "choose one outside of the 65,536 addresses from each slot's first on: apps' \
                      containers are published there",
            });
        }
    }
    Ok(())
}

fn resolver(
    raw: RawResolver,
    state_dir: &Path,
    network: &Network,
) -> Result<Resolver, ConfigError> {
    let local = |port| SocketAddrV4::new(Ipv4Addr::LOCALHOST, port);
    let resolver = Resolver {
        dns: raw.dns.unwrap_or(local(5355)),
        ask: raw.ask.unwrap_or(local(5380)),
        table: raw.table.unwrap_or_else(|| state_dir.join("live.json")),
    };
    for (key, address) in [("resolver.dns", resolver.dns), ("resolver.ask", resolver.ask)] {
        loopback(key, *address.ip())?;
        outside_of_slots(key, *address.ip(), network)?;
    }
    let special = network.special.to_bits()..=network.special.to_bits().saturating_add(3);
    if special.contains(&resolver.dns.ip().to_bits())
        || special.contains(&resolver.ask.ip().to_bits())
    {
        return Err(ConfigError::Value {
            key: "network.special",
            problem: format!("is {}, and the resolver is among its four", network.special),
            fix: "leave these four to what they stand for: nothing may listen on the first of them",
        });
    }
    Ok(resolver)
}

fn drain(raw: &RawDrain) -> Result<Drain, ConfigError> {
    let before_stop = Duration::from_millis(raw.before_stop_ms.unwrap_or(10_000));
    let range = Drain::BEFORE_STOP;
    if !range.contains(&before_stop) {
        let (least, most) = (range.start().as_millis(), range.end().as_millis());
        return Err(ConfigError::Value {
            key: "drain.before_stop_ms",
            problem: format!("is {}, not {least} to {most}", before_stop.as_millis()),
            fix: "correct it: requests already on their way must reach the old container",
        });
    }
    let stop_grace = Duration::from_millis(raw.stop_grace_ms.unwrap_or(10_000));
    if stop_grace > Drain::MOST_GRACE {
        let most = Drain::MOST_GRACE.as_millis();
        return Err(ConfigError::Value {
            key: "drain.stop_grace_ms",
            problem: format!("is {}, more than {most}", stop_grace.as_millis()),
            fix: "write a smaller number",
        });
    }
    Ok(Drain { before_stop, stop_grace })
}

fn loopback(key: &'static str, address: Ipv4Addr) -> Result<Ipv4Addr, ConfigError> {
    if IpAddr::V4(address).is_loopback() {
        Ok(address)
    } else {
        Err(ConfigError::Value {
            key,
            problem: format!("is {address}, which other machines can reach"),
            fix: "use an address of 127.0.0.0/8",
        })
    }
}

fn nonzero(key: &'static str, port: u16) -> Result<u16, ConfigError> {
    if port == 0 {
        return Err(ConfigError::Value {
            key,
            problem: "is 0".to_owned(),
            fix: "write a port from 1 to 65535",
        });
    }
    Ok(port)
}

#[cfg(test)]
mod tests {
    use std::error::Error as _;

    use super::*;

    fn environment() -> Environment {
        Environment {
            home: Some("/home/buddo".into()),
            runtime_dir: Some("/run/user/7".into()),
            ..Environment::default()
        }
    }

    #[test]
    fn an_empty_file_is_a_working_configuration() {
        let config = Config::parse("", &environment()).unwrap();
        assert_eq!(config.state_dir, Path::new("/home/buddo/.local/state/buddo-agent"));
        assert_eq!(config.podman.socket, Path::new("/run/user/7/buddo-podman/podman.sock"));
        assert_eq!(config.socket, Path::new("/run/user/7/buddo-agent/agent.sock"));
        assert_eq!(config.network.specials().missing, Ipv4Addr::new(127, 63, 0, 4));
        assert!(!config.podman.allow_unenforced_limits);
    }

    #[test]
    fn the_packaged_file_differs_from_the_defaults_in_nothing() {
        let packaged = include_str!("../../../systemd/examples/agent.toml");
        let defaults = Config::parse("", &environment()).unwrap();
        assert_eq!(Config::parse(packaged, &environment()).unwrap(), defaults);
    }

    #[test]
    fn an_unknown_key_is_named() {
        let error = Config::parse("[network]\nslot_c = \"127.1.0.0\"", &environment()).unwrap_err();
        assert!(error.source().unwrap().to_string().contains("slot_c"));
    }

    #[test]
    fn invalid_values_name_their_key() {
        for (text, expected) in [
            ("state_dir = \"here\"", "state_dir"),
            ("[network]\nslot_a = \"10.0.0.0\"", "network.slot_a"),
            ("[network]\nslot_b = \"127.64.1.0\"", "network.slot_b"),
            ("[network]\nslot_b = \"127.255.1.0\"", "network.slot_b"),
            ("[network]\nspecial = \"127.64.0.9\"", "network.special"),
            ("[network]\nspecial = \"127.96.255.255\"", "network.special"),
            // The last of the four.
            ("[network]\nspecial = \"127.63.255.253\"", "network.special"),
            ("[network]\nspecial = \"127.255.255.253\"", "network.special"),
            ("[network]\nspecial = \"127.0.0.1\"", "network.special"),
            ("[resolver]\ndns = \"0.0.0.0:53\"", "resolver.dns"),
            ("[resolver]\ndns = \"127.64.3.1:53\"", "resolver.dns"),
            ("[resolver]\nask = \"127.96.0.1:80\"", "resolver.ask"),
            ("[drain]\nbefore_stop_ms = 100", "drain.before_stop_ms"),
            ("[caddy]\nhttps_port = 0", "caddy.https_port"),
        ] {
            match Config::parse(text, &environment()).unwrap_err() {
                ConfigError::Value { key, .. } => assert_eq!(key, expected),
                other => panic!("{text}: {other}"),
            }
        }
    }

    #[test]
    fn without_a_home_the_error_names_state_dir() {
        let error = Config::parse("", &Environment::default()).unwrap_err();
        assert!(matches!(error, ConfigError::NoPlace("state_dir")));
    }

    #[test]
    fn the_resolver_cannot_listen_on_a_special_address() {
        for (key, address) in [("dns", "127.63.0.1:53"), ("ask", "127.63.0.4:80")] {
            let text = format!("[resolver]\n{key} = \"{address}\"");
            let error = Config::parse(&text, &environment()).unwrap_err();
            let refused =
                matches!(error, ConfigError::Value { key, .. } if key == "network.special");
            assert!(refused, "{text}");
        }
    }
}
