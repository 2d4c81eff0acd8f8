//! Restart, stop, destroy; and what they share with rollback.

use buddo_shared::host_wire::manifest::RunState;
use buddo_shared::model::id::{DeploymentId, Revision};
use jiff::Timestamp;
use serde_json::Value;

use super::content::{environments, seal};
use super::error::DeployError;
use super::view::Shown;
use super::{
    announce, create, owned_state, refuse_closed_tier, refuse_suspended, refuse_unproven, view,
};
use crate::auth::access::{DeployCheck, Right};
use crate::domain::deployment::{Deployment, Outline};
use crate::domain::history::is_near;
use crate::domain::lifecycle::Event;
use crate::domain::revision::RevisionRecord;
use crate::service::audit::{self, DeployEnd};
use crate::state::{AppState, Services};
use crate::store::contract::{Action, AuditStatus, NewAudit};
use crate::store::{StoreError, Tables};

/// Starts everything again from the same image references; tags are resolved again.
pub async fn restart(
    state: &AppState,
    check: DeployCheck,
    id: DeploymentId,
) -> Result<Shown, DeployError> {
    let act = DeploymentAct {
        event: Event::Restart,
        action: Action::Restart,
        supersedes: "superseded by a restart",
    };
    perform(state, check, id, act, move |tables, services, deployment| {
        refuse_beyond_limit(tables, services, id)?;
        let current = tables
            .revision(id, deployment.revision)?
            .ok_or_else(|| StoreError::corrupt("deployments.revision")("names no revision"))?;
        let envs = environments(tables, &services.vault, id, current.number)?;
        let number = next_number(tables, deployment)?;
        let envs = seal(&services.vault, id, number, &envs)?;
        let again = current.again(number, services.clock.now());
        let revision = RevisionRecord { services: again.services.unresolved(), ..again };
        tables.insert_revision(id, &revision, &envs)?;
        begin(deployment, number);
        Ok(None)
    })
    .await
}

/// A failed first deploy barely counts against the limit, so that it can be repaired; as a running
/// one it counts in full.
fn refuse_beyond_limit(
    tables: &dyn Tables,
    services: &Services,
    id: DeploymentId,
) -> Result<(), DeployError> {
    let stored = tables.deployment(id)?.filter(Deployment::failed_at_first);
    let Some(deployment) = stored else { return Ok(()) };
    let tier = tables.tiers()?.into_iter().find(|tier| tier.id == deployment.tier_id);
    match tier {
        Some(tier) => create::check_limits(tables, services, deployment.account, &tier),
        None => Ok(()),
    }
}

/// Stops the container; subdomain, image and environment are kept.
pub async fn stop(
    state: &AppState,
    check: DeployCheck,
    id: DeploymentId,
) -> Result<Shown, DeployError> {
    let act = DeploymentAct {
        event: Event::Stop,
        action: Action::Stop,
        supersedes: "stopped before it was live",
    };
    perform(state, check, id, act, move |_, services, deployment| {
        deployment.run = RunState::Stopped;
        deployment.health = None;
        // Earlier failures are cleared: it is stopped because its operator asked for it.
        deployment.failure = None;
        deployment.trouble = None;
        deployment.restarts = 0;
        deployment.stopped_at = Some(services.clock.now());
        Ok(None)
    })
    .await
}

/// Destroys the deployment for good; its subdomain is free at once.
pub async fn destroy(
    state: &AppState,
    check: DeployCheck,
    id: DeploymentId,
) -> Result<(), DeployError> {
    let services = owned_state(state);
    let host = state
        .store
        .write(move |tables| {
            let act = |tables: &mut dyn Tables, services: &Services, d: &mut Deployment| {
                take_away(tables, services.clock.now(), d)?;
                Ok(None)
            };
            let destroyed = carry_out(tables, &services, check, id, DESTROY, act)?;
            // The deployment is not returned: that would fail if its revision cannot be read.
            Ok::<_, DeployError>(destroyed.host)
        })
        .await?;
    announce(state, host, id);
    state.live.forget(id);
    Ok(())
}

/// The act of [`destroy`].
pub(super) const DESTROY: DeploymentAct = DeploymentAct {
    event: Event::Destroy,
    action: Action::Destroy,
    supersedes: "destroyed before it was live",
};

