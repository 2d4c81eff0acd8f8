//! The configuration file: TOML, every key optional, unknown keys rejected.

mod audit;
mod deploys;
mod limits;
mod mail;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use buddo_shared::model::name::HostName;
use serde::Deserialize;
use url::Url;

pub use crate::limits::config::RateLimits;
pub use audit::Audit;
pub use deploys::Deploys;
pub use limits::Limits;
pub use mail::{Mail, Tls, Transport};

/// Everything that an administrator decides.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The directory of the database and the keys; created with mode 0700 if absent.
    pub state_dir: PathBuf,
    /// The DNS zone of the subdomains.
    pub zone: HostName,
    /// The listener for operators.
    pub api: Api,
    /// The listener for hosts.
    pub hosts: Hosts,
    /// Auto rollback of deploys, and how many revisions are kept.
    pub deploy: Deploys,
    /// Limits other than rates.
    pub limits: Limits,
    /// Rate limits of the API.
    pub rate_limits: RateLimits,
    /// How mail is sent.
    pub mail: Mail,
    /// How long audit logs are kept.
    pub audit: Audit,
    /// Where Prometheus reads metrics.
    pub metrics: Metrics,
}

/// The HTTPS API.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Api {
    /// Address to listen on.
    pub listen: SocketAddr,
    /// Names in the self-issued certificate, used if none is configured.
    pub names: Vec<String>,
    /// Certificate chain, PEM; read at start.
    pub tls_cert: Option<PathBuf>,
    /// Its private key, PEM.
    pub tls_key: Option<PathBuf>,
    /// The address in links and OAuth metadata; if absent `https://` with the first name and the
    /// port.
    pub public_url: Option<String>,
    /// Reverse proxies whose `X-Forwarded-For` is trusted.
    pub trusted_proxies: Vec<IpAddr>,
    /// Origins whose scripts may use the API from a browser, such as `https://console.example.com`.
    pub cors_origins: Vec<String>,
    /// HSTS `max-age` in seconds (RFC 6797): how long browsers use only HTTPS for the name in the
    /// address; 0: no header.
    pub hsts_s: u32,
}

/// The listener for metrics.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Metrics {
    /// Address to listen on: only reachable from this machine.
    pub listen: SocketAddr,
}

impl Default for Metrics {
    fn default() -> Self {
        Self { listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 8445)) }
    }
}

/// The listener that agents join at.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Hosts {
    /// Address to listen on.
    pub listen: SocketAddr,
    /// How long host certificates are valid; they are renewed at half of it.
    pub certificate_hours: f64,
    /// A host silent for this long is pinged, and has as long to answer.
    #[serde(skip)]
    pub keep_alive: Duration,
    /// How long a coordinator may push to a host without renewing its lease; it renews three times
    /// as often.
    #[serde(skip)]
    pub lease: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            state_dir: PathBuf::from("/var/lib/buddo-coordinator"),
            zone: default_zone(),
            api: Api::default(),
            hosts: Hosts::default(),
            deploy: Deploys::default(),
            limits: Limits::default(),
            rate_limits: RateLimits::default(),
            mail: Mail::default(),
            audit: Audit::default(),
            metrics: Metrics::default(),
        }
    }
}

/// The published zone.
#[expect(clippy::expect_used, reason = "a constant, parsed by a test as well")]
fn default_zone() -> HostName {
    HostName::parse("buddocloud.com").expect("the published zone is a host name")
}

impl Default for Api {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 8443)),
            names: vec!["localhost".to_owned(), "127.0.0.1".to_owned()],
            tls_cert: None,
            tls_key: None,
            public_url: None,
            trusted_proxies: Vec::new(),
            cors_origins: Vec::new(),
            hsts_s: 31_536_000,
        }
    }
}

impl Api {
    /// The address in links: as configured, or built from the first name and the port.
    pub fn public_url(&self) -> String {
        if let Some(url) = &self.public_url {
            return url.trim_end_matches('/').to_owned();
        }
        let name = self.names.first().map_or("localhost", String::as_str);
        let port = self.listen.port();
        if name.parse::<Ipv6Addr>().is_ok() {
            return format!("https://[{name}]:{port}");
        }
        format!("https://{name}:{port}")
    }
}

impl Default for Hosts {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 8444)),
            certificate_hours: 30.0 * 24.0,
            keep_alive: Duration::from_secs(10),
            lease: Duration::from_secs(30),
        }
    }
}

impl Hosts {
    /// How long host certificates are valid.
    pub fn certificate_life(&self) -> Duration {
        Duration::from_hours(1).mul_f64(self.certificate_hours)
    }
}

/// The configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration {path}")]
    Read {
        /// Which file.
        path: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The file is not valid; the source names the line, the key and the known keys.
    #[error("the configuration {path} is not valid")]
    Parse {
        /// Which file.
        path: String,
        /// Where and why.
        #[source]
        source: Box<toml::de::Error>,
    },
    /// Keys contradict each other, or a value is out of range.
    #[error("the configuration is not valid: {0}")]
    Invalid(String),
}

