//! Builds and signs the document of one generation, once; afterwards its bytes are read back.

use std::sync::Arc;

use buddo_runtime::error_chain::chain;
use buddo_shared::id::{DeploymentId, HostId};
use buddo_shared::manifest::{Manifest, SCHEMA, Trust};
use buddo_shared::sealed::SealError;
use buddo_shared::signed::{PinnedKeyError, SignError, VerifyError};
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

/// A document is refused on arrival after this.
pub(super) const LIFE: SignedDuration = SignedDuration::from_hours(24);
/// A document this old is replaced by a fresh one of the next generation.
pub(super) const REFRESH: SignedDuration = SignedDuration::from_hours(12);

/// One that was issued further ahead is replaced. Hosts accept five times that.
const AHEAD: SignedDuration = SignedDuration::from_mins(1);

/// The document cannot be made. What the host runs is not touched by that.
#[derive(Debug, thiserror::Error)]
pub enum DocumentError {
    #[error(transparent)]
    Store(#[from] StoreError),
    /// There is no such host.
    #[error("the host is not known any more")]
    Unknown,
    /// An environment cannot be decrypted.
    #[error("cannot read the environment of deployment {deployment}")]
    Vault {
        deployment: DeploymentId,
        #[source]
        source: VaultError,
    },
    /// It is not known what the host has of a deployment that cannot be read.
    #[error(
        "a deployment of the host cannot be read, and neither can the last document, which says what \
         the host has of it; so the host keeps what it has: mend the deployment, or destroy it"
    )]
    Last(#[source] VerifyError),
    /// The same, for what the document is signed with cannot be used.
    #[error("cannot use the signing keys to read the host's last document; restore their files")]
    Keys(#[source] PinnedKeyError),
    /// An environment cannot be sealed to the host.
    #[error("cannot seal an environment")]
    Seal(#[from] SealError),
    /// No document is signed for a time that may be wrong: hosts would refuse it, or, worse, obey.
    #[error(transparent)]
    Clock(#[from] Doubted),
    /// It cannot be signed.
    #[error("cannot sign the document")]
    Sign(#[from] SignError),
}

impl DocumentError {
    /// Whether trying again at once is of no use: an administrator has to act.
    pub(super) fn is_lasting(&self) -> bool {
        match self {
            Self::Store(error) => matches!(error, StoreError::Corrupt { .. }),
            Self::Unknown => false,
            Self::Vault { .. }
            | Self::Last(_)
            | Self::Keys(_)
            | Self::Seal(_)
            | Self::Sign(_)
            | Self::Clock(_) => true,
        }
    }

    /// Whether only the deployment at hand cannot be read. A key file that cannot be used concerns all.
    pub(super) fn is_of_one(&self) -> bool {
        match self {
            Self::Vault { source, .. } => {
                matches!(source, VaultError::OtherKey | VaultError::Open)
            }
            Self::Store(error) => matches!(error, StoreError::Corrupt { .. }),
            Self::Unknown
            | Self::Last(_)
            | Self::Keys(_)
            | Self::Seal(_)
            | Self::Clock(_)
            | Self::Sign(_) => false,
        }
    }
}

/// The document that `host` shall have now.
///
/// Reading, sealing and signing happen on a snapshot, away from the writer and from what requests
/// read. If the generation has moved meanwhile, the document is stored and sent all the same: it is
/// how things stood a moment ago, and a host whose apps change faster than its document is built
/// would get none otherwise. The newer one follows, since the generation that was sent is not the
/// wanted one.
pub(crate) async fn current(state: &AppState, host: HostId) -> Result<DocumentRow, DocumentError> {
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
            Found::Stored(document) => return Ok(document),
            Found::Old => {
                state.store.write(move |tables| tables.bump_generation(host)).await?;
            }
            Found::Built(document, held, of) => {
                if let Some(document) = store(state, *of, document, held).await? {
                    return Ok(document);
                }
            }
        }
    }
}

enum Found {
    Stored(DocumentRow),
    /// Stored, and past half its life, or made before keys or authorities were changed.
    Old,
    /// Just now, for the host as it was then.
    Built(DocumentRow, Noted, Box<Host>),
}

/// Which deployments are held, and why; `None`: none is and none was.
type Noted = Option<Vec<(DeploymentId, Failure)>>;

/// Whether a stored document is what the host is to have. While the clock is doubted it is: none
/// can be signed in its place.
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

/// Whether a document of then should be replaced; also one from the future, after a clock was set
/// back: no host accepts it before that time has come.
fn is_old(issued_at: Timestamp, now: Timestamp) -> bool {
    let age = now.duration_since(issued_at);
    age >= REFRESH || age < -AHEAD
}

/// Whether a document with this trust is what the host is to have: by the right key, naming whom
/// it shall trust next.
fn is_settled(services: &Services, host: &Host, trust: Option<&DocumentTrust>) -> bool {
    let keys = services.keys.keys();
    let wanted = trust_of(services, &keys.plan(host.bond.trusts.as_ref()));
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

/// Stores the document, unless there is one of its generation or a newer one already, or the host
/// is another one by now.
async fn store(
    state: &AppState,
    of: Host,
    document: DocumentRow,
    held: Noted,
) -> Result<Option<DocumentRow>, DocumentError> {
    state
        .store
        .write(move |tables| {
            let host = tables.host(of.id)?.ok_or(DocumentError::Unknown)?;
            // What is sealed to a key of before nobody can open, and what is signed in an epoch of
            // before is refused.
            let is_same = host.joined_at == of.joined_at
                && host.sealing_key == of.sealing_key
                && host.wanted.epoch == document.generation.epoch;
            if !is_same {
                return Ok(None);
            }
            match tables.newest_document(host.id)? {
                Some(newest) if newest == document.generation => {
                    // What was signed first for a generation is sent, byte for byte.
                    Ok(tables.document(host.id, newest)?)
                }
                Some(newest) if newest > document.generation => Ok(None),
                _ => {
                    tables.insert_document(host.id, &document)?;
                    if let Some(held) = &held {
                        tables.set_held(host.id, held)?;
                    }
                    Ok(Some(document))
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
        let LeftOut { guards, images } = left_out;
        tracing::warn!(
            host = %host.id, guards, images,
            "the host's document is as large as hosts take: deploys go without a guard, or old \
             images without protection"
        );
    }
    let keys = services.keys.keys();
    let plan = keys.plan(host.bond.trusts.as_ref());
    let trust = trust_of(services, &plan);
    // Always said, so that a host follows from whatever it trusts now.
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
