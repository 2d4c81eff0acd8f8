//! Rotation of the signing key and rollover of the host CA: started and ended by an administrator,
//! carried out host by host by the host tasks.

use jiff::Timestamp;
use serde_json::json;

use crate::crypto::ca::{CaError, HostCa};
use crate::crypto::signing::{SigningKeyError, SigningKeyring};
use crate::store::contract::Host;
use crate::store::{Store, StoreError};

/// A rotation cannot start or end.
#[derive(Debug, thiserror::Error)]
pub enum RotationError {
    /// The state of the signing keys does not allow it.
    #[error(transparent)]
    Key(#[from] SigningKeyError),
    /// The state of the host CA does not allow it.
    #[error(transparent)]
    Ca(#[from] CaError),
    /// Some hosts have not moved; they would have to join again.
    #[error(
        "these hosts have not moved yet: {}. Wait until they have (`buddo-coordinator host list` \
         shows whether they can be reached), or use --force: then each of them must join again, \
         and changes do not reach it until it has", .0.join(", ")
    )]
    Behind(Vec<String>),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Makes the next signing key; returns its id.
pub async fn rotate_key(
    store: &Store,
    keys: &SigningKeyring,
    now: Timestamp,
) -> Result<String, RotationError> {
    let kid = keys.rotate()?;
    note(store, "key_rotate", now, json!({ "next": kid })).await?;
    Ok(kid)
}

/// Ends the rotation: the key `name` (or a prefix of its id) no longer signs. Returns the hosts
/// left behind, which only `force` allows.
pub async fn retire_key(
    store: &Store,
    keys: &SigningKeyring,
    now: Timestamp,
    name: &str,
    force: bool,
) -> Result<Vec<String>, RotationError> {
    let kid = keys.retirable(name)?;
    let newest = keys.keys().newest().public().kid.clone();
    let behind = behind(store, force, move |host| has_moved_key(host, &newest)).await?;
    keys.retire(&kid)?;
    note(store, "key_retire", now, json!({ "retired": kid, "behind": behind })).await?;
    Ok(behind)
}

/// Makes the next host CA; returns its fingerprint.
pub async fn rotate_ca(
    store: &Store,
    ca: &HostCa,
    now: Timestamp,
) -> Result<String, RotationError> {
    let fingerprint = ca.rotate()?;
    note(store, "ca_rotate", now, json!({ "next": fingerprint })).await?;
    Ok(fingerprint)
}

/// Ends the rollover: the CA `name` (or a prefix of its fingerprint) no longer issues. Returns the
/// hosts left behind, which only `force` allows.
pub async fn retire_ca(
    store: &Store,
    ca: &HostCa,
    now: Timestamp,
    name: &str,
    force: bool,
) -> Result<Vec<String>, RotationError> {
    let old = ca.retirable(name)?;
    let newest = ca.fingerprints().into_iter().next().unwrap_or_default();
    let behind = behind(store, force, move |host| has_moved_ca(host, &newest)).await?;
    ca.retire(&old)?;
    note(store, "ca_retire", now, json!({ "retired": old, "behind": behind })).await?;
    Ok(behind)
}

/// Whether the host trusts only the newest key.
pub fn has_moved_key(host: &Host, newest: &str) -> bool {
    host.identity.trusts.as_ref().is_some_and(|trusts| trusts.keys == [newest])
}

/// Whether the host trusts the newest CA and has a certificate from it.
pub fn has_moved_ca(host: &Host, newest: &str) -> bool {
    let trusts =
        |trusts: &crate::domain::host_trust::Trusts| trusts.cas.iter().any(|ca| ca == newest);
    host.identity.trusts.as_ref().is_some_and(trusts)
        && host.identity.certificate.as_ref().is_some_and(|issued| issued.ca == newest)
}

async fn behind(
    store: &Store,
    force: bool,
    has_moved: impl Fn(&Host) -> bool,
) -> Result<Vec<String>, RotationError> {
    let hosts: Vec<Host> = store.read(|tables| tables.hosts()).await?;
    let behind: Vec<String> =
        hosts.into_iter().filter(|host| !has_moved(host)).map(|host| host.name).collect();
    if behind.is_empty() || force { Ok(behind) } else { Err(RotationError::Behind(behind)) }
}

/// The audit entry is also what a serving coordinator notices.
async fn note(
    store: &Store,
    act: &'static str,
    now: Timestamp,
    details: serde_json::Value,
) -> Result<(), StoreError> {
    store.write(move |tables| tables.insert_admin_act(act, now, None, &details)).await
}
