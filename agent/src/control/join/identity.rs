//! The identity of a joined host: what a join wrote, and what a start reads.
//!
//! `identity.json` is written last and removed first: if it exists, all the other files are
//! complete.

use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use buddo_runtime::durable;
use buddo_shared::host_wire::join::{JoinToken, Joined, host_name};
use buddo_shared::host_wire::manifest::Trust;
use buddo_shared::host_wire::sealed::{OpeningKey, SealError};
use buddo_shared::model::id::HostId;
use buddo_shared::model::name::HostName;
use buddo_shared::model::secret::Secret;
use rustls::client::verify_server_name;
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::ParsedCertificate;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::pin::fingerprint;
use crate::control::server::tls::{self, TlsError};
use crate::model::trust::{TrustRoots, TrustRootsError};

const IDENTITY: &str = "identity.json";
const HOST_KEY: &str = "host.key";
const HOST_CERTIFICATE: &str = "host.pem";
const SEALING_KEY: &str = "sealing.key";
/// A renewal that may have been requested; see [`crate::control::renew`].
pub(crate) const RENEWAL: &str = "renewal.json";

/// Who this host is, whom it trusts, and how it is reached.
#[derive(Debug)]
pub struct Identity {
    pub host_id: HostId,
    /// The join that created it: each has its own id.
    pub joined: Uuid,
    /// `HOST:PORT` of the coordinator's listener for hosts.
    pub coordinator: String,
    /// The zone that apps are served in.
    pub zone: HostName,
    /// The trust roots as last written to this folder.
    pub trust_roots: TrustRoots,
    /// Opens what is sealed to this host.
    pub opening_key: OpeningKey,
    /// The key of its certificate, PEM.
    pub key: Secret,
    pub certificate: CertificateDer<'static>,
}

