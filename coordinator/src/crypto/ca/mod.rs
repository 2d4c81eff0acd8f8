//! The host CA: a root that signs only the hosts' certificates and the coordinator's own.
//!
//! `ca.key` and `ca.pem` are valid for 10 years and live in the state directory. During a rollover
//! `ca.next.key` and `ca.next.pem` are next to them:
//!
//! ```text
//!                        rotate                        retire
//! hosts trust     old ─────────────► both ──────────────────────────► new
//! hosts' own      by old ──────────► by new, host by host ──────────► by new
//! coordinator's   by old ───────────────────────────────────────────► by new
//! ```
//!
//! The coordinator's own certificate, for its listeners and as client of agents, stays with the old
//! CA until the end: that is the one every host trusts throughout. It is reissued in memory once a
//! third of its lifetime has passed.

mod authority;

use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use buddo_runtime::clock::Clock;
use buddo_shared::host_wire::join::{COORDINATOR_NAME, host_name, serial};
use buddo_shared::host_wire::renewal::{HostKey, HostKeyError};
use buddo_shared::model::id::HostId;
use data_encoding::HEXLOWER;
use jiff::{SignedDuration, Timestamp};
use rcgen::{CertificateSigningRequestParams, PublicKeyData as _, SubjectPublicKeyInfo};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use self::authority::{Authority, Files, san};
use crate::domain::host_trust::Issued;
use crate::process::secret_file::{self, SecretFileError};

const CURRENT: Files = Files { key: "ca.key", certificate: "ca.pem" };
const NEXT: Files = Files { key: "ca.next.key", certificate: "ca.next.pem" };

/// How long the coordinator's own certificate is valid.
const OWN_LIFE: Duration = Duration::from_hours(90 * 24);
/// The ages at which it is used; outside of them it is reissued.
const IN_FORCE: Range<SignedDuration> =
    SignedDuration::from_mins(-30)..SignedDuration::from_hours(30 * 24);

/// The CA cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CaError {
    /// One of its files cannot be used.
    #[error("cannot use the host CA's files")]
    File(#[from] SecretFileError),
    /// A certificate or key cannot be made or read.
    #[error("cannot {operation}")]
    Certificate {
        /// The operation that failed.
        operation: &'static str,
        #[source]
        source: rcgen::Error,
    },
    /// The certificate file is not PEM.
    #[error("the certificate file is not PEM")]
    Pem(#[source] rustls_pki_types::pem::Error),
    /// The request's key is not of the kind that hosts have.
    #[error(transparent)]
    Key(#[from] HostKeyError),
    /// TLS rejects the certificate or key.
    #[error("cannot set up TLS")]
    Tls(#[from] rustls::Error),
    /// A rollover cannot start during another.
    #[error(
        "a rollover of the host CA is already under way, to {0}; end it first with \
         `buddo-coordinator ca retire`, or look at `buddo-coordinator ca list`"
    )]
    UnderWay(String),
    /// Only the older of two CAs can be retired.
    #[error(
        "{0:?} is not the older of two host CAs; `buddo-coordinator ca list` shows which can be \
         retired, `ca rotate` makes another"
    )]
    NotOld(String),
}

fn failed(operation: &'static str) -> impl FnOnce(rcgen::Error) -> CaError {
    move |source| CaError::Certificate { operation, source }
}

/// The authorities at one point in time.
struct Authorities {
    current: Authority,
    next: Option<Authority>,
}

impl Authorities {
    fn newest(&self) -> &Authority {
        self.next.as_ref().unwrap_or(&self.current)
    }

    fn all(&self) -> impl Iterator<Item = &Authority> {
        self.next.iter().chain([&self.current])
    }
}

/// The CA and the TLS configurations made with it.
pub struct HostCa {
    directory: PathBuf,
    authorities: ArcSwap<Authorities>,
    api_names: Vec<String>,
    clock: Arc<dyn Clock>,
    current: Mutex<Option<Identity>>,
}

impl std::fmt::Debug for HostCa {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HostCa").finish_non_exhaustive()
    }
}

