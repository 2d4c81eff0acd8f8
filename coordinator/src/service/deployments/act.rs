//! Restart, stop, destroy.

use buddo_shared::api::deploy::{DeploymentEnvelope, Destroyed};
use buddo_shared::id::{AccountId, DeploymentId};
use buddo_shared::manifest::RunState;
use serde_json::json;

use super::error::DeployError;
use super::{announce, audit, owned, owned_state, view};
use crate::domain::lifecycle::{Event, next};
use crate::state::{AppState, Services};
use crate::store::contract::{Action, AuditStatus, Deployment, RevisionRow};
use crate::store::{StoreError, Tables};

/// Brings a new revision up from the same image, whose tag is resolved anew.
pub async fn restart(
    state: &AppState,
    account: AccountId,
    id: DeploymentId,
) -> Result<DeploymentEnvelope, DeployError> {
    let act = Act {
        event: Event::Restart,
        action: Action::Restart,
        supersedes: "superseded by a restart",
    };
    perform(state, account, id, act, move |tables, services, deployment| {
        let current = tables
            .revision(id, deployment.revision)?
            .ok_or_else(|| StoreError::corrupt("deployments.revision")("names no revision"))?;
        // Not the current one plus one: a deploy that failed has left a higher number behind.
        // Nor the highest one that is known: a database from a backup may know fewer than the host.
        let highest = tables.last_revision(id)?.max(deployment.serving);
        let number = highest.unwrap_or(deployment.revision).next();
        let digest = current.image.digest().cloned();
        let created_at = services.clock.now();
        tables.insert_revision(id, &RevisionRow { number, digest, created_at, ..current })?;
        deployment.revision = number;
        deployment.run = RunState::Running;
        deployment.last_error = None;
        deployment.trouble = None;
        deployment.stopped_at = None;
        Ok(())
    })
    .await
}

/// Stops the container; subdomain, image and environment are kept.
pub async fn stop(
    state: &AppState,
    account: AccountId,
    id: DeploymentId,
) -> Result<DeploymentEnvelope, DeployError> {
    let act =
        Act { event: Event::Stop, action: Action::Stop, supersedes: "stopped before it was live" };
    perform(state, account, id, act, move |_, services, deployment| {
        deployment.run = RunState::Stopped;
        deployment.health = None;
        // Whatever failed before: now it is stopped because its operator wants it so.
        deployment.last_error = None;
        deployment.trouble = None;
        deployment.stopped_at = Some(services.clock.now());
        Ok(())
    })
    .await
}

/// Removes the deployment for good; its subdomain is free at once.
pub async fn destroy(
    state: &AppState,
    account: AccountId,
    id: DeploymentId,
) -> Result<Destroyed, DeployError> {
    let act = Act {
        event: Event::Destroy,
        action: Action::Destroy,
        supersedes: "destroyed before it was live",
    };
    perform(state, account, id, act, move |tables, services, deployment| {
        deployment.health = None;
        deployment.serving = None;
        deployment.trouble = None;
        deployment.stopped_at = deployment.stopped_at.or_else(|| Some(services.clock.now()));
        tables.erase_env(id)?;
        Ok(())
    })
    .await?;
    state.live.forget(id);
    Ok(Destroyed { message: "Deployment destroyed".to_owned(), id: id.to_string() })
}

/// What an operator does to a deployment.
struct Act {
    event: Event,
    action: Action,
    /// What the audit log says of a deploy that this ends before it was live.
    supersedes: &'static str,
}

/// What all three share: ownership, the table of moves, the audit log, one transaction, the
/// wake-up after it.
async fn perform<F>(
    state: &AppState,
    account: AccountId,
    id: DeploymentId,
    act: Act,
    change: F,
) -> Result<DeploymentEnvelope, DeployError>
where
    F: FnOnce(&mut dyn Tables, &Services, &mut Deployment) -> Result<(), DeployError>
        + Send
        + 'static,
{
    let services = owned_state(state);
    let (envelope, host) = state
        .store
        .write(move |tables| {
            let mut deployment = owned(tables, account, id)?;
            deployment.status = next(deployment.status, act.event)?;
            change(tables, &services, &mut deployment)?;
            let why = json!({ "cause": act.supersedes });
            tables.finish_deploy(id, AuditStatus::Failed, Some(&why))?;
            let done = audit(&services, id, act.action, AuditStatus::Completed, Some(account));
            tables.insert_audit(&done)?;
            if act.event == Event::Restart {
                let deploy = audit(&services, id, Action::Deploy, AuditStatus::Pending, None);
                tables.insert_audit(&deploy)?;
            }
            tables.update_deployment(&deployment)?;
            tables.bump_generation(deployment.host)?;
            let shown = view::deployment(tables, &services, &deployment)?;
            Ok::<_, DeployError>((DeploymentEnvelope { deployment: shown }, deployment.host))
        })
        .await?;
    announce(state, host, id);
    Ok(envelope)
}
