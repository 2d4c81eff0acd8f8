//! The identity of a joined host: what a join wrote, and what a start reads.
//!
//! `identity.json` is written last and removed first: with it, all the others are whole.

use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use buddo_shared::api::host::{JoinToken, Joined, host_name};
use buddo_shared::id::HostId;
use buddo_shared::name::HostName;
use buddo_shared::sealed::{OpeningKey, SealError};
use buddo_shared::secret::Secret;
use buddo_shared::signed::{PinnedKeyError, PublicKey, Verifier};
use rustls::ServerConfig;
use rustls::client::verify_server_name;
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::ParsedCertificate;
use serde::{Deserialize, Serialize};

use super::pin::fingerprint;
use crate::durable;
use crate::link::tls::{self, TlsError};

const IDENTITY: &str = "identity.json";
const HOST_KEY: &str = "host.key";
const HOST_CERTIFICATE: &str = "host.pem";
const CA: &str = "ca.pem";
const SEALING_KEY: &str = "sealing.key";

/// Who this host is, whom it obeys, and how it is reached.
#[derive(Debug)]
pub struct Identity {
    /// The host's id.
    pub host_id: HostId,
    /// The zone that apps are served in.
    pub zone: HostName,
    /// Checks documents: for this host, by the pinned keys.
    pub verifier: Verifier,
    /// Opens what is sealed to this host.
    pub opening_key: OpeningKey,
    /// TLS of the link.
    pub tls: Arc<ServerConfig>,
}

/// The identity cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// A file cannot be read or written.
    #[error("cannot {operation} {}", .path.display())]
    File {
        /// `read` or `write`.
        operation: &'static str,
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A file of the identity is damaged.
    #[error("{} is damaged; let the host join again with --force", .path.display())]
    Damaged {
        /// Which.
        path: PathBuf,
        /// How.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The answer to the join does not fit what was asked.
    #[error("the coordinator's answer is not acceptable: {0}")]
    Answer(&'static str),
    /// The pinned signing keys are malformed.
    #[error(transparent)]
    Keys(#[from] PinnedKeyError),
    /// The certificates do not make TLS.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// `identity.json`.
#[derive(Debug, Serialize, Deserialize)]
struct Stored {
    host_id: HostId,
    zone: HostName,
    signing_keys: Vec<PublicKey>,
}

impl Identity {
    /// Reads what a join wrote; `None` where the host has not joined.
    pub fn load(state_dir: &Path) -> Result<Option<Self>, IdentityError> {
        let path = state_dir.join(IDENTITY);
        let text = match std::fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(IdentityError::File { operation: "read", path, source }),
        };
        let stored: Stored = serde_json::from_slice(&text).map_err(damaged(&path))?;
        let key = read_secret(&state_dir.join(HOST_KEY))?;
        let sealing = read_secret(&state_dir.join(SEALING_KEY))?;
        let opening_key = OpeningKey::from_text(&sealing)
            .map_err(|error: SealError| damaged(&state_dir.join(SEALING_KEY))(error))?;
        let certificate = read_secret(&state_dir.join(HOST_CERTIFICATE))?;
        let ca = read_secret(&state_dir.join(CA))?;
        let chain =
            chain(certificate.expose()).map_err(damaged(&state_dir.join(HOST_CERTIFICATE)))?;
        let ca = CertificateDer::from_pem_slice(ca.expose().as_bytes())
            .map_err(damaged(&state_dir.join(CA)))?;
        let key = PrivateKeyDer::from_pem_slice(key.expose().as_bytes())
            .map_err(damaged(&state_dir.join(HOST_KEY)))?;
        Ok(Some(Self {
            host_id: stored.host_id,
            verifier: Verifier::new(stored.host_id, &stored.signing_keys)?,
            zone: stored.zone,
            opening_key,
            tls: tls::server_config(chain, key, ca)?,
        }))
    }
}

/// Makes sure that the answer can be kept, before the token is used up.
pub(super) fn prepare(state_dir: &Path) -> Result<(), IdentityError> {
    let failed =
        |source| IdentityError::File { operation: "write", path: state_dir.to_owned(), source };
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(state_dir).map_err(failed)?;
    tempfile::tempfile_in(state_dir).map(drop).map_err(failed)
}

/// Checks the answer to a join and keeps it, as what a start will read.
pub(super) fn keep(
    state_dir: &Path,
    token: &JoinToken,
    joined: &Joined,
    key: &Secret,
    opening_key: &OpeningKey,
) -> Result<Identity, IdentityError> {
    check(token, joined)?;
    let stored = Stored {
        host_id: joined.host_id,
        zone: joined.zone.clone(),
        signing_keys: joined.signing_keys.clone(),
    };
    let stored = serde_json::to_vec_pretty(&stored).map_err(damaged(&state_dir.join(IDENTITY)))?;
    // Tried before anything is replaced: TLS and the keys must be usable.
    Verifier::new(joined.host_id, &joined.signing_keys)?;
    let unusable = |_| IdentityError::Answer("its certificates are malformed");
    tls::server_config(
        chain(&joined.certificate).map_err(unusable)?,
        PrivateKeyDer::from_pem_slice(key.expose().as_bytes()).map_err(unusable)?,
        CertificateDer::from_pem_slice(joined.ca.as_bytes()).map_err(unusable)?,
    )?;
    remove(&state_dir.join(IDENTITY))?;
    write(&state_dir.join(HOST_KEY), key.expose().as_bytes())?;
    write(&state_dir.join(SEALING_KEY), opening_key.to_text().expose().as_bytes())?;
    write(&state_dir.join(HOST_CERTIFICATE), joined.certificate.as_bytes())?;
    write(&state_dir.join(CA), joined.ca.as_bytes())?;
    write(&state_dir.join(IDENTITY), &stored)?;
    Identity::load(state_dir)?.ok_or(IdentityError::Answer("it was not kept"))
}

/// The answer must speak of the CA that the token names, and of a host with its own name.
fn check(token: &JoinToken, joined: &Joined) -> Result<(), IdentityError> {
    use IdentityError::Answer;
    let ca = CertificateDer::from_pem_slice(joined.ca.as_bytes())
        .map_err(|_| Answer("its CA is no certificate"))?;
    if fingerprint(&ca) != token.ca_fingerprint {
        return Err(Answer("its CA is not the one that the token names"));
    }
    if joined.signing_keys.is_empty() {
        return Err(Answer("it names no signing key"));
    }
    let leaf = CertificateDer::from_pem_slice(joined.certificate.as_bytes())
        .map_err(|_| Answer("its certificate is malformed"))?;
    let leaf =
        ParsedCertificate::try_from(&leaf).map_err(|_| Answer("its certificate is malformed"))?;
    let name = ServerName::try_from(host_name(joined.host_id))
        .map_err(|_| Answer("its host id makes no name"))?;
    verify_server_name(&leaf, &name).map_err(|_| Answer("its certificate is for another host"))
}

fn chain(text: &str) -> Result<Vec<CertificateDer<'static>>, pem::Error> {
    CertificateDer::pem_slice_iter(text.as_bytes()).collect()
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
