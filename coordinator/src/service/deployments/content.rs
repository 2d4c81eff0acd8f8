//! What a revision's services are made from, readable: their environments, and the digests by which
//! two contents are compared.

use std::collections::BTreeMap;

use buddo_shared::model::id::{DeploymentId, Revision};
use buddo_shared::model::secret::Secret;
use buddo_shared::model::workload::{ServiceName, SpecDigest};

use super::error::DeployError;
use crate::crypto::vault::{Vault, VaultError};
use crate::domain::encryption::EncryptionContext;
use crate::domain::revision::RevisionRecord;
use crate::domain::service::{Service, Specs};
use crate::store::Tables;
use crate::store::contract::SealedEnvironments;

/// Environments by service, decrypted; a service without one is not in it.
pub(super) type Environments = BTreeMap<ServiceName, Secret>;

/// The digest of a service's content. Keyed, because hosts see it: they could otherwise test guesses
/// of a secret value against it.
pub(crate) fn spec_digest(
    vault: &Vault,
    id: DeploymentId,
    service: &Service,
    env: Option<&Secret>,
) -> SpecDigest {
    SpecDigest::from_bytes(&vault.fingerprint(&service.content(id, env)))
}

/// Decrypts the environments of a revision.
pub(super) fn environments(
    tables: &dyn Tables,
    vault: &Vault,
    id: DeploymentId,
    number: Revision,
) -> Result<Environments, DeployError> {
    let sealed = tables.environments(id, number)?.into_iter();
    sealed
        .map(|(service, sealed)| Ok((service, open(vault, id, number, service, &sealed)?)))
        .collect()
}

fn open(
    vault: &Vault,
    id: DeploymentId,
    number: Revision,
    service: ServiceName,
    sealed: &[u8],
) -> Result<Secret, DeployError> {
    match vault.open_sealed(EncryptionContext::Environment(id, number, service), sealed) {
        Err(error @ (VaultError::OtherKey | VaultError::Open)) => Err(DeployError::Lost(error)),
        opened => Ok(opened?),
    }
}

/// Encrypts them for a revision: each is bound to its own row.
pub(super) fn seal(
    vault: &Vault,
    id: DeploymentId,
    number: Revision,
    envs: &Environments,
) -> Result<SealedEnvironments, VaultError> {
    let one = |(&service, env): (&ServiceName, &Secret)| {
        let context = EncryptionContext::Environment(id, number, service);
        Ok((service, vault.seal(context, env)?))
    };
    envs.iter().map(one).collect()
}

/// The digests of a revision's content, of which these are the environments.
pub(super) fn specs(
    vault: &Vault,
    id: DeploymentId,
    revision: &RevisionRecord,
    envs: &Environments,
) -> Specs {
    let of = |service: &Service| spec_digest(vault, id, service, envs.get(&service.name));
    revision.services.iter().map(|service| (service.name, of(service))).collect()
}

/// Bytes of all of them together.
pub(super) fn bytes(envs: &Environments) -> u64 {
    envs.values().map(|env| env.expose().len() as u64).sum()
}
