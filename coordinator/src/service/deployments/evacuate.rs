//! How an administrator moves the deployments of others off a host.
//!
//! ```text
//! on its host ─► a place elsewhere? ─► next revision, same bytes and environment ─► both hosts get a document
//!                     └ none ─► it stays, and the administrator is told why
//! ```
//!
//! What it was on the host before is not waited for: that host may never come back. If it does, its
//! next document no longer has the deployment, and whatever it reports about it is not believed.

use std::sync::Arc;

use buddo_runtime::error_chain::chain;
use buddo_shared::id::{DeploymentId, HostId};
use buddo_shared::manifest::RunState;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::DeployError;
use super::act::{environment, next_number};
use crate::crypto::random::{self, Random};
use crate::crypto::vault::Vault;
use crate::domain::capacity::Demand;
use crate::domain::deployment::Deployment;
use crate::domain::encryption::EncryptionContext;
use crate::domain::lifecycle::Event;
use crate::domain::revision::RevisionRecord;
use crate::domain::scheduler::NoRoom;
use crate::service::audit;
use crate::service::deployments::placement::{self, Search};
use crate::store::contract::{Action, AuditStatus, Host, NewAudit};
use crate::store::{StoreError, Tables};

/// Deployments that are moved in one transaction: others write between two of them.
const BATCH: usize = 50;

/// What it takes to move deployments, beside the database.
#[derive(Clone)]
pub(crate) struct Mover {
    /// Environments are encrypted for the revision that they belong to.
    pub(crate) vault: Arc<Vault>,
    pub(crate) random: Arc<dyn Random>,
    /// How much memory of a host may be promised.
    pub(crate) overcommit: f64,
    pub(crate) now: Timestamp,
}

/// What one transaction of an evacuation did.
#[derive(Debug, Default)]
pub(crate) struct Moved {
    /// Where each deployment is now.
    pub(crate) to: Vec<(HostId, DeploymentId)>,
    /// Those that stay, and why.
    pub(crate) left: Vec<Left>,
}

/// A deployment that could not be moved.
#[derive(Debug, Clone)]
pub struct Left {
    pub id: DeploymentId,
    /// Its name; its id where the name cannot be read.
    pub name: String,
    pub reason: String,
}

/// Moves some of the host's deployments elsewhere, those in `left` apart. Nothing in the answer:
/// all were tried. One that has no room elsewhere, or cannot be read, keeps no other where it is.
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
            tracing::error!(host = %from.id, error, "a deployment whose id cannot be read stays");
            None
        }
    });
    let batch: Vec<_> = named.filter(|(id, _)| !left.contains(id)).take(BATCH).collect();
    let mut moved = Moved::default();
    let mut room = Room { mover, from, refused: None };
    for (id, row) in batch {
        let name = row.as_ref().map_or_else(|_| id.to_string(), |row| row.subdomain.to_string());
        let ready = row.map_err(DeployError::from);
        match ready.and_then(|deployment| prepare(tables, mover, &mut room, deployment)) {
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

/// Whether the database fails, and not one row of it.
fn concerns_all(error: &StoreError) -> bool {
    matches!(error, StoreError::Full { .. } | StoreError::Busy | StoreError::Closed)
}

/// Where there is room in one transaction, in which the other hosts only get fuller.
struct Room<'a> {
    mover: &'a Mover,
    from: &'a Host,
    /// What had no room for want of memory, in MiB, and the words for it: nothing larger has any.
    refused: Option<(u64, NoRoom)>,
}

impl Room<'_> {
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

/// A deployment that goes to another host; its next revision, where it has one, is stored.
struct Ready {
    deployment: Deployment,
    to: HostId,
}

/// Everything that can be refused is refused here: what follows is kept or fails as a whole.
fn prepare(
    tables: &mut dyn Tables,
    mover: &Mover,
    room: &mut Room<'_>,
    mut deployment: Deployment,
) -> Result<Ready, DeployError> {
    let id = deployment.id;
    let current = tables
        .revision(id, deployment.revision)?
        .ok_or_else(|| StoreError::corrupt("deployments.revision")("names no revision"))?;
    let env = environment(tables, &mover.vault, id, current.number)?;
    let env_bytes = env.as_ref().map_or(0, |env| env.expose().len() as u64);
    let demand = Demand { memory_mb: deployment.limits.memory_mb.into(), env_bytes };
    let to = room.find(tables, &deployment, demand)?;
    // What shall not run moves as it is: nothing has to be brought up.
    if deployment.run == RunState::Running {
        deployment.lifecycle.apply(Event::Move)?;
        let number = next_number(tables, &deployment)?;
        let env = env.map(|env| mover.vault.seal(EncryptionContext::Environment(id, number), &env));
        let env = env.transpose()?;
        // With its digest: the app is the same bytes there.
        let revision: RevisionRecord = current.again(number, mover.now);
        tables.insert_revision(id, &revision, env.as_deref())?;
        deployment.revision = number;
        deployment.failure = None;
    }
    Ok(Ready { deployment, to })
}

/// Moves it; to which host.
fn carry(
    tables: &mut dyn Tables,
    mover: &Mover,
    from: &Host,
    Ready { mut deployment, to }: Ready,
) -> Result<HostId, StoreError> {
    let id = deployment.id;
    if deployment.run == RunState::Running {
        let why = audit::superseded(Action::Deploy, "moved to another host before it was live");
        tables.finish_deploy(id, AuditStatus::Failed, mover.now, Some(&why))?;
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

/// Its owner sees that it was the platform, and not which administrator.
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