/// The coordinator's TLS configurations; their certificates are of the same age.
#[derive(Clone)]
pub struct Identity {
    made: Timestamp,
    /// Towards agents: trusts only these CAs, TLS 1.3, HTTP/2.
    pub client: Arc<ClientConfig>,
    /// The listener for hosts. Its chain includes the CA, so that an agent can compare the
    /// fingerprint in its token.
    pub hosts: Arc<ServerConfig>,
    /// The API, if no certificate is configured.
    pub api: Arc<ServerConfig>,
}

impl HostCa {
    /// The files of the first CA.
    pub const FILES: [&str; 2] = [CURRENT.key, CURRENT.certificate];

    /// Reads the CA from the state directory, or creates it. `api_names` are the names in the API's
    /// certificate if none is configured.
    pub fn open(
        directory: &Path,
        api_names: &[String],
        clock: Arc<dyn Clock>,
    ) -> Result<Self, CaError> {
        Authority::open_or_make(directory, CURRENT, clock.now())?;
        Self::open_existing(directory, api_names, clock)
    }

    /// As [`open`](Self::open), but the CA must exist.
    pub fn open_existing(
        directory: &Path,
        api_names: &[String],
        clock: Arc<dyn Clock>,
    ) -> Result<Self, CaError> {
        let authorities = ArcSwap::from_pointee(read(directory)?);
        let (directory, api_names) = (directory.to_owned(), api_names.to_vec());
        Ok(Self { directory, authorities, api_names, clock, current: Mutex::new(None) })
    }

    /// Reads the files again: another process may have started or ended a rollover.
    pub fn reload(&self) -> Result<(), CaError> {
        let authorities = Arc::new(read(&self.directory)?);
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        self.authorities.store(authorities);
        *current = None;
        Ok(())
    }

    /// The CA certificates, newest first, one PEM each.
    pub fn bundle(&self) -> Vec<String> {
        self.authorities.load().all().map(|authority| authority.pem.clone()).collect()
    }

    /// Their fingerprints, in the same order.
    pub fn fingerprints(&self) -> Vec<String> {
        self.authorities
            .load()
            .all()
            .map(|authority| HEXLOWER.encode(&authority.fingerprint()))
            .collect()
    }

    /// SHA-256 of the certificate that join tokens name: that of the CA that issued this
    /// coordinator's own certificate.
    pub fn fingerprint(&self) -> [u8; 32] {
        self.authorities.load().current.fingerprint()
    }

    /// The key in a certificate request, once its signature proves that the sender holds it.
    /// Everything else in the request is ignored.
    pub fn requested_key(csr: &str) -> Result<HostKey, CaError> {
        let request =
            CertificateSigningRequestParams::from_pem(csr).map_err(failed("accept the request"))?;
        Ok(HostKey::from_spki(&request.public_key.subject_public_key_info())?)
    }

    /// Issues certificate `number` of a host, signed by the newest CA. Also returns it as PEM.
    pub fn sign_host(
        &self,
        id: HostId,
        key: &HostKey,
        number: u32,
        life: Duration,
    ) -> Result<(Issued, String), CaError> {
        let authorities = self.authorities.load();
        let authority = authorities.newest();
        let key = SubjectPublicKeyInfo::from_der(key.spki()).map_err(failed("use a host's key"))?;
        let now = self.clock.now();
        let names = vec![san(&host_name(id))?];
        let made = authority.leaf(names, &key, Some(serial(id, number)), now, life)?;
        let life = SignedDuration::try_from(life).unwrap_or(SignedDuration::MAX);
        let issued = Issued {
            number,
            ca: HEXLOWER.encode(&authority.fingerprint()),
            expires_at: now.checked_add(life).unwrap_or(Timestamp::MAX),
            renewal: None,
        };
        Ok((issued, made.pem()))
    }

    /// The coordinator's TLS, reissued when it is due.
    pub fn identity(&self) -> Result<Identity, CaError> {
        let now = self.clock.now();
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        match &*current {
            // Also reissue after the clock was set back: the certificate would not be valid yet.
            Some(identity) if IN_FORCE.contains(&now.duration_since(identity.made)) => {
                Ok(identity.clone())
            }
            _ => Ok(current.insert(self.make_identity(now)?).clone()),
        }
    }

