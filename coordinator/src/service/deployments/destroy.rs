//! Deployments destroyed by the platform: all of an account when it is deleted, and single ones by
//! an administrator.
//!
//! As little as possible is read of each row, so that a damaged one does not run on for ever.

use std::sync::Arc;

use buddo_shared::model::id::{AccountId, DeploymentId, HostId};
use jiff::Timestamp;

use crate::crypto::random::{self, Random};
use crate::domain::deployment::Outline;
use crate::service::audit;
use crate::service::deployments::act::{DESTROY, destroy_outlined};
use crate::service::deployments::{DeployError, announce, refuse_suspended};
use crate::state::{AppState, Services};
use crate::store::Tables;
use crate::store::contract::{AuditStatus, NewAudit};

/// Destroys every deployment the account is responsible for, within the caller's transaction.
/// Afterwards [`announce_destroyed`] wakes the hosts.
pub(crate) fn destroy_all(
    tables: &mut dyn Tables,
    services: &Services,
    account: AccountId,
) -> Result<Vec<(HostId, DeploymentId)>, DeployError> {
    refuse_suspended(tables, account)?;
    let mut destroyed = Vec::new();
    for outline in tables.outlines_of(account)? {
        // If its host cannot be read, it would run on with nobody responsible for it.
        let outline = outline?;
        let (action, done) = (DESTROY.action, AuditStatus::Completed);
        let entry = audit::entry(services, outline.id, action, done, Some(account));
        destroy_outlined(tables, &outline, &entry)?;
        destroyed.push((outline.host, outline.id));
    }
    Ok(destroyed)
}

/// Wakes the hosts and watchers concerned, after the commit.
pub(crate) fn announce_destroyed(state: &AppState, destroyed: &[(HostId, DeploymentId)]) {
    for &(host, id) in destroyed {
        announce(state, host, id);
        state.live.forget(id);
    }
}

/// Destroys a deployment of any owner, who sees that it was the platform, but not which
/// administrator.
pub(crate) fn destroy_any(
    tables: &mut dyn Tables,
    random: &Arc<dyn Random>,
    now: Timestamp,
    outline: &Outline,
) -> Result<(), DeployError> {
    let entry = NewAudit {
        id: random::uuid(&**random),
        deployment: outline.id,
        action: DESTROY.action,
        status: AuditStatus::Completed,
        initiated_by: None,
        at: now,
        details: None,
    };
    destroy_outlined(tables, outline, &entry)
}
