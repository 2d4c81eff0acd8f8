//! Keeps this host's certificate valid, and the server's TLS up to date with it and with the trust
//! roots.
//!
//! ```text
//! certificate, trust, clock ─► due? ─► renewal.json (fsync) ─► POST /v1/renew ─► host.pem ─► TLS
//!                               (pure)   the request's id        signed by host.key
//! ```
//!
//! One mechanism serves a certificate at half its life, one that expired while the host was away,
//! and one by an authority that is about to be retired: the host dials, because with an expired
//! certificate nobody can dial it, and signs with its key, which does not expire.
//!
//! The request's id is on disk before it is sent. If its answer is lost, the same request gets the
//! same answer; so a host is never taken for a copy of itself.

mod due;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use buddo_runtime::clock::Clock;
use buddo_runtime::durable;
use buddo_runtime::error_chain::chain;
use buddo_shared::host_wire::renewal::Renewed;
use buddo_shared::host_wire::renewal::Statement;
use buddo_shared::model::id::HostId;
use buddo_shared::model::secret::Secret;
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use rustls::{ClientConfig, ServerConfig};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use self::due::{Due, Life, LifeError};
use crate::control::join::{self, CallError, Identity, IdentityError, RENEWAL};
use crate::control::server::tls::{self, TlsError};
use crate::model::retries;
use crate::model::retries::Jitter;
use crate::model::trust::TrustRoots;

/// How often to look at the clock, which may have been set meanwhile.
const LOOK: Duration = Duration::from_hours(1);

/// The coordinator's code for a host that exists twice.
const LOCKED: &str = "host_locked";

