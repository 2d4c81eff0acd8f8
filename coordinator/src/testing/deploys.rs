//! The deployment use cases, called the way the API routes call them.

use buddo_shared::api::deploy::{
    AuditLog, CreateDeployment, DeploymentEnvelope, RevisionList, Rollback, StatusAnswer,
};
use buddo_shared::model::id::{DeploymentId, Revision, TeamId};
use buddo_shared::model::spec::AppSpec;
use serde::Serialize;

use crate::api::routes::deploy::wire;
use crate::auth::access::DeployCheck;
use crate::domain::field_error::FieldError;
use crate::service::deployments::{self, Asked, DeployError, IdempotencyKey, Shown};
use crate::state::AppState;

pub(crate) use crate::service::deployments::destroy;

type Result<T> = std::result::Result<T, DeployError>;

fn asked(key: Option<IdempotencyKey>, request: &impl Serialize) -> Option<Asked> {
    key.map(|key| Asked { key, body: serde_json::to_vec(request).unwrap().into() })
}

fn envelope(state: &AppState, shown: Shown) -> DeploymentEnvelope {
    DeploymentEnvelope { deployment: wire::deployment(shown, &state.config.zone) }
}

pub(crate) async fn create(
    state: &AppState,
    check: DeployCheck,
    team: Option<TeamId>,
    request: CreateDeployment,
    key: Option<IdempotencyKey>,
) -> Result<DeploymentEnvelope> {
    let asked = asked(key, &request);
    let spec = AppSpec::parse(request).map_err(|errors| {
        let errors = errors.into_iter();
        let errors = errors.map(|error| FieldError::new(error.pointer, error.detail));
        DeployError::Invalid(errors.collect())
    })?;
    Ok(envelope(state, deployments::create(state, check, team, spec, asked).await?))
}

pub(crate) async fn rollback(
    state: &AppState,
    check: DeployCheck,
    id: DeploymentId,
    request: Rollback,
    key: Option<IdempotencyKey>,
) -> Result<DeploymentEnvelope> {
    let (asked, named) = (asked(key, &request), request.revision.map(Revision::new));
    Ok(envelope(state, deployments::rollback(state, check, id, named, asked).await?))
}

pub(crate) async fn get(
    state: &AppState,
    check: DeployCheck,
    id: DeploymentId,
) -> Result<DeploymentEnvelope> {
    Ok(envelope(state, deployments::get(state, check, id).await?))
}

pub(crate) async fn restart(
    state: &AppState,
    check: DeployCheck,
    id: DeploymentId,
) -> Result<DeploymentEnvelope> {
    Ok(envelope(state, deployments::restart(state, check, id).await?))
}

pub(crate) async fn stop(
    state: &AppState,
    check: DeployCheck,
    id: DeploymentId,
) -> Result<DeploymentEnvelope> {
    Ok(envelope(state, deployments::stop(state, check, id).await?))
}

pub(crate) async fn status(
    state: &AppState,
    check: DeployCheck,
    id: DeploymentId,
) -> Result<StatusAnswer> {
    Ok(wire::status_answer(deployments::status(state, check, id).await?))
}

pub(crate) async fn revisions(
    state: &AppState,
    check: DeployCheck,
    id: DeploymentId,
) -> Result<RevisionList> {
    let (deployment, records) = deployments::revisions(state, check, id).await?;
    let revisions = records.into_iter().map(|record| wire::revision(&deployment, record));
    Ok(RevisionList { revisions: revisions.collect() })
}

pub(crate) async fn logs(
    state: &AppState,
    check: DeployCheck,
    id: DeploymentId,
) -> Result<AuditLog> {
    let logs = deployments::logs(state, check, id).await?;
    Ok(AuditLog { logs: logs.into_iter().map(wire::audit_entry).collect() })
}
