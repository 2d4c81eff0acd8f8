//! Where the API is and whom to trust: options, then environment, then `config.toml`, then the
//! last login, then the default. `clap` has joined the first two before they come here.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use buddo_shared::model::secret::Secret;
use etcetera::BaseStrategy as _;
use reqwest::Url;
use serde::Deserialize;

use crate::args::Global;
use crate::session::{Current, SessionError, SessionStore};

const API_KEY_VARIABLE: &str = "BUDDO_API_KEY";
const DEFAULT_API: &str = "https://api.buddo.xyz";

/// More than any sensible configuration, so that a wrong path cannot exhaust memory.
const MAX_FILE: u64 = 1024 * 1024;

/// Why the configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    /// There is no home directory to look in.
    #[error("cannot find the configuration folder; set HOME or XDG_CONFIG_HOME")]
    NoHome,
    /// A file cannot be read.
    #[error("cannot read {}", .path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    /// The configuration file is malformed.
    #[error("cannot understand {}", .path.display())]
    Parse {
        path: PathBuf,
        #[source]
        source: toml::de::Error,
    },
    /// The last login cannot be looked up.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// The API's address cannot be used.
    #[error("the API address {text:?} {problem}")]
    Api {
        text: String,
        /// What is wrong with it.
        problem: ApiUrlError,
    },
}

/// What is wrong with an API address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ApiUrlError {
    /// Not an absolute URL.
    #[error("is not a URL; write it like https://api.buddo.xyz")]
    Malformed,
    /// Tokens and passwords would travel in the clear.
    #[error("is not https; plain http is only for loopback addresses")]
    Plain,
    /// Only a scheme, a host, a port and a path make sense.
    #[error("has a user, a query or a fragment; leave it out")]
    Extra,
}

/// An API's address: https, or http on loopback; without a trailing slash. Equal addresses are
/// equal texts, so that a session is never sent to a server other than its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ApiUrl(String);

impl ApiUrl {
    pub(crate) fn parse(text: &str) -> Result<Self, ApiUrlError> {
        let url = Url::parse(text.trim()).map_err(|_| ApiUrlError::Malformed)?;
        let host = url.host_str().ok_or(ApiUrlError::Malformed)?;
        match url.scheme() {
            "https" => {}
            "http" if is_loopback(host) => {}
            _ => return Err(ApiUrlError::Plain),
        }
        let user = !url.username().is_empty() || url.password().is_some();
        if user || url.query().is_some() || url.fragment().is_some() {
            return Err(ApiUrlError::Extra);
        }
        Ok(Self(url.as_str().trim_end_matches('/').to_owned()))
    }

    /// The address as text.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// The address of `path`, which begins with a slash.
    pub(crate) fn join(&self, path: &str) -> String {
        format!("{}{path}", self.0)
    }

    /// Whether the API is on this machine.
    pub(crate) fn is_loopback(&self) -> bool {
        Url::parse(&self.0).is_ok_and(|url| url.host_str().is_some_and(is_loopback))
    }
}

fn is_loopback(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost"
        || address.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// `config.toml`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct ConfigFile {
    /// Same as `--api`.
    api: Option<String>,
    /// Same as `--ca`; relative to the file's folder.
    ca: Option<PathBuf>,
}

/// The effective configuration.
#[derive(Debug)]
pub(crate) struct Config {
    pub(crate) api: ApiUrl,
    /// PEM text of additional root certificates.
    pub(crate) ca: Option<Vec<u8>>,
    /// The absolute path it was read from.
    pub(crate) ca_file: Option<PathBuf>,
    /// `credentials.json`.
    pub(crate) credentials: PathBuf,
    /// An API key used in place of a login: for programs, which have none.
    pub(crate) api_key: Option<Secret>,
}

impl Config {
    /// Reads the configuration of this user.
    pub(crate) fn load(global: &Global) -> Result<Self, ConfigError> {
        let base = etcetera::choose_base_strategy().map_err(|_| ConfigError::NoHome)?;
        let config = Self::load_from(&base.config_dir().join("buddo"), global)?;
        // Never an option: other users of this machine can see a command line.
        let key = std::env::var(API_KEY_VARIABLE).ok().filter(|key| !key.trim().is_empty());
        Ok(Self { api_key: key.map(|key| Secret::new(key.trim())), ..config })
    }

