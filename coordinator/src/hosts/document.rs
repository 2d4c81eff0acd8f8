//! Builds and signs the document of each generation once; later its bytes are read back.

use std::sync::Arc;

use buddo_runtime::error_chain::chain;
use buddo_shared::host_wire::manifest::{Manifest, SCHEMA, ServicesError, ShapeError, Trust};
use buddo_shared::host_wire::sealed::SealError;
use buddo_shared::host_wire::signed::{PinnedKeyError, SignError, VerifyError};
use buddo_shared::model::id::{DeploymentId, HostId};
use jiff::{SignedDuration, Timestamp};

use super::held::Held;
use crate::crypto::signing::Plan;
use crate::crypto::vault::VaultError;
use crate::domain::failure::Failure;
use crate::domain::host_trust::Trusts;
use crate::hosts::deployment_spec::Writer;
use crate::hosts::document_size::{self, LeftOut};
use crate::process::trusted_clock::Doubted;
use crate::state::{AppState, Services};
use crate::store::contract::{DocumentRow, DocumentTrust, Host};
use crate::store::{StoreError, Tables};

/// Hosts refuse a document older than this on arrival.
pub(super) const LIFE: SignedDuration = SignedDuration::from_hours(24);
/// A document this old is replaced by one of a new generation.
pub(super) const REFRESH: SignedDuration = SignedDuration::from_hours(12);

/// A document issued further in the future than this is replaced. Hosts accept five times that.
const AHEAD: SignedDuration = SignedDuration::from_mins(1);

