//! What operators do with deployments.

mod act;
mod all;
mod create;
mod error;
mod once;
mod query;
mod rollback;
mod view;

use std::sync::Arc;

use buddo_shared::id::{AccountId, DeploymentId, HostId};

pub use act::{destroy, restart, stop};
pub(crate) use all::{announce_destroyed, destroy_all};
pub use create::create;
pub use error::DeployError;
pub use once::{IdempotencyKey, KeyError};
pub use query::{List, get, list, logs, revisions, status, tiers};
pub use rollback::rollback;

use crate::state::AppState;
use crate::store::Tables;
use crate::store::contract::Deployment;

/// The one place that says whose deployment it is.
fn allowed(deployment: &Deployment, account: AccountId) -> Result<(), DeployError> {
    if deployment.account == account { Ok(()) } else { Err(DeployError::Forbidden) }
}

/// The deployment, if `account` owns it.
fn owned(
    tables: &dyn Tables,
    account: AccountId,
    id: DeploymentId,
) -> Result<Deployment, DeployError> {
    let deployment = tables.deployment(id)?.ok_or(DeployError::NotFound)?;
    allowed(&deployment, account)?;
    Ok(deployment)
}

/// After a commit that changed what `host` shall have: wakes its task and those who watch.
fn announce(state: &AppState, host: HostId, id: DeploymentId) {
    state.wake.host(host);
    state.live.settled(id);
}

/// A reference to the shared parts that a transaction can own.
fn owned_state(state: &AppState) -> AppState {
    Arc::clone(state)
}