    fn load_from(folder: &Path, global: &Global) -> Result<Self, ConfigError> {
        let path = folder.join("config.toml");
        let file = match read(&path) {
            Ok(bytes) => toml::from_str(&String::from_utf8_lossy(&bytes))
                .map_err(|source| ConfigError::Parse { path, source })?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => ConfigFile::default(),
            Err(source) => return Err(ConfigError::Read { path, source }),
        };
        let credentials = folder.join("credentials.json");
        let last = match global.api.as_ref().or(file.api.as_ref()) {
            Some(_) => None,
            None => SessionStore::new(credentials.clone()).current()?,
        };
        let (last_api, last_ca) = last.map(|Current { api, ca }| (api, ca)).unzip();
        let text = global.api.clone().or(file.api).or(last_api);
        let text = text.as_deref().unwrap_or(DEFAULT_API);
        let api = ApiUrl::parse(text)
            .map_err(|problem| ConfigError::Api { text: text.to_owned(), problem })?;
        let ca = global.ca.clone().or_else(|| file.ca.map(|ca| folder.join(ca)));
        let (ca, ca_file) = match ca.or(last_ca.flatten()) {
            Some(path) => {
                let failed = |source| ConfigError::Read { path: path.clone(), source };
                let pem = read(&path).map_err(failed)?;
                (Some(pem), Some(std::path::absolute(&path).map_err(failed)?))
            }
            None => (None, None),
        };
        Ok(Self { api, ca, ca_file, credentials, api_key: None })
    }
}

fn read(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(MAX_FILE + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(std::io::Error::new(
            std::io::ErrorKind::FileTooLarge,
            format!("it has more than {MAX_FILE} bytes"),
        ));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn global(api: Option<&str>) -> Global {
        Global { api: api.map(str::to_owned), ca: None, json: false }
    }

    #[test]
    fn validates_api_urls() {
        assert_eq!(ApiUrl::parse("https://API.buddo.xyz/").unwrap().as_str(), DEFAULT_API);
        for loopback in ["http://localhost:8080", "http://127.0.0.1:1", "http://[::1]:1"] {
            assert!(ApiUrl::parse(loopback).unwrap().is_loopback(), "{loopback}");
        }
        for plain in ["http://api.buddo.xyz", "http://127.0.0.1.evil.com", "ftp://localhost"] {
            assert_eq!(ApiUrl::parse(plain), Err(ApiUrlError::Plain), "{plain}");
        }
        assert_eq!(ApiUrl::parse("https://u:p@api.buddo.xyz"), Err(ApiUrlError::Extra));
        assert_eq!(ApiUrl::parse("api.buddo.xyz"), Err(ApiUrlError::Malformed));
    }

    #[test]
    fn an_option_wins_over_the_file_and_the_file_over_the_default() {
        let folder = tempfile::tempdir().unwrap();
        let load = |api| Config::load_from(folder.path(), &global(api));
        assert_eq!(load(None).unwrap().api.as_str(), DEFAULT_API);
        std::fs::write(folder.path().join("config.toml"), "api = \"https://a.example\"").unwrap();
        assert_eq!(load(None).unwrap().api.as_str(), "https://a.example");
        assert_eq!(load(Some("https://b.example")).unwrap().api.as_str(), "https://b.example");
    }

    #[tokio::test]
    async fn defaults_to_the_api_of_the_last_login() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("ca.pem"), "pem").unwrap();
        let store = SessionStore::new(folder.path().join("credentials.json"));
        let api = ApiUrl::parse("https://a.example").unwrap();
        let lock = store.lock().await.unwrap();
        store.store(&lock, &api, Some(crate::session::tests::session("one"))).unwrap();
        let ca = Some(folder.path().join("ca.pem"));
        store.use_from_now_on(&lock, Current { api: api.as_str().to_owned(), ca }).unwrap();

        let config = Config::load_from(folder.path(), &global(None)).unwrap();
        assert_eq!((config.api.as_str(), config.ca.as_deref()), (api.as_str(), Some(&b"pem"[..])));
        let config = Config::load_from(folder.path(), &global(Some("https://b.example"))).unwrap();
        assert_eq!((config.api.as_str(), config.ca), ("https://b.example", None));

        store.store(&lock, &api, None).unwrap();
        let config = Config::load_from(folder.path(), &global(None)).unwrap();
        assert_eq!((config.api.as_str(), config.ca), (DEFAULT_API, None));
    }

    #[test]
    fn a_relative_ca_path_is_relative_to_the_file_and_unknown_keys_fail() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("ca.pem"), "pem").unwrap();
        std::fs::write(folder.path().join("config.toml"), "ca = \"ca.pem\"").unwrap();
        let config = Config::load_from(folder.path(), &global(None)).unwrap();
        assert_eq!(config.ca.as_deref(), Some(&b"pem"[..]));

        std::fs::write(folder.path().join("config.toml"), "apy = \"x\"").unwrap();
        let error = Config::load_from(folder.path(), &global(None)).unwrap_err();
        assert!(matches!(error, ConfigError::Parse { .. }), "{error}");
    }
}
