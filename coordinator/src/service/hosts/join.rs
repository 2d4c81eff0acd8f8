//! How hosts join: a one-time token from an administrator, then a join by the agent.

use std::sync::Arc;

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64;
use buddo_shared::host_wire::join::{JoinRequest, JoinToken, Joined};
use buddo_shared::host_wire::manifest::Trust;
use buddo_shared::host_wire::sealed::{SealError, Sealed};
use buddo_shared::model::id::{AccountId, DeploymentId, Generation, HostId};
use buddo_shared::model::secret::Secret;
use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use crate::crypto::ca::{CaError, HostCa};
use crate::crypto::random::{self, Random};
use crate::domain::host_trust::Trusts;
use crate::process::trusted_clock::Doubted;
use crate::state::AppState;
use crate::store::contract::{Host, HostIdentity, JoinTokenRow, Load};
use crate::store::{Store, StoreError, Tables};

/// Lifetime of a join token.
const TOKEN_LIFE: SignedDuration = SignedDuration::from_mins(15);

/// Hosts cannot be changed as requested.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// The name is invalid.
    #[error("the host name {0:?} is not valid; use 1 to 63 of a-z, 0-9 and hyphens")]
    Name(String),
    /// A host without memory is useless.
    #[error("the most memory that a host may claim is 0 MB; name at least 1, or leave it out")]
    NoMemory,
    /// The token is unknown, was used, or expired; which of them is not disclosed.
    #[error(
        "the join token is not valid: it works once, for 15 minutes; \
         make a new one with `buddo-coordinator host add NAME`"
    )]
    Token,
    /// The address is not `host:port`.
    #[error(
        "the address {0:?} is not host:port; set the agent's address that the coordinator dials"
    )]
    Address(String),
    /// The sealing key is invalid.
    #[error("the sealing key is not an X25519 public key; let the agent make new keys")]
    SealingKey(#[source] SealError),
    /// The certificate request is malformed or does not prove its key.
    #[error("the certificate request is refused")]
    Request(#[source] CaError),
    /// No host has this name.
    #[error("there is no host {0:?}; `buddo-coordinator host list` names them")]
    Unknown(String),
    /// There are two copies of it, which an administrator has to resolve first.
    #[error(
        "host {0:?} is locked because there are two copies of it; stop the wrong one, then run \
         `buddo-coordinator host unlock {0}`"
    )]
    Locked(String),
    /// It is not locked.
    #[error("host {0:?} is not locked; to let it join again, use `buddo-coordinator host add {0}`")]
    NotLocked(String),
    /// Its deployments would have no host.
    #[error("host {name:?} has {deployments} deployments; destroy them first")]
    InUse { name: String, deployments: usize },
    /// The certificate would have the wrong validity period.
    #[error(transparent)]
    Clock(#[from] Doubted),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A join token for a host, to be shown to its administrator.
#[derive(Debug)]
pub struct Invitation {
    /// The token for the agent.
    pub token: JoinToken,
    /// Whether a host of this name has joined before, so that this one replaces it.
    pub known: bool,
    /// When the token expires.
    pub expires_at: Timestamp,
}

/// Makes a one-time token with which a host joins as `name`. `max_memory_mb`: limit on the memory
/// it may claim, whoever controls it; `None`: keep the previous limit.
pub async fn invite(
    store: &Store,
    ca: &HostCa,
    random: &dyn Random,
    now: Timestamp,
    name: &str,
    max_memory_mb: Option<u64>,
) -> Result<Invitation, HostError> {
    let valid = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    if !(1..=63).contains(&name.len()) || !name.bytes().all(valid) {
        return Err(HostError::Name(name.to_owned()));
    }
    let may_join = |host: Option<&Host>| match host {
        Some(host) if host.identity.locked_at.is_some() => {
            Err(HostError::Locked(host.name.clone()))
        }
        _ => Ok(()),
    };
    if max_memory_mb == Some(0) {
        return Err(HostError::NoMemory);
    }
    make_token(store, ca, random, now, (name, max_memory_mb), may_join, None).await
}

/// Makes the token with which one of the two copies of a host joins again. Until then, neither is
/// served.
pub async fn unlock(
    store: &Store,
    ca: &HostCa,
    random: &dyn Random,
    now: Timestamp,
    name: &str,
) -> Result<Invitation, HostError> {
    let wanted = name.to_owned();
    let may_join = move |host: Option<&Host>| match host {
        None => Err(HostError::Unknown(wanted.clone())),
        Some(host) if host.identity.locked_at.is_none() => {
            Err(HostError::NotLocked(wanted.clone()))
        }
        Some(_) => Ok(()),
    };
    make_token(store, ca, random, now, (name, None), may_join, Some("host_unlock")).await
}

async fn make_token(
    store: &Store,
    ca: &HostCa,
    random: &dyn Random,
    now: Timestamp,
    (name, max_memory_mb): (&str, Option<u64>),
    may_join: impl Fn(Option<&Host>) -> Result<(), HostError> + Send + 'static,
    act: Option<&'static str>,
) -> Result<Invitation, HostError> {
    let secret = Secret::new(BASE64.encode(random::bytes::<32>(random)));
    let expires_at = now.checked_add(TOKEN_LIFE).unwrap_or(Timestamp::MAX);
    let hash = hash(&secret);
    let row = JoinTokenRow { hash, name: name.to_owned(), max_memory_mb, expires_at };
    let known = store
        .write(move |tables| {
            let host = tables.host_named(&row.name)?;
            may_join(host.as_ref())?;
            tables.insert_join_token(&row, now)?;
            if let Some(act) = act {
                tables.insert_admin_act(act, now, None, &json!({ "host": row.name }))?;
            }
            Ok::<_, HostError>(host.is_some_and(|host| host.identity.removed_at.is_none()))
        })
        .await?;
    let token = JoinToken { secret, ca_fingerprint: ca.fingerprint() };
    Ok(Invitation { token, known, expires_at })
}

/// All hosts, by name.
pub async fn list(store: &Store) -> Result<Vec<Host>, StoreError> {
    store.read(|tables| tables.hosts()).await
}

/// All hosts, by name, each with its load.
pub async fn list_with_load(store: &Store) -> Result<Vec<(Host, Load)>, StoreError> {
    store
        .read(|tables| {
            let hosts = tables.hosts()?.into_iter();
            hosts.map(|host| tables.load(host.id).map(|load| (host, load))).collect()
        })
        .await
}

/// What the coordinator doubts about a host's reports, one line each, for administrators.
pub fn doubts(host: &Host) -> Vec<String> {
    let mut doubts = Vec::new();
    let claimed = host.status.as_ref().map_or(0, |status| status.memory_mb);
    if let Some(most) = host.max_memory_mb.filter(|most| claimed > *most) {
        doubts.push(format!(
            "it claims {claimed} MB of memory, of which {most} are believed; if it was enlarged, run \
             `buddo-coordinator host bound {}`",
            host.name
        ));
    }
    if let Some(at) = host.flooded_at {
        doubts.push(format!(
            "it was cut off at {at:.0} because it sent more reports, or ended more connections, \
             than a thousand apps can make; look at its agent, which somebody else may run"
        ));
    }
    doubts
}

/// Removes a host from the platform. What it still runs keeps running, since nothing tells it to
/// stop.
pub async fn remove(store: &Store, now: Timestamp, name: &str) -> Result<(), HostError> {
    let name = name.to_owned();
    store.write(move |tables| take_off(tables, now, None, &name)).await
}

/// The same in a transaction; `actor`: the administrator, `None` on the machine.
pub fn take_off(
    tables: &mut dyn Tables,
    now: Timestamp,
    actor: Option<AccountId>,
    name: &str,
) -> Result<(), HostError> {
    let host = tables.host_named(name)?.filter(|host| host.identity.removed_at.is_none());
    let host = host.ok_or_else(|| HostError::Unknown(name.to_owned()))?;
    let deployments = tables.deployments_for(host.id)?.len();
    if deployments > 0 {
        return Err(HostError::InUse { name: name.to_owned(), deployments });
    }
    tables.remove_host(host.id, now)?;
    Ok(tables.insert_admin_act("host_remove", now, actor, &json!({ "host": name }))?)
}

/// Lets the holder of a token join: takes the token, stores the host, signs its certificate. A
/// refused request does not use up its token.
pub async fn join(state: &AppState, request: JoinRequest) -> Result<Joined, HostError> {
    if !is_address(&request.address) {
        return Err(HostError::Address(request.address));
    }
    // A key that cannot be sealed to would leave the host without any document.
    let nobody = DeploymentId::new(uuid::Uuid::nil());
    Sealed::seal(&request.sealing_key, Sealed::ENVIRONMENT, nobody, &Secret::new(""))
        .map_err(HostError::SealingKey)?;
    let services = Arc::clone(state);
    let joined = state
        .store
        .write(move |tables| {
            let now = services.time.believed()?;
            // Looked up by its hash, so that no comparison's timing depends on the secret.
            let token =
                tables.take_join_token(&hash(&request.token), now)?.ok_or(HostError::Token)?;
            let known = tables.host_named(&token.name)?;
            let id = known
                .as_ref()
                .map_or_else(|| HostId::new(random::uuid(&*services.random)), |host| host.id);
            // Counted on from the previous host of this name, so that no number is reused.
            let before = known.and_then(|host| host.identity.certificate);
            let number = before.map_or(0, |issued| issued.number).saturating_add(1);
            let life = services.config.hosts.certificate_life();
            let key = HostCa::requested_key(&request.csr).map_err(HostError::Request)?;
            let (issued, certificate) =
                services.ca.sign_host(id, &key, number, life).map_err(HostError::Request)?;
            // The newest key from the first document on: nothing to rotate.
            let newest = services.keys.keys().newest().public().clone();
            let trusts = Trusts { keys: vec![newest.kid.clone()], cas: services.ca.fingerprints() };
            tables.upsert_host(&Host {
                id,
                name: token.name,
                address: request.address.clone(),
                sealing_key: request.sealing_key.clone(),
                joined_at: now,
                wanted: Generation { epoch: 0, generation: 0 },
                acknowledged: None,
                report_seq: 0,
                status: None,
                last_seen: None,
                unreachable_since: None,
                refusal: None,
                max_memory_mb: token.max_memory_mb,
                flooded_at: None,
                identity: HostIdentity {
                    key: Some(key),
                    certificate: Some(issued),
                    trusts: Some(trusts),
                    ..HostIdentity::default()
                },
            })?;
            // The secrets in the newest document are sealed to the previous key.
            tables.bump_generation(id)?;
            Ok::<_, HostError>(Joined {
                host_id: id,
                certificate,
                trust: Trust { signing_keys: vec![newest], cas: services.ca.bundle() },
                zone: services.config.zone.clone(),
            })
        })
        .await?;
    tracing::info!(host = %joined.host_id, "a host joined");
    state.wake.joined(joined.host_id);
    Ok(joined)
}

fn hash(secret: &Secret) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest::digest(&digest::SHA256, secret.expose().as_bytes()).as_ref());
    hash
}

/// `host:port`, the host a name or an address.
fn is_address(text: &str) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else { return false };
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    port.parse::<u16>().is_ok_and(|port| port > 0)
        && text.len() <= 260
        && rustls_pki_types::ServerName::try_from(bare).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn validates_addresses() {
        for good in ["127.0.0.1:7443", "[::1]:1", "host-1.example.com:443", "host1:65535"] {
            assert!(is_address(good), "{good}");
        }
        for bad in ["", "127.0.0.1", "host:", "host:0", "host:65536", "a b:1", "http://x:1"] {
            assert!(!is_address(bad), "{bad}");
        }
    }
}
