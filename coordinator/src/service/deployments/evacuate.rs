//! How an administrator moves the deployments of others off a host.
//!
//! ```text
//! on its host ─► room elsewhere? ─► next revision, same digest and env ─► both documents
//!                     └ none ─► it stays, and the administrator is told why
//! ```
//!
//! The previous host is not waited for: it may never come back. If it does, its next document no
//! longer has the deployment, and its reports about it are ignored.

use std::sync::Arc;

use buddo_runtime::error_chain::chain;
use buddo_shared::host_wire::manifest::RunState;
use buddo_shared::model::id::{DeploymentId, HostId};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::DeployError;
use super::act::next_number;
use super::content::{self, environments, seal};
use crate::crypto::random::{self, Random};
use crate::crypto::vault::Vault;
use crate::domain::capacity::Demand;
use crate::domain::deployment::Deployment;
use crate::domain::lifecycle::Event;
use crate::domain::revision::RevisionRecord;
use crate::domain::scheduler::NoRoom;
use crate::service::audit::{self, DeployEnd};
use crate::service::deployments::placement::{self, Search};
use crate::store::contract::{Action, AuditStatus, Host, NewAudit};
use crate::store::{StoreError, Tables};

/// Deployments moved per transaction: other writers get their turn in between.
const BATCH: usize = 50;

/// What moving deployments needs besides the database.
#[derive(Clone)]
pub(crate) struct Mover {
    /// Environments are encrypted for the revision they belong to.
    pub(crate) vault: Arc<Vault>,
    pub(crate) random: Arc<dyn Random>,
    /// Memory overcommitment of hosts.
    pub(crate) overcommit: f64,
    pub(crate) now: Timestamp,
}

/// Result of one transaction of an evacuation.
#[derive(Debug, Default)]
pub(crate) struct Moved {
    /// The new host of each deployment.
    pub(crate) to: Vec<(HostId, DeploymentId)>,
    /// Those that stay, and why.
    pub(crate) left: Vec<Left>,
}

/// A deployment that could not be moved.
#[derive(Debug, Clone)]
pub struct Left {
    pub id: DeploymentId,
    /// Its name, or its id if the name cannot be read.
    pub name: String,
    pub reason: String,
}

/// Moves some of the host's deployments, except those in `left`. An empty result: all were tried.
/// One that fits nowhere, or cannot be read, does not block the others.
pub(crate) fn evacuate_some(
    tables: &mut dyn Tables,
    mover: &Mover,
    from: &Host,
    left: &[DeploymentId],
) -> Result<Moved, StoreError> {
    let all = tables.deployments_for(from.id)?.into_iter();
    let named = all.filter_map(|(id, row)| match (id, row) {
        (Some(id), row) => Some((id, row)),
        (None, row) => {
            let error = row.err().map(|error| chain(&error));
            tracing::error!(host = %from.id, error, "cannot read a deployment's id; not moved");
            None
        }
    });
    let batch: Vec<_> = named.filter(|(id, _)| !left.contains(id)).take(BATCH).collect();
    let mut moved = Moved::default();
    let mut placements = PlacementSearch { mover, from, refused: None };
    for (id, row) in batch {
        let name = row.as_ref().map_or_else(|_| id.to_string(), |row| row.subdomain.to_string());
        let ready = row.map_err(DeployError::from);
        match ready.and_then(|deployment| prepare(tables, mover, &mut placements, deployment)) {
            Ok(ready) => moved.to.push((carry(tables, mover, from, ready)?, id)),
            Err(DeployError::Store(error)) if concerns_all(&error) => return Err(error),
            Err(error) => moved.left.push(Left { id, name, reason: chain(&error) }),
        }
    }
    let mut changed: Vec<HostId> = moved.to.iter().map(|(host, _)| *host).collect();
    changed.sort_unstable();
    changed.dedup();
    if !changed.is_empty() {
        changed.push(from.id);
    }
    for host in changed {
        tables.bump_generation(host)?;
    }
    Ok(moved)
}

/// Whether the whole database fails, not just one row.
fn concerns_all(error: &StoreError) -> bool {
    matches!(
        error,
        StoreError::Conflict { .. }
            | StoreError::Full { .. }
            | StoreError::Busy
            | StoreError::Closed
    )
}