/// The identity cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// A file cannot be read or written.
    #[error("cannot {operation} {}", .path.display())]
    File {
        /// `read` or `write`.
        operation: &'static str,
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    /// A file of the identity is damaged.
    #[error("{} is damaged; join the host again with --force", .path.display())]
    Damaged {
        path: PathBuf,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The answer to the join or renewal does not match the request.
    #[error("the coordinator's answer is not acceptable: {0}")]
    Answer(&'static str),
    /// The trust roots are not usable.
    #[error(transparent)]
    Trust(#[from] TrustRootsError),
    /// TLS cannot be set up with the certificates.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// `identity.json`.
#[derive(Debug, Serialize, Deserialize)]
struct Stored {
    host_id: HostId,
    joined: Uuid,
    coordinator: String,
    zone: HostName,
    trust: Trust,
}

/// What the host made itself.
pub(super) struct Own<'a> {
    pub(super) key: &'a Secret,
    pub(super) opening_key: &'a OpeningKey,
    pub(super) coordinator: &'a str,
}

impl Identity {
    /// Reads what a join wrote; `None` if the host has not joined.
    pub fn load(state_dir: &Path) -> Result<Option<Self>, IdentityError> {
        let Some(stored) = read_stored(state_dir)? else { return Ok(None) };
        let key = read_secret(&state_dir.join(HOST_KEY))?;
        let sealing = read_secret(&state_dir.join(SEALING_KEY))?;
        let opening_key = OpeningKey::from_text(&sealing)
            .map_err(|error: SealError| damaged(&state_dir.join(SEALING_KEY))(error))?;
        let path = state_dir.join(HOST_CERTIFICATE);
        let certificate = read_secret(&path)?;
        let certificate = leaf(certificate.expose()).map_err(damaged(&path))?;
        Ok(Some(Self {
            trust_roots: TrustRoots::new(stored.host_id, stored.trust)?,
            host_id: stored.host_id,
            joined: stored.joined,
            coordinator: stored.coordinator,
            zone: stored.zone,
            opening_key,
            key,
            certificate,
        }))
    }
}

/// Makes sure that the answer can be stored, before the token is used up.
pub(super) fn prepare(state_dir: &Path) -> Result<(), IdentityError> {
    let failed =
        |source| IdentityError::File { operation: "write", path: state_dir.to_owned(), source };
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(state_dir).map_err(failed)?;
    tempfile::tempfile_in(state_dir).map(drop).map_err(failed)
}

/// Checks the answer to a join and stores it for the next start.
pub(super) fn keep(
    state_dir: &Path,
    token: &JoinToken,
    joined: &Joined,
    own: &Own<'_>,
) -> Result<Identity, IdentityError> {
    // Checked before anything is replaced: TLS and the keys must be usable.
    let trust_roots = TrustRoots::new(joined.host_id, joined.trust.clone())?;
    if !trust_roots.cas().iter().any(|ca| fingerprint(ca) == token.ca_fingerprint) {
        return Err(IdentityError::Answer("its CA is not the one that the token names"));
    }
    check_certificate(joined.host_id, &joined.certificate, own.key, &trust_roots)?;
    let stored = Stored {
        host_id: joined.host_id,
        joined: Uuid::from_bytes(rand::random()),
        coordinator: own.coordinator.to_owned(),
        zone: joined.zone.clone(),
        trust: joined.trust.clone(),
    };
    remove(&state_dir.join(IDENTITY))?;
    remove(&state_dir.join(RENEWAL))?;
    write(&state_dir.join(HOST_KEY), own.key.expose().as_bytes())?;
    write(&state_dir.join(SEALING_KEY), own.opening_key.to_text().expose().as_bytes())?;
    keep_certificate(state_dir, &joined.certificate)?;
    write_stored(state_dir, &stored)?;
    Identity::load(state_dir)?.ok_or(IdentityError::Answer("it could not be read back"))
}

/// A certificate that the coordinator issued for this host's `key`, if it is usable as such.
pub(crate) fn check_certificate(
    host: HostId,
    certificate: &str,
    key: &Secret,
    trust_roots: &TrustRoots,
) -> Result<CertificateDer<'static>, IdentityError> {
    use IdentityError::Answer;
    let der = leaf(certificate).map_err(|_| Answer("its certificate is malformed"))?;
    let parsed =
        ParsedCertificate::try_from(&der).map_err(|_| Answer("its certificate is malformed"))?;
    let name = ServerName::try_from(host_name(host))
        .map_err(|_| Answer("its host id does not make a valid name"))?;
    verify_server_name(&parsed, &name)
        .map_err(|_| Answer("its certificate is for another host"))?;
    let key = PrivateKeyDer::from_pem_slice(key.expose().as_bytes())
        .map_err(|_| Answer("its certificate has no matching key"))?;
    tls::server_config(vec![der.clone()], key, trust_roots)?;
    Ok(der)
}

pub(crate) fn keep_certificate(state_dir: &Path, certificate: &str) -> Result<(), IdentityError> {
    write(&state_dir.join(HOST_CERTIFICATE), certificate.as_bytes())
}

/// Writes the current trust roots, in case the database is lost.
pub(crate) fn remember(state_dir: &Path, trust: &Trust) -> Result<(), IdentityError> {
    match read_stored(state_dir)? {
        Some(stored) if stored.trust != *trust => {
            write_stored(state_dir, &Stored { trust: trust.clone(), ..stored })
        }
        _ => Ok(()),
    }
}

fn read_stored(state_dir: &Path) -> Result<Option<Stored>, IdentityError> {
    let path = state_dir.join(IDENTITY);
    let text = match std::fs::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(IdentityError::File { operation: "read", path, source }),
    };
    serde_json::from_slice(&text).map(Some).map_err(damaged(&path))
}

fn write_stored(state_dir: &Path, stored: &Stored) -> Result<(), IdentityError> {
    let path = state_dir.join(IDENTITY);
    let text = serde_json::to_vec_pretty(stored).map_err(damaged(&path))?;
    write(&path, &text)
}

fn leaf(text: &str) -> Result<CertificateDer<'static>, pem::Error> {
    CertificateDer::from_pem_slice(text.as_bytes())
}

fn damaged<E: std::error::Error + Send + Sync + 'static>(
    path: &Path,
) -> impl FnOnce(E) -> IdentityError {
    let path = path.to_owned();
    move |error| IdentityError::Damaged { path, source: Box::new(error) }
}

fn read_secret(path: &Path) -> Result<Secret, IdentityError> {
    std::fs::read_to_string(path).map(Secret::new).map_err(|source| IdentityError::File {
        operation: "read",
        path: path.to_owned(),
        source,
    })
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), IdentityError> {
    durable::replace(path, bytes, 0o600).map_err(|source| IdentityError::File {
        operation: "write",
        path: path.to_owned(),
        source,
    })
}

fn remove(path: &Path) -> Result<(), IdentityError> {
    match std::fs::remove_file(path).and_then(|()| durable::flush_folder(path)) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(IdentityError::File { operation: "write", path: path.to_owned(), source: error })
        }
        _ => Ok(()),
    }
}