    fn make_identity(&self, made: Timestamp) -> Result<Identity, CaError> {
        let authorities = self.authorities.load();
        let own = &authorities.current;
        let (chain, key) = own.credentials(vec![san(COORDINATOR_NAME)?], made, OWN_LIFE)?;
        let mut roots = RootCertStore::empty();
        for authority in authorities.all() {
            roots.add(authority.certificate.clone())?;
        }
        let tls13 = &[&rustls::version::TLS13];
        let mut client = ClientConfig::builder_with_protocol_versions(tls13)
            .with_root_certificates(roots)
            .with_client_auth_cert(chain.clone(), key.clone_key())?;
        client.alpn_protocols = vec![b"h2".to_vec()];
        let mut hosts = ServerConfig::builder_with_protocol_versions(tls13)
            .with_no_client_auth()
            .with_single_cert(chain, key)?;
        hosts.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let names = self.api_names.iter().map(|name| san(name)).collect::<Result<_, _>>()?;
        let (chain, key) = own.credentials(names, made, OWN_LIFE)?;
        let api = api_config(chain, key)?;
        Ok(Identity { made, client: Arc::new(client), hosts: Arc::new(hosts), api: Arc::new(api) })
    }

    /// The fingerprint of the CA being replaced, while there are two.
    pub fn old(&self) -> Option<String> {
        let authorities = self.authorities.load();
        authorities.next.as_ref().map(|_| HEXLOWER.encode(&authorities.current.fingerprint()))
    }

    /// Starts a rollover: makes the next CA and returns its fingerprint.
    pub fn rotate(&self) -> Result<String, CaError> {
        self.reload()?;
        if let Some(next) = &self.authorities.load().next {
            return Err(CaError::UnderWay(HEXLOWER.encode(&next.fingerprint())));
        }
        let next = Authority::open_or_make(&self.directory, NEXT, self.clock.now())?;
        self.reload()?;
        Ok(HEXLOWER.encode(&next.fingerprint()))
    }

    /// The fingerprint that `name` is a prefix of, if that CA can be retired.
    pub fn retirable(&self, name: &str) -> Result<String, CaError> {
        self.reload()?;
        let old = self.old().filter(|old| name.len() >= 8 && old.starts_with(name));
        old.ok_or_else(|| CaError::NotOld(name.to_owned()))
    }

    /// Ends a rollover: the next CA replaces the old one, whose private key is deleted.
    pub fn retire(&self, name: &str) -> Result<(), CaError> {
        self.retirable(name)?;
        // The key first: see `read` for a crash in between.
        secret_file::rename(&self.directory.join(NEXT.key), &self.directory.join(CURRENT.key))?;
        self.reload()
    }
}

/// Reads the authorities, and completes what a crash interrupted.
fn read(directory: &Path) -> Result<Authorities, CaError> {
    let is_there = |name: &str| match std::fs::metadata(directory.join(name)) {
        Ok(_) => Ok(true),
        Err(source) if source.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(source) => {
            let path = directory.join(name).display().to_string();
            Err(CaError::File(SecretFileError::Read { path, source }))
        }
    };
    let next = match (is_there(NEXT.key)?, is_there(NEXT.certificate)?) {
        (true, true) => Some(Authority::open(directory, NEXT)?),
        // Retirement was interrupted: the key is already in the old one's place.
        (false, true) => {
            secret_file::rename(
                &directory.join(NEXT.certificate),
                &directory.join(CURRENT.certificate),
            )?;
            None
        }
        // Its creation was interrupted, so nobody knows it; `rotate` completes it.
        (true | false, false) => None,
    };
    Ok(Authorities { current: Authority::open(directory, CURRENT)?, next })
}

/// TLS of the API: 1.2 and 1.3, HTTP/2 and HTTP/1.1.
pub fn api_config(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<ServerConfig, rustls::Error> {
    let mut config = ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

#[cfg(test)]
mod tests;
