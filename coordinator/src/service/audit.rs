//! Entries of the audit log.

use buddo_shared::model::id::{AccountId, DeploymentId};
use serde_json::{Value, json};

use crate::auth::access::DeployCheck;
use crate::crypto::random;
use crate::state::Services;
use crate::store::contract::{Action, AuditRow, AuditStatus, NewAudit};

/// The detail that names the act which ended a deploy in progress.
const SUPERSEDED_BY: &str = "superseded_by";

/// Why a deploy in progress has ended.
pub(super) fn superseded(by: Action, cause: &str) -> Value {
    json!({ "cause": cause, SUPERSEDED_BY: by.as_str() })
}

/// The outcome of an act, in one word. The log knows `completed` and `failed`, and its entries are
/// never edited; a deploy that was ended before it could be either is neither.
pub(crate) fn outcome(row: &AuditRow) -> &str {
    let ended_by = row.details.as_ref().and_then(|details| details.get(SUPERSEDED_BY));
    if ended_by.is_some() { "superseded" } else { &row.status }
}

/// An entry with the current time. `initiated_by`: `None` for the platform.
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

/// An entry for an act of an operator, or of their key, with the current time.
pub(super) fn of_operator(
    services: &Services,
    deployment: DeploymentId,
    action: Action,
    by: DeployCheck,
    details: Option<Value>,
) -> NewAudit {
    let details = match (details, by.key()) {
        (Some(Value::Object(mut details)), Some(key)) => {
            details.insert("api_key".to_owned(), Value::String(key.to_string()));
            Some(Value::Object(details))
        }
        (None, Some(key)) => Some(json!({ "api_key": key })),
        (details, _) => details,
    };
    let done = entry(services, deployment, action, AuditStatus::Completed, Some(by.actor()));
    NewAudit { details, ..done }
}

/// An entry of the platform, with the current time.
pub(super) fn of_platform(
    services: &Services,
    deployment: DeploymentId,
    action: Action,
    status: AuditStatus,
    details: Value,
) -> NewAudit {
    NewAudit { details: Some(details), ..entry(services, deployment, action, status, None) }
}
