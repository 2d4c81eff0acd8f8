//! Deployments that are destroyed by another than who may act on them one by one: all that an account
//! answers for, when it ends, and any one, by an administrator.
//!
//! Of a row no more is read than that takes, so that one that is damaged does not run on for ever.

use std::sync::Arc;

use buddo_shared::id::{AccountId, DeploymentId, HostId};
use jiff::Timestamp;

use crate::crypto::random::{self, Random};
use crate::domain::deployment::Outline;
use crate::service::audit;
use crate::service::deployments::act::{DESTROY, destroy_outlined};
use crate::service::deployments::{DeployError, announce, refuse_suspended};
use crate::state::{AppState, Services};
use crate::store::Tables;
use crate::store::contract::{AuditStatus, NewAudit};

/// Destroys every deployment that the account answers for. Within the caller's transaction; after it,
/// [`announce_destroyed`] tells the hosts.
pub(crate) fn destroy_all(
    tables: &mut dyn Tables,
    services: &Services,
    account: AccountId,
) -> Result<Vec<(HostId, DeploymentId)>, DeployError> {
    refuse_suspended(tables, account)?;
    let mut destroyed = Vec::new();
    for outline in tables.outlines_of(account)? {
        // One whose host cannot be read would run on with nobody to answer for it.
        let outline = outline?;
        let (action, done) = (DESTROY.action, AuditStatus::Completed);
        let entry = audit::entry(services, outline.id, action, done, Some(account));
        destroy_outlined(tables, &outline, &entry)?;
        destroyed.push((outline.host, outline.id));
    }
    Ok(destroyed)
}

/// Wakes those who are concerned, after the commit.
pub(crate) fn announce_destroyed(state: &AppState, destroyed: &[(HostId, DeploymentId)]) {
    for &(host, id) in destroyed {
        announce(state, host, id);
        state.live.forget(id);
    }
}

/// Destroys a deployment, whoever's it is. Its owner sees that it was the platform, and not which
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
