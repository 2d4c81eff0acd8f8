//! What an administrator does with deployments of others: moves them off a host, destroys one.
//!
//! ```text
//! on its host ─► a place elsewhere? ─► next revision, same bytes and environment ─► both hosts get a document
//!                     └ none ─► it stays, and the administrator is told why
//! ```
//!
//! What it was on the host before is not waited for: that host may never come back. If it does, its
//! next document no longer has the deployment, and whatever it reports about it is not believed.

use std::sync::Arc;

use buddo_shared::id::{DeploymentId, HostId};
use buddo_shared::manifest::RunState;
use buddo_shared::name::Subdomain;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::act::next_number;
use super::{DeployError, placing};
use crate::domain::capacity::Demand;
use crate::domain::lifecycle::{Event, next};
use crate::domain::place::{Candidate, place};
use crate::random::{self, Random};
use crate::store::contract::{Action, AuditStatus, Deployment, Host, NewAudit, RevisionRow};
use crate::store::{StoreError, Tables};
use crate::vault::{Place, Vault};

/// Deployments that are moved in one transaction: others write between two of them.
const BATCH: usize = 50;

/// What it takes to move deployments, beside the database.
#[derive(Clone)]
pub(crate) struct Mover {
    /// Environments are encrypted for the revision that they belong to.
    pub(crate) vault: Arc<Vault>,
    /// For ids.
    pub(crate) random: Arc<dyn Random>,
    /// How much memory of a host may be promised.
    pub(crate) overcommit: f64,
    /// When.
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
    /// Which.
    pub id: DeploymentId,
    /// Its name.
    pub subdomain: Subdomain,
    /// Why.
    pub reason: String,
}

/// Moves some of the host's deployments elsewhere, those in `left` apart. Nothing in the answer:
/// all were tried.
pub(crate) fn evacuate_some(
    tables: &mut dyn Tables,
    mover: &Mover,
    from: &Host,
    left: &[DeploymentId],
) -> Result<Moved, StoreError> {
    let mut hosts = placing::candidates(tables, mover.overcommit, mover.now)?;
    hosts.retain(|host| host.id != from.id);
    let all = tables.deployments_on(from.id)?.into_iter();
    let batch: Vec<_> = all.filter(|one| !left.contains(&one.id)).take(BATCH).collect();
    let mut moved = Moved::default();
    for deployment in batch {
        let (id, subdomain) = (deployment.id, deployment.subdomain.clone());
        match move_one(tables, mover, from, &mut hosts, deployment) {
            Ok(host) => moved.to.push((host, id)),
            Err(DeployError::Store(error)) => return Err(error),
            // One that has no room elsewhere, or cannot be read, keeps no other where it is.
            Err(error) => moved.left.push(Left { id, subdomain, reason: error.to_string() }),
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

/// Everything that can be refused is refused before the first write.
fn move_one(
    tables: &mut dyn Tables,
    mover: &Mover,
    from: &Host,
    hosts: &mut [Candidate],
    mut deployment: Deployment,
) -> Result<HostId, DeployError> {
    let id = deployment.id;
    let current = tables
        .revision(id, deployment.revision)?
        .ok_or_else(|| StoreError::corrupt("deployments.revision")("names no revision"))?;
    let env = match tables.environment(id, current.number)? {
        Some(sealed) => {
            Some(mover.vault.open_sealed(Place::Environment(id, current.number), &sealed)?)
        }
        None => None,
    };
    let env_bytes = env.as_ref().map_or(0, |env| env.expose().len() as u64);
    let demand = Demand { memory_mb: deployment.limits.memory_mb.into(), env_bytes };
    placing::of_account(tables, deployment.account, hosts)?;
    let to = place(demand, hosts)?;
    // What shall not run moves as it is: nothing has to be brought up.
    if deployment.run == RunState::Running {
        let status = next(deployment.status, Event::Move)?;
        let number = next_number(tables, &deployment)?;
        let env = env.map(|env| mover.vault.seal(Place::Environment(id, number), &env));
        let env = env.transpose()?;
        // With its digest: the app is the same bytes there.
        let revision: RevisionRow = current.again(number, mover.now);
        tables.insert_revision(id, &revision, env.as_deref())?;
        deployment.status = status;
        deployment.revision = number;
        deployment.last_error = None;
        let why = json!({ "cause": "moved to another host before it was live" });
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
    if let Some(host) = hosts.iter_mut().find(|host| host.id == to) {
        host.load = host.load.with(demand);
    }
    Ok(to)
}

/// Destroys a deployment, whoever's it is; the host that had it.
pub(crate) fn destroy_any(
    tables: &mut dyn Tables,
    random: &Arc<dyn Random>,
    now: Timestamp,
    mut deployment: Deployment,
) -> Result<HostId, DeployError> {
    let id = deployment.id;
    deployment.status = next(deployment.status, Event::Destroy)?;
    deployment.health = None;
    deployment.serving = None;
    deployment.trouble = None;
    deployment.stopped_at = deployment.stopped_at.or(Some(now));
    tables.erase_env(id)?;
    let why = json!({ "cause": "destroyed before it was live" });
    tables.finish_deploy(id, AuditStatus::Failed, now, Some(&why))?;
    tables.insert_audit(&NewAudit {
        id: random::uuid(&**random),
        deployment: id,
        action: Action::Destroy,
        status: AuditStatus::Completed,
        initiated_by: None,
        at: now,
        details: None,
    })?;
    tables.update_deployment(&deployment)?;
    tables.bump_generation(deployment.host)?;
    Ok(deployment.host)
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