/// Finds new hosts during one transaction, in which the other hosts can only get fuller.
struct PlacementSearch<'a> {
    mover: &'a Mover,
    from: &'a Host,
    /// The smallest app that did not fit for lack of memory, in MiB, and the error: nothing larger
    /// fits either.
    refused: Option<(u64, NoRoom)>,
}

impl PlacementSearch<'_> {
    fn find(
        &mut self,
        tables: &dyn Tables,
        deployment: &Deployment,
        demand: Demand,
    ) -> Result<HostId, DeployError> {
        match self.refused {
            Some((mb, NoRoom::Memory { free, .. })) if demand.memory_mb >= mb => {
                return Err(NoRoom::Memory { needed: demand.memory_mb, free }.into());
            }
            Some((_, none @ NoRoom::NoHost(_))) => return Err(none.into()),
            _ => {}
        }
        let (account, overcommit, now) =
            (deployment.account, self.mover.overcommit, self.mover.now);
        let search = Search { account, demand, overcommit, now, from: Some(self.from.id) };
        let found = placement::choose(tables, search);
        if let Err(DeployError::NoRoom(why @ (NoRoom::Memory { .. } | NoRoom::NoHost(_)))) = &found
        {
            self.refused = Some((demand.memory_mb, *why));
        }
        found
    }
}

/// A deployment ready to move; its next revision, if any, is stored.
struct Ready {
    deployment: Deployment,
    to: HostId,
}

/// All refusals happen here: what follows is committed or fails as a whole.
fn prepare(
    tables: &mut dyn Tables,
    mover: &Mover,
    placements: &mut PlacementSearch<'_>,
    mut deployment: Deployment,
) -> Result<Ready, DeployError> {
    let id = deployment.id;
    let current = tables
        .revision(id, deployment.revision)?
        .ok_or_else(|| StoreError::corrupt("deployments.revision")("names no revision"))?;
    let envs = environments(tables, &mover.vault, id, current.number)?;
    let env_bytes = content::bytes(&envs);
    let demand = Demand { memory_mb: deployment.limits.memory_mb.into(), env_bytes };
    let to = placements.find(tables, &deployment, demand)?;
    // A stopped app moves as it is: nothing has to be started.
    if deployment.run == RunState::Running {
        deployment.lifecycle.apply(Event::Move)?;
        let number = next_number(tables, &deployment)?;
        let envs = seal(&mover.vault, id, number, &envs)?;
        // With its digests: the app runs the same images there.
        let revision: RevisionRecord = current.again(number, mover.now);
        tables.insert_revision(id, &revision, &envs)?;
        deployment.revision = number;
        deployment.failure = None;
    }
    Ok(Ready { deployment, to })
}

/// Moves it; returns its new host.
fn carry(
    tables: &mut dyn Tables,
    mover: &Mover,
    from: &Host,
    Ready { mut deployment, to }: Ready,
) -> Result<HostId, StoreError> {
    let id = deployment.id;
    if deployment.run == RunState::Running {
        let cause = "moved to another host before it was live";
        let end = DeployEnd::Superseded { by: Action::Deploy, cause };
        audit::end_deploy(tables, id, end, mover.now)?;
        let name = tables.reach(to)?.map(|host| host.name);
        let details = json!({ "cause": "evacuation", "from": from.name, "to": name });
        let (action, pending) = (Action::Deploy, AuditStatus::Pending);
        tables.insert_audit(&entry(mover, id, action, pending, Some(details)))?;
    }
    deployment.serving = None;
    deployment.health = None;
    deployment.trouble = None;
    tables.set_host(id, to)?;
    tables.update_deployment(&deployment)?;
    Ok(to)
}

/// Its owner sees that it was the platform, but not which administrator.
fn entry(
    mover: &Mover,
    deployment: DeploymentId,
    action: Action,
    status: AuditStatus,
    details: Option<Value>,
) -> NewAudit {
    NewAudit {
        id: random::uuid(&*mover.random),
        deployment,
        action,
        status,
        initiated_by: None,
        at: mover.now,
        details,
    }
}