impl Config {
    /// Reads and checks the file at `path`.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| ConfigError::Read { path: path.display().to_string(), source })?;
        Self::parse(&text, path)
    }

    fn parse(text: &str, path: &Path) -> Result<Self, ConfigError> {
        let config: Self = toml::from_str(text).map_err(|source| ConfigError::Parse {
            path: path.display().to_string(),
            source: Box::new(source),
        })?;
        config.check()?;
        Ok(config)
    }

    fn check(&self) -> Result<(), ConfigError> {
        if self.api.tls_cert.is_some() != self.api.tls_key.is_some() {
            return Err(ConfigError::Invalid(
                "[api] tls_cert and tls_key go together; set both or neither".to_owned(),
            ));
        }
        if self.api.tls_cert.is_none() && self.api.names.is_empty() {
            return Err(ConfigError::Invalid(
                "[api] names is empty; name the hosts that clients use, or set tls_cert".to_owned(),
            ));
        }
        let url = self.api.public_url();
        let usable = Url::parse(&url).is_ok_and(|url| {
            url.scheme() == "https" && url.query().is_none() && url.fragment().is_none()
        });
        if !usable {
            return Err(ConfigError::Invalid(format!(
                "[api] public_url is {url:?}; write it as https://api.example.com"
            )));
        }
        if let Some(bad) = self.api.cors_origins.iter().find(|origin| !is_origin(origin)) {
            return Err(ConfigError::Invalid(format!(
                "[api] cors_origins has {bad:?}; write each as browsers do, such as \
                 https://console.example.com"
            )));
        }
        if !self.metrics.listen.ip().is_loopback() {
            return Err(ConfigError::Invalid(format!(
                "[metrics] listen is {}, which other machines can reach; use an address of \
                 127.0.0.0/8 or [::1], and let a collector on this machine ask it",
                self.metrics.listen
            )));
        }
        // From ten seconds, for testing renewal, up to the lifetime of the coordinator's own.
        if !(0.002..=90.0 * 24.0).contains(&self.hosts.certificate_hours) {
            return Err(ConfigError::Invalid(format!(
                "[hosts] certificate_hours is {}; use 0.002 to 2160, such as 720 for 30 days",
                self.hosts.certificate_hours
            )));
        }
        self.mail.check()?;
        self.deploy.check()?;
        self.audit.check()?;
        self.limits.check()
    }

    /// The file of the master key.
    pub fn master_key(&self) -> PathBuf {
        self.state_dir.join("master.key")
    }

    /// The database file.
    pub fn database(&self) -> PathBuf {
        self.state_dir.join("coordinator.db")
    }
}

/// Whether `text` is an origin that a browser could send.
fn is_origin(text: &str) -> bool {
    Url::parse(text).is_ok_and(|url| {
        let loopback = matches!(url.host_str(), Some("localhost" | "127.0.0.1" | "[::1]"));
        let trusted = url.scheme() == "https" || url.scheme() == "http" && loopback;
        trusted && url.origin().ascii_serialization() == text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Config, ConfigError> {
        Config::parse(text, Path::new("test.toml"))
    }

    #[test]
    fn an_empty_file_gives_the_defaults() {
        let config = parse("").unwrap();
        assert_eq!(config.zone.as_str(), "buddocloud.com");
        assert_eq!(config.api.public_url(), "https://localhost:8443");
    }

    #[test]
    fn the_documentation_shows_the_defaults() {
        let page = include_str!("../../../docs/operations.md");
        let (_, rest) = page.split_once("```toml\n").unwrap();
        let (example, _) = rest.split_once("```").unwrap();
        let documented = parse(example).unwrap();
        assert_eq!(format!("{documented:#?}"), format!("{:#?}", Config::default()));
    }

    #[test]
    fn the_packaged_file_differs_from_the_defaults_in_nothing() {
        let packaged = include_str!("../../../systemd/examples/coordinator.toml");
        assert_eq!(format!("{:#?}", parse(packaged).unwrap()), format!("{:#?}", Config::default()));
    }

    #[test]
    fn an_unknown_key_is_refused_by_name() {
        let error = parse("[api]\nlisten_on = \"x\"").unwrap_err();
        let source = std::error::Error::source(&error).unwrap().to_string();
        assert!(source.contains("listen_on"), "{source}");
        assert!(source.contains("`listen`"), "{source}");
    }

    #[test]
    fn a_certificate_without_its_key_is_refused() {
        let error = parse("[api]\ntls_cert = \"/a.pem\"").unwrap_err();
        assert!(error.to_string().contains("tls_key"), "{error}");
    }

    #[test]
    fn a_public_url_that_no_client_can_use_is_refused() {
        for bad in ["api.buddo.xyz", "http://api.buddo.xyz", "https://", "https://a.b/?x"] {
            let error = parse(&format!("[api]\npublic_url = \"{bad}\"")).unwrap_err();
            assert!(error.to_string().contains("https://api.example.com"), "{bad}: {error}");
        }
    }

    #[test]
    fn only_origins_as_browsers_send_them_are_accepted() {
        parse("[api]\ncors_origins = [\"https://a.example\", \"http://localhost:3000\"]").unwrap();
        for bad in ["*", "null", "https://a.example/", "http://a.example", "a.example"] {
            let error = parse(&format!("[api]\ncors_origins = [\"{bad}\"]")).unwrap_err();
            assert!(error.to_string().contains("cors_origins"), "{bad}: {error}");
        }
    }

    #[test]
    fn metrics_listen_only_on_loopback() {
        let error = parse("[metrics]\nlisten = \"0.0.0.0:8445\"").unwrap_err();
        assert!(error.to_string().contains("127.0.0.0/8"), "{error}");
    }

    #[test]
    fn an_ipv6_address_gives_a_valid_public_url() {
        let config = parse("[api]\nnames = [\"::1\"]").unwrap();
        assert_eq!(config.api.public_url(), "https://[::1]:8443");
    }

    #[test]
    fn the_public_url_is_kept_without_its_slash() {
        let config = parse("[api]\npublic_url = \"https://api.buddo.xyz/\"").unwrap();
        assert_eq!(config.api.public_url(), "https://api.buddo.xyz");
    }
}