/// The document cannot be built. What the host runs is not affected.
#[derive(Debug, thiserror::Error)]
pub enum DocumentError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the host no longer exists")]
    Unknown,
    /// An environment cannot be decrypted.
    #[error("cannot read the environment of deployment {deployment}")]
    Vault {
        deployment: DeploymentId,
        #[source]
        source: VaultError,
    },
    /// It is unknown what the host has of a deployment that cannot be read.
    #[error(
        "a deployment of the host cannot be read, and neither can the last document, which says what \
         the host has of it; so the host keeps what it has: mend the deployment, or destroy it"
    )]
    Last(#[source] VerifyError),
    /// The same, because the signing keys cannot be used.
    #[error("cannot use the signing keys to read the host's last document; restore their files")]
    Keys(#[source] PinnedKeyError),
    /// Its services are not what a document can hold.
    #[error("the deployment {deployment}")]
    Services {
        deployment: DeploymentId,
        #[source]
        source: ServicesError,
    },
    /// Its revisions contradict each other.
    #[error(transparent)]
    Shape(#[from] ShapeError),
    /// An environment cannot be sealed to the host.
    #[error("cannot seal an environment")]
    Seal(#[from] SealError),
    /// No document is signed while the clock is in doubt: hosts would refuse it or, worse, accept
    /// it.
    #[error(transparent)]
    Clock(#[from] Doubted),
    #[error("cannot sign the document")]
    Sign(#[from] SignError),
}

impl DocumentError {
    /// Whether a retry is useless until an administrator acts.
    pub(super) fn is_lasting(&self) -> bool {
        match self {
            Self::Store(error) => matches!(error, StoreError::Corrupt { .. }),
            Self::Unknown => false,
            Self::Vault { .. }
            | Self::Services { .. }
            | Self::Shape(_)
            | Self::Last(_)
            | Self::Keys(_)
            | Self::Seal(_)
            | Self::Sign(_)
            | Self::Clock(_) => true,
        }
    }

    /// Whether the error concerns only this deployment. A key file that cannot be used concerns
    /// all.
    pub(super) fn is_of_one(&self) -> bool {
        match self {
            Self::Vault { source, .. } => {
                matches!(source, VaultError::OtherKey | VaultError::Open)
            }
            Self::Store(error) => matches!(error, StoreError::Corrupt { .. }),
            Self::Services { .. } | Self::Shape(_) => true,
            Self::Unknown
            | Self::Last(_)
            | Self::Keys(_)
            | Self::Seal(_)
            | Self::Clock(_)
            | Self::Sign(_) => false,
        }
    }
}

/// The document that `host` should have now.
///
/// Reading, sealing and signing work on a snapshot, outside the writer transaction and off the
/// connections that requests read from. If the generation has moved meanwhile, the document is
/// stored and sent anyway: it is the state of a moment ago, and a host whose apps change faster
/// than its document is built would otherwise get none. The newer one follows, since the sent
/// generation is not the desired one.
pub(crate) async fn current(
    state: &AppState,
    host: HostId,
) -> Result<Arc<DocumentRow>, DocumentError> {
    loop {
        let services = Arc::clone(state);
        let found = state
            .store
            .read_long(move |tables| {
                let host = tables.host(host)?.ok_or(DocumentError::Unknown)?;
                match tables.document(host.id, host.wanted)? {
                    Some(document)
                        if is_current(
                            &services,
                            &host,
                            document.issued_at,
                            document.trust.as_ref(),
                        ) =>
                    {
                        Ok::<_, DocumentError>(Found::Stored(document))
                    }
                    Some(_) => Ok(Found::Old),
                    None => {
                        let (document, held) = build(tables, &services, &host)?;
                        Ok(Found::Built(document, held, Box::new(host)))
                    }
                }
            })
            .await?;
        match found {
            Found::Stored(document) => return Ok(Arc::new(document)),
            Found::Old => {
                state.store.write(move |tables| tables.bump_generation(host)).await?;
            }
            Found::Built(document, held, of) => {
                if let Some(document) = store(state, *of, Arc::new(document), held).await? {
                    return Ok(document);
                }
            }
        }
    }
}

enum Found {
    Stored(DocumentRow),
    /// Stored, but past half its life, or made before keys or CAs changed.
    Old,
    /// Just built, for the host as it was then.
    Built(DocumentRow, Noted, Box<Host>),
}

/// Which deployments are held, and why; `None`: none is, and none was.
type Noted = Option<Vec<(DeploymentId, Failure)>>;

/// Whether a stored document can be sent. While the clock is in doubt it always can: no other can
/// be signed.
pub(super) fn is_current(
    services: &Services,
    host: &Host,
    issued_at: Timestamp,
    trust: Option<&DocumentTrust>,
) -> bool {
    match services.time.believed() {
        Ok(now) => !is_old(issued_at, now) && is_settled(services, host, trust),
        Err(_) => true,
    }
}

/// Whether a document issued at that time must be replaced; true also for one from the future,
/// after the clock was set back: no host accepts it before that time.
fn is_old(issued_at: Timestamp, now: Timestamp) -> bool {
    let age = now.duration_since(issued_at);
    age >= REFRESH || age < -AHEAD
}

/// Whether a document with this trust can be sent: signed by the right key, and naming the keys and
/// CAs to trust next.
fn is_settled(services: &Services, host: &Host, trust: Option<&DocumentTrust>) -> bool {
    let keys = services.keys.keys();
    let wanted = trust_of(services, &keys.plan(host.identity.trusts.as_ref()));
    trust == Some(&wanted)
}

fn trust_of(services: &Services, plan: &Plan<'_>) -> DocumentTrust {
    DocumentTrust {
        signer: plan.signer.public().kid.clone(),
        names: Trusts {
            keys: plan.names.iter().map(|key| key.kid.clone()).collect(),
            cas: services.ca.fingerprints(),
        },
    }
}

/// Stores the document, unless one of its generation or a newer one exists, or the host's identity
/// or epoch has changed meanwhile.
async fn store(
    state: &AppState,
    of: Host,
    document: Arc<DocumentRow>,
    held: Noted,
) -> Result<Option<Arc<DocumentRow>>, DocumentError> {
    state
        .store
        .write(move |tables| {
            let host = tables.host(of.id)?.ok_or(DocumentError::Unknown)?;
            // Nobody can open what is sealed to a previous key, and hosts refuse what is signed in
            // a previous epoch.
            let is_same = host.joined_at == of.joined_at
                && host.sealing_key == of.sealing_key
                && host.wanted.epoch == document.generation.epoch;
            if !is_same {
                return Ok(None);
            }
            match tables.newest_document(host.id)? {
                Some(newest) if newest == document.generation => {
                    // The first document signed for a generation is the one sent, byte for byte.
                    Ok(tables.document(host.id, newest)?.map(Arc::new))
                }
                Some(newest) if newest > document.generation => Ok(None),
                _ => {
                    tables.insert_document(host.id, &document)?;
                    if let Some(held) = &held {
                        tables.set_held(host.id, held)?;
                    }
                    Ok(Some(Arc::clone(&document)))
                }
            }
        })
        .await
}

fn build(
    tables: &dyn Tables,
    services: &Services,
    host: &Host,
) -> Result<(DocumentRow, Noted), DocumentError> {
    let issued_at = services.time.believed()?;
    let expires_at = issued_at.checked_add(LIFE).unwrap_or(Timestamp::MAX);
    let mut writer = Writer::new(tables, services, host, issued_at);
    let mut held = Held::new(tables, services, host.id);
    let mut was_held = false;
    let mut deployments = Vec::new();
    for (id, row) in tables.deployments_for(host.id)? {
        let (row, desired) = match row {
            Ok(row) => {
                was_held |= row.held.is_some();
                let desired = writer.desired(&row);
                (Some(row), desired)
            }
            Err(error) => (None, Err(error.into())),
        };
        match desired {
            Ok(desired) => deployments.push(desired),
            Err(error) if error.is_of_one() => {
                if let Some(id) = id {
                    deployments.extend(held.entry(id, row.as_ref(), &error)?);
                } else {
                    let error = chain(&error);
                    tracing::error!(host = %host.id, error, "a deployment's id cannot be read");
                }
            }
            Err(error) => return Err(error),
        }
    }
    let left_out = document_size::fit(&mut deployments, document_size::MAX_PAYLOAD);
    if left_out != LeftOut::default() {
        let LeftOut { auto_rollbacks, images } = left_out;
        tracing::warn!(
            host = %host.id, auto_rollbacks, images,
            "the host's document has reached its size limit: some deploys have no auto \
             rollback, or old images are not protected"
        );
    }
    let keys = services.keys.keys();
    let plan = keys.plan(host.identity.trusts.as_ref());
    let trust = trust_of(services, &plan);
    // Always included, so that a host can follow from whatever it trusts now.
    let names = Trust { signing_keys: plan.names, cas: services.ca.bundle() };
    let envelope = plan.signer.sign(&Manifest {
        schema: SCHEMA,
        host_id: host.id,
        generation: host.wanted,
        issued_at,
        expires_at,
        zone: services.config.zone.clone(),
        deployments,
        trust: Some(names),
    })?;
    let document = DocumentRow {
        generation: host.wanted,
        digest: envelope.digest.to_string(),
        envelope: envelope.bytes,
        issued_at,
        expires_at,
        trust: Some(trust),
    };
    let changed = was_held || !held.told.is_empty();
    Ok((document, changed.then_some(held.told)))
}
