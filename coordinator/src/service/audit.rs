//! Entries of the audit log.

use buddo_shared::id::{AccountId, DeploymentId};
use serde_json::Value;

use crate::random;
use crate::state::Services;
use crate::store::contract::{Action, AuditStatus, NewAudit};

/// An entry as of now. `initiated_by`: `None` for the platform.
pub(super) fn entry(
    services: &Services,
    deployment: DeploymentId,
    action: Action,
    status: AuditStatus,
    initiated_by: Option<AccountId>,
) -> NewAudit {
    NewAudit {
        id: random::uuid(&*services.random),
        deployment,
        action,
        status,
        initiated_by,
        at: services.clock.now(),
        details: None,
    }
}

/// An entry of the platform's own, as of now.
pub(super) fn of_platform(
    services: &Services,
    deployment: DeploymentId,
    action: Action,
    status: AuditStatus,
    details: Value,
) -> NewAudit {
    NewAudit { details: Some(details), ..entry(services, deployment, action, status, None) }
}