/// A certificate could not be renewed, or its TLS could not be set up. The present one stays in
/// use.
#[derive(Debug, thiserror::Error)]
pub enum RenewError {
    /// The present certificate is not a host's.
    #[error("this host's certificate is not usable; join the host again")]
    Life(#[from] LifeError),
    /// The request cannot be written or read, so it is not sent.
    #[error("cannot store the certificate request in {}", .path.display())]
    Pending {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    /// The host's key is not usable.
    #[error("this host's key is not usable; join the host again")]
    Key(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The coordinator did not issue one.
    #[error(transparent)]
    Call(#[from] CallError),
    /// Its answer is not usable, or cannot be stored.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// TLS cannot be set up with it.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The thread that works with the files failed.
    #[error("cannot work with the files of the state directory")]
    Thread(#[source] std::io::Error),
}

/// A request that may have been answered already.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Pending {
    number: u32,
    request: Uuid,
}

/// What is needed to renew a host's certificate.
pub struct Renewer<K> {
    host: HostId,
    coordinator: String,
    state_dir: PathBuf,
    key: Secret,
    certificate: CertificateDer<'static>,
    clock: Arc<K>,
    jitter: Jitter,
    /// This host's place in the window, drawn once for each certificate.
    spread: f64,
    /// Since when an authority other than its own has been issuing certificates.
    outdated: Option<Instant>,
    trust_roots: watch::Receiver<Arc<TrustRoots>>,
    tls: watch::Sender<Arc<ServerConfig>>,
    alarm: watch::Sender<Option<String>>,
}

impl<K: Clock> Renewer<K> {
    /// Sets up the server's TLS with the present certificate.
    pub fn new(
        identity: &Identity,
        state_dir: PathBuf,
        clock: Arc<K>,
        jitter: Jitter,
        trust_roots: watch::Receiver<Arc<TrustRoots>>,
    ) -> Result<Self, RenewError> {
        let (key, certificate) = (identity.key.clone(), identity.certificate.clone());
        let first = server_config(&key, &certificate, &trust_roots.borrow())?;
        Ok(Self {
            host: identity.host_id,
            coordinator: identity.coordinator.clone(),
            state_dir,
            key,
            certificate,
            clock,
            spread: jitter(),
            outdated: None,
            jitter,
            trust_roots,
            tls: watch::Sender::new(first),
            alarm: watch::Sender::new(None),
        })
    }

    /// The TLS for new connections.
    pub fn tls(&self) -> watch::Receiver<Arc<ServerConfig>> {
        self.tls.subscribe()
    }

    /// What an administrator should know about the certificate.
    pub fn alarm(&self) -> watch::Receiver<Option<String>> {
        self.alarm.subscribe()
    }

    /// Renews until `stop`.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut failures = 0;
        // The trust of the database, if it differs from the folder's.
        self.follow_trust().await;
        loop {
            let wait = match self.look() {
                Ok(Due::In(wait)) => wait.min(LOOK),
                Ok(Due::Now) => match self.renew().await {
                    Ok(()) => {
                        failures = 0;
                        continue;
                    }
                    Err(error) => {
                        self.failed(&error);
                        failures += 1;
                        retries::RENEWAL.delay(failures - 1, (self.jitter)())
                    }
                },
                Err(error) => {
                    self.failed(&error);
                    LOOK
                }
            };
            tokio::select! {
                () = stop.cancelled() => return,
                Ok(()) = self.trust_roots.changed() => self.follow_trust().await,
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    fn look(&mut self) -> Result<Due, RenewError> {
        let life = Life::of(&self.certificate)?;
        let newest = self.trust_roots.borrow().cas().first().cloned();
        let outdated = newest.is_some_and(|ca| !life.is_by(&self.certificate, self.host, &ca));
        self.outdated = outdated.then(|| self.outdated.unwrap_or_else(Instant::now));
        let outdated = self.outdated.map(|since| since.elapsed());
        Ok(life.due(outdated, self.clock.now(), self.spread))
    }

    /// The trust roots have changed: applies to the next connection.
    async fn follow_trust(&mut self) {
        let trust_roots = Arc::clone(&self.trust_roots.borrow_and_update());
        self.spread = (self.jitter)();
        let followed = match server_config(&self.key, &self.certificate, &trust_roots) {
            Ok(tls) => {
                self.tls.send_replace(tls);
                let state_dir = self.state_dir.clone();
                let kept =
                    durable::off_thread(move || join::remember(&state_dir, trust_roots.wire()));
                kept.await.map_err(RenewError::Thread).and_then(|kept| Ok(kept?))
            }
            Err(error) => Err(error),
        };
        if let Err(error) = followed {
            tracing::error!(
                reason = chain(&error),
                "new trust roots could not be applied everywhere"
            );
        }
    }

    async fn renew(&mut self) -> Result<(), RenewError> {
        let life = Life::of(&self.certificate)?;
        let path = self.state_dir.join(RENEWAL);
        let request = durable::off_thread(move || pending(&path, life.number));
        let pending = request.await.map_err(RenewError::Thread)??;
        let trust_roots = Arc::clone(&self.trust_roots.borrow());
        let mut tls = ClientConfig::builder_with_provider(Arc::new(
            rustls::crypto::aws_lc_rs::default_provider(),
        ))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .and_then(|builder| Ok(builder.with_root_certificates(trust_roots.roots()?)))
        .map_err(CallError::Tls)?
        .with_no_client_auth();
        tls.alpn_protocols = vec![b"http/1.1".to_vec()];
        let pkcs8 = pkcs8(&self.key).map_err(|error| RenewError::Key(Box::new(error)))?;
        let body = |binding| {
            Statement::new(self.host, life.number, pending.request, binding)
                .sign(pkcs8.secret_pkcs8_der())
                .map_err(|error| CallError::Exchange(Box::new(error)))
        };
        let path = "/v1/renew";
        let Renewed { certificate } =
            join::post(&self.coordinator, tls, path, "application/jose+json", body).await?;
        let made = join::check_certificate(self.host, &certificate, &self.key, &trust_roots)?;
        let number = Life::of(&made)?.number;
        let tls_config = server_config(&self.key, &made, &trust_roots)?;
        let state_dir = self.state_dir.clone();
        let kept = durable::off_thread(move || {
            join::keep_certificate(&state_dir, &certificate)?;
            // Once the certificate is on disk the request is answered; removing its file is only
            // tidying.
            let _ = std::fs::remove_file(state_dir.join(RENEWAL));
            Ok::<_, IdentityError>(())
        });
        kept.await.map_err(RenewError::Thread)??;
        self.certificate = made;
        self.spread = (self.jitter)();
        self.tls.send_replace(tls_config);
        self.alarm.send_replace(None);
        tracing::info!(number, "this host has a new certificate");
        Ok(())
    }

    /// Reports a failure where it matters: an attempt that fails at half of a life does not raise
    /// an alarm yet.
    fn failed(&self, error: &RenewError) {
        let words = chain(error);
        tracing::warn!(reason = words, "the certificate could not be renewed; retrying");
        let locked =
            matches!(error, RenewError::Call(CallError::Refused { code, .. }) if code == LOCKED);
        let alarming = match Life::of(&self.certificate) {
            Ok(life) => locked || life.is_short(self.clock.now()),
            Err(_) => true,
        };
        if !alarming {
            return;
        }
        self.alarm.send_replace(Some(if locked {
            format!(
                "the coordinator has locked this host out; apps run on, changes do not reach it: \
                 {words}"
            )
        } else {
            format!("this host's certificate cannot be renewed; apps run on: {words}")
        }));
    }
}

fn pkcs8(key: &Secret) -> Result<PrivatePkcs8KeyDer<'static>, pem::Error> {
    PrivatePkcs8KeyDer::from_pem_slice(key.expose().as_bytes())
}

fn server_config(
    key: &Secret,
    certificate: &CertificateDer<'static>,
    trust_roots: &TrustRoots,
) -> Result<Arc<ServerConfig>, RenewError> {
    let key = pkcs8(key).map_err(|error| RenewError::Key(Box::new(error)))?;
    Ok(tls::server_config(vec![certificate.clone()], key.into(), trust_roots)?)
}

/// Merges both alarms into one, for as long as this task runs.
pub async fn join_alarms(
    mut one: watch::Receiver<Option<String>>,
    mut other: watch::Receiver<Option<String>>,
    both: watch::Sender<Option<String>>,
) {
    loop {
        let words: Vec<String> = [&mut one, &mut other]
            .into_iter()
            .filter_map(|alarm| alarm.borrow_and_update().clone())
            .collect();
        let words = (!words.is_empty()).then(|| words.join("; "));
        both.send_if_modified(|said| {
            let news = *said != words;
            *said = words;
            news
        });
        tokio::select! {
            Ok(()) = one.changed() => {}
            Ok(()) = other.changed() => {}
            else => return,
        }
    }
}

/// The request for the certificate after `number`: the one on disk, or a new one, written to disk.
fn pending(path: &Path, number: u32) -> Result<Pending, RenewError> {
    let failed = |source| RenewError::Pending { path: path.to_owned(), source };
    match std::fs::read(path) {
        // A torn one was never sent; one for another number has been answered.
        Ok(text) => match serde_json::from_slice::<Pending>(&text) {
            Ok(pending) if pending.number == number => return Ok(pending),
            _ => {}
        },
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(source) => return Err(failed(source)),
    }
    let pending = Pending { number, request: Uuid::from_bytes(rand::random()) };
    let text = serde_json::to_vec(&pending).map_err(|error| failed(error.into()))?;
    durable::replace(path, &text, 0o600).map_err(failed)?;
    Ok(pending)
}

#[cfg(test)]
mod tests;
