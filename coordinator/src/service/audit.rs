//! Entries of the audit log.

use buddo_shared::model::id::{AccountId, DeploymentId};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::auth::access::DeployCheck;
use crate::crypto::random;
use crate::domain::failure::Failure;
use crate::state::Services;
use crate::store::contract::{Action, AuditRow, AuditStatus, NewAudit};
use crate::store::{StoreError, Tables};

/// The detail that names the act which ended a deploy in progress.
const SUPERSEDED_BY: &str = "superseded_by";

/// How a deploy in progress ends.
#[derive(Debug, Clone, Copy)]
pub(super) enum DeployEnd<'a> {
    /// It is live.
    Completed,
    /// Its host gave it up.
    Failed(&'a Failure),
    /// Another act came before it could be either.
    Superseded { by: Action, cause: &'a str },
}

/// Ends a deployment's deploy in progress in the log, if there is one; returns whether there was.
pub(super) fn end_deploy(
    tables: &mut dyn Tables,
    id: DeploymentId,
    end: DeployEnd<'_>,
    at: Timestamp,
) -> Result<bool, StoreError> {
    let (status, details) = match end {
        DeployEnd::Completed => (AuditStatus::Completed, None),
        DeployEnd::Failed(failure) => (AuditStatus::Failed, Some(of_failure(failure))),
        DeployEnd::Superseded { by, cause } => {
            let details = json!({ "cause": cause, SUPERSEDED_BY: by.as_str() });
            (AuditStatus::Failed, Some(details))
        }
    };
    tables.finish_deploy(id, status, at, details.as_ref())
}

/// A failure as details of an entry.
pub(super) fn of_failure(failure: &Failure) -> Value {
    json!({ "code": failure.code, "cause": failure.cause, "fix": failure.fix })
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
