//! Queries of operators.

use buddo_shared::model::id::{DeploymentId, TeamId};

use super::error::DeployError;
use super::view::{self, Shown, ShownStatus};
use super::{find_visible, owned_state};
use crate::auth::access::DeployCheck;
use crate::domain::deployment::Deployment;
use crate::domain::revision::RevisionRecord;
use crate::state::AppState;
use crate::store::contract::{AuditRow, Page, Tier};

/// Number of audit entries shown: the newest.
const AUDIT_SHOWN: u32 = 1000;

/// One page of a list.
#[derive(Debug, Clone, PartialEq)]
pub struct List {
    /// The deployments of this page.
    pub deployments: Vec<Shown>,
    /// Where the next page begins, if there is one.
    pub next: Option<DeploymentId>,
}

/// All tiers, cheapest first.
pub async fn tiers(state: &AppState) -> Result<Vec<Tier>, DeployError> {
    state.store.read(|tables| Ok(tables.tiers()?)).await
}

pub async fn get(
    state: &AppState,
    check: DeployCheck,
    id: DeploymentId,
) -> Result<Shown, DeployError> {
    let services = owned_state(state);
    state
        .store
        .read(move |tables| {
            let deployment = find_visible(tables, check, id)?;
            Ok(view::deployment(tables, &services, deployment)?)
        })
        .await
}

/// The deployments that are not destroyed, newest first: of the named team, or of all visible ones.
pub async fn list(
    state: &AppState,
    check: DeployCheck,
    team: Option<TeamId>,
    page: Page,
) -> Result<List, DeployError> {
    let services = owned_state(state);
    state
        .store
        .read(move |tables| {
            // One more than requested tells whether there is a next page.
            let more = Page { limit: page.limit + 1, ..page };
            let mut rows = tables.deployments_in(&check.teams(tables, team)?, more)?;
            let asked = usize::try_from(page.limit).unwrap_or(usize::MAX);
            let next = if rows.len() > asked {
                rows.truncate(asked);
                rows.last().map(|last| last.id)
            } else {
                None
            };
            let deployments = rows
                .into_iter()
                .map(|deployment| view::deployment(tables, &services, deployment))
                .collect::<Result<_, _>>()?;
            Ok(List { deployments, next })
        })
        .await
}

/// Status and health of one deployment.
pub async fn status(
    state: &AppState,
    check: DeployCheck,
    id: DeploymentId,
) -> Result<ShownStatus, DeployError> {
    let version = state.store.version();
    // Permissions are cached with it, and change only by a commit as well. The clock decides when a
    // host counts as lost, so it is read each time.
    let now = state.clock.now();
    if let Some((deployment, reach)) = state.status_cache.get(&(check, id), version) {
        return Ok(view::status(&state.live, deployment, reach.as_ref(), now));
    }
    let read = state.store.read(move |tables| {
        let deployment = find_visible(tables, check, id)?;
        let reach = tables.reach(deployment.host)?;
        Ok::<_, DeployError>((deployment, reach))
    });
    let (deployment, reach) = read.await?;
    state.status_cache.put((check, id), version, (deployment.clone(), reach.clone()));
    Ok(view::status(&state.live, deployment, reach.as_ref(), now))
}

/// The kept revisions of one deployment, newest first.
pub async fn revisions(
    state: &AppState,
    check: DeployCheck,
    id: DeploymentId,
) -> Result<(Deployment, Vec<RevisionRecord>), DeployError> {
    state
        .store
        .read(move |tables| {
            let deployment = find_visible(tables, check, id)?;
            let mut revisions = tables.revisions(id)?;
            revisions.reverse();
            Ok((deployment, revisions))
        })
        .await
}

/// The audit log of one deployment, oldest first.
pub async fn logs(
    state: &AppState,
    check: DeployCheck,
    id: DeploymentId,
) -> Result<Vec<AuditRow>, DeployError> {
    state
        .store
        .read(move |tables| {
            find_visible(tables, check, id)?;
            Ok(tables.audit_of(id, AUDIT_SHOWN)?)
        })
        .await
}