/// The changes to a deployment that is destroyed by its operator.
pub(super) fn take_away(
    tables: &mut dyn Tables,
    now: Timestamp,
    deployment: &mut Deployment,
) -> Result<(), StoreError> {
    deployment.health = None;
    deployment.serving = None;
    deployment.trouble = None;
    deployment.held = None;
    deployment.restarts = 0;
    deployment.stopped_at = deployment.stopped_at.or(Some(now));
    tables.erase_env(deployment.id)
}

/// The number for a new revision. Not the current one plus one: a failed deploy has left a higher
/// number behind. Nor one above the highest known: a database from a backup may know fewer than the
/// host. But no host can choose it by what it claims ([`is_near`]).
pub(super) fn next_number(
    tables: &dyn Tables,
    deployment: &Deployment,
) -> Result<Revision, DeployError> {
    let last = tables.last_revision(deployment.id)?.unwrap_or(deployment.revision);
    let serving = deployment.serving.filter(|serving| is_near(*serving, last));
    Ok(serving.map_or(last, |serving| serving.max(last)).next()?)
}

/// Makes `number` the desired revision.
pub(super) fn begin(deployment: &mut Deployment, number: Revision) {
    deployment.revision = number;
    deployment.run = RunState::Running;
    deployment.failure = None;
    deployment.trouble = None;
    deployment.stopped_at = None;
}

/// An act of an operator on a deployment.
#[derive(Debug, Clone, Copy)]
pub(super) struct DeploymentAct {
    pub(super) event: Event,
    pub(super) action: Action,
    /// The audit detail for a deploy that this act ends before it was live.
    pub(super) supersedes: &'static str,
}

async fn perform<F>(
    state: &AppState,
    check: DeployCheck,
    id: DeploymentId,
    act: DeploymentAct,
    change: F,
) -> Result<Shown, DeployError>
where
    F: Fn(&mut dyn Tables, &Services, &mut Deployment) -> Result<Option<Value>, DeployError>
        + Send
        + 'static,
{
    let services = owned_state(state);
    let work = move |tables: &mut dyn Tables| {
        let changed = carry_out(tables, &services, check, id, act, &change)?;
        Ok::<_, DeployError>(view::deployment(tables, &services, changed)?)
    };
    let shown = state.store.write(work).await?;
    announce(state, shown.deployment.host, id);
    Ok(shown)
}

/// The common part of all four acts: ownership, the lifecycle table, the audit log, a new
/// generation. What `change` returns becomes the audit details.
pub(super) fn carry_out<F>(
    tables: &mut dyn Tables,
    services: &Services,
    check: DeployCheck,
    id: DeploymentId,
    act: DeploymentAct,
    change: F,
) -> Result<Deployment, DeployError>
where
    F: FnOnce(&mut dyn Tables, &Services, &mut Deployment) -> Result<Option<Value>, DeployError>,
{
    let mut deployment = check.deployment(tables, id, Right::Write)?;
    refuse_suspended(tables, check.actor())?;
    refuse_suspended(tables, deployment.account)?;
    let brings_up = matches!(act.event, Event::Restart | Event::Rollback);
    if brings_up {
        refuse_unproven(tables, [check.actor(), deployment.account])?;
        refuse_closed_tier(tables, &deployment.tier_id, deployment.account)?;
    }
    deployment.lifecycle.apply(act.event)?;
    let details = change(tables, services, &mut deployment)?;
    let end = DeployEnd::Superseded { by: act.action, cause: act.supersedes };
    audit::end_deploy(tables, id, end, services.clock.now())?;
    let done = audit::of_operator(services, id, act.action, check, details);
    tables.insert_audit(&done)?;
    if brings_up {
        let deploy = audit::entry(services, id, Action::Deploy, AuditStatus::Pending, None);
        tables.insert_audit(&deploy)?;
    }
    tables.update_deployment(&deployment)?;
    tables.bump_generation(deployment.host)?;
    Ok(deployment)
}

/// Destroys a deployment of any owner, even if the rest of its row cannot be read. `done`: the
/// audit entry.
pub(super) fn destroy_outlined(
    tables: &mut dyn Tables,
    outline: &Outline,
    done: &NewAudit,
) -> Result<(), DeployError> {
    let mut lifecycle = outline.lifecycle;
    lifecycle.apply(DESTROY.event)?;
    tables.erase_env(outline.id)?;
    let end = DeployEnd::Superseded { by: DESTROY.action, cause: DESTROY.supersedes };
    audit::end_deploy(tables, outline.id, end, done.at)?;
    tables.insert_audit(done)?;
    tables.set_destroyed(outline.id, lifecycle, done.at)?;
    tables.bump_generation(outline.host)?;
    Ok(())
}
