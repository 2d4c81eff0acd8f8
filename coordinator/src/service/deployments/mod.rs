//! The deployment use cases of operators.

mod act;
mod content;
mod create;
mod destroy;
mod error;
mod evacuate;
mod idempotency;
mod placement;
mod query;
mod rollback;
mod view;

use std::sync::Arc;

use buddo_shared::model::id::{AccountId, DeploymentId, HostId};

pub use act::{destroy, restart, stop};
pub(crate) use content::spec_digest;
pub use create::create;
pub(crate) use destroy::{announce_destroyed, destroy_all, destroy_any};
pub use error::DeployError;
pub(crate) use error::MAKE_AGAIN;
pub use evacuate::Left;
pub(crate) use evacuate::{Moved, Mover, evacuate_some};
pub use idempotency::{Asked, IdempotencyKey, KeyError};
pub(crate) use placement::capacity;
pub use query::{List, get, list, logs, revisions, status, tiers};
pub use rollback::rollback;
pub(crate) use view::seconds;
pub use view::{Condition, Shown, ShownStatus};

use crate::auth::access::{DeployCheck, Right};
use crate::domain::deployment::Deployment;
use crate::state::AppState;
use crate::store::Tables;

/// The deployment, if the caller may see it.
fn find_visible(
    tables: &dyn Tables,
    check: DeployCheck,
    id: DeploymentId,
) -> Result<Deployment, DeployError> {
    Ok(check.deployment(tables, id, Right::Read)?)
}

/// Nothing is changed for an account that was suspended after its request came in.
fn refuse_suspended(tables: &dyn Tables, account: AccountId) -> Result<(), DeployError> {
    match tables.account(account)?.and_then(|account| account.suspended) {
        Some(_) => Err(DeployError::Suspended),
        None => Ok(()),
    }
}

/// Requires that neither the caller nor the responsible account is suspended, and that both have
/// verified their addresses. An account costs nothing; an address at least has to exist.
fn refuse_unproven(tables: &dyn Tables, accounts: [AccountId; 2]) -> Result<(), DeployError> {
    for id in accounts {
        let account = tables.account(id)?;
        if account.as_ref().is_some_and(|account| account.suspended.is_some()) {
            return Err(DeployError::Suspended);
        }
        if account.is_none_or(|account| account.email_verified_at.is_none()) {
            return Err(DeployError::EmailUnverified { own: id == accounts[0] });
        }
    }
    Ok(())
}

/// A closed tier requires an administrator's permission for the responsible account. Checked for
/// each revision, so that a revoked permission ends with the current one.
fn refuse_closed_tier(
    tables: &dyn Tables,
    tier_id: &str,
    payer: AccountId,
) -> Result<(), DeployError> {
    match tables.closed_tier(tier_id, payer)? {
        Some(slug) => Err(DeployError::TierClosed(slug)),
        None => Ok(()),
    }
}

/// After a commit that changed the desired state of `host`: wakes its task and the watchers.
fn announce(state: &AppState, host: HostId, id: DeploymentId) {
    state.wake.host(host);
    state.live.settled(id);
}

/// A handle to the shared state that a transaction can own.
fn owned_state(state: &AppState) -> AppState {
    Arc::clone(state)
}

#[cfg(test)]
mod tests;
