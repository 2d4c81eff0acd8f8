//! Deployments of others: moved off a host that is lost, or destroyed.

use std::sync::Arc;

use buddo_runtime::error_chain::chain;
use buddo_shared::id::{DeploymentId, HostId};
use buddo_shared::name::Subdomain;
use serde_json::json;

use super::{AdminContext, AdminError, Changed};
use crate::crypto::vault::Vault;
use crate::domain::deployment::Outline;
use crate::service::deployments::{self, Left, Moved, Mover};
use crate::service::hosts::join::HostError;
use crate::store::contract::Host;
use crate::store::{StoreError, Tables};

/// What moving deployments takes beside the desk.
#[derive(Clone)]
pub struct Means {
    /// Encrypts environments for their next revision.
    pub vault: Arc<Vault>,
    /// How much memory of a host may be promised.
    pub overcommit: f64,
}

/// What came of an evacuation.
#[derive(Debug)]
pub struct Evacuated {
    pub host: Host,
    /// What was moved, each with the host that it is on now; and the host that it was on.
    pub changed: Changed,
    /// What could not be.
    pub left: Vec<Left>,
}

/// Places the deployments of a host on others. It may be run again: whatever stops it on its way, what
/// was moved is moved, and nothing is in two places of the documents. `moved` is told what changed
/// after each transaction, so that hosts go on with it at once.
pub async fn evacuate(
    desk: &AdminContext,
    means: &Means,
    name: &str,
    moved: impl Fn(&[(HostId, DeploymentId)]),
) -> Result<Evacuated, AdminError> {
    let host = begin(desk, name).await?;
    let mut done = Evacuated { host, changed: Vec::new(), left: Vec::new() };
    let ended = move_all(desk, means, &mut done, moved).await;
    let error = ended.as_ref().err().map(|error| chain(error));
    let (host, moved, left) = (&done.host.name, done.changed.len() / 2, done.left.len());
    tracing::info!(host, moved, left, error, "an evacuation has ended");
    let mut details = json!({ "host": host, "moved": moved, "left": left });
    if let Some(error) = &error {
        details["error"] = json!(error);
    }
    // Also where the administrator may not act any more: it says what was done.
    let (now, actor) = (desk.now, desk.actor);
    let noted: Result<(), StoreError> = desk
        .store
        .write(move |tables| tables.insert_admin_act("host_evacuated", now, actor, &details))
        .await;
    ended?;
    noted?;
    Ok(done)
}

async fn move_all(
    desk: &AdminContext,
    means: &Means,
    done: &mut Evacuated,
    told: impl Fn(&[(HostId, DeploymentId)]),
) -> Result<(), AdminError> {
    let mover = Mover {
        vault: Arc::clone(&means.vault),
        random: Arc::clone(&desk.random),
        overcommit: means.overcommit,
        now: desk.now,
    };
    let from = done.host.id;
    loop {
        let (mover, host) = (mover.clone(), done.host.clone());
        let skip: Vec<DeploymentId> = done.left.iter().map(|one| one.id).collect();
        let Moved { to, left } = desk
            .write(move |tables, _| Ok(deployments::evacuate_some(tables, &mover, &host, &skip)?))
            .await?;
        if to.is_empty() && left.is_empty() {
            return Ok(());
        }
        let changed: Changed = to.into_iter().flat_map(|(to, id)| [(to, id), (from, id)]).collect();
        told(&changed);
        done.changed.extend(changed);
        done.left.extend(left);
    }
}

/// From here on nothing new comes to the host, so that the evacuation has an end.
async fn begin(desk: &AdminContext, name: &str) -> Result<Host, AdminError> {
    let name = name.to_owned();
    desk.write(move |tables, desk| {
        let found = tables.host_named(&name)?.filter(|host| host.bond.removed_at.is_none());
        let mut host = found.ok_or_else(|| HostError::Unknown(name.clone()))?;
        if host.bond.drained_at.is_none() {
            tables.set_drained(host.id, Some(desk.now))?;
            host.bond.drained_at = Some(desk.now);
        }
        let details = json!({ "host": name });
        tables.insert_admin_act("host_evacuate", desk.now, desk.actor, &details)?;
        Ok(host)
    })
    .await
}

/// A deployment that is destroyed.
#[derive(Debug)]
pub struct Destroyed {
    /// The host that had it.
    pub host: HostId,
    pub id: DeploymentId,
    /// Its name; its id where the name cannot be read.
    pub name: String,
}

/// Destroys a deployment, named by id or subdomain, also one whose row is damaged.
pub async fn destroy(desk: &AdminContext, name: &str) -> Result<Destroyed, AdminError> {
    let name = name.to_owned();
    desk.write(move |tables, desk| {
        let outline = find(tables, &name)?.ok_or(AdminError::NoDeployment(name))?;
        let Outline { id, host, account, subdomain, .. } = &outline;
        let details = json!({ "deployment": id, "subdomain": subdomain, "account": account });
        tables.insert_admin_act("deployment_destroy", desk.now, desk.actor, &details)?;
        deployments::destroy_any(tables, &desk.random, desk.now, &outline)?;
        let name = subdomain.as_ref().map_or_else(|| id.to_string(), ToString::to_string);
        Ok(Destroyed { host: *host, id: *id, name })
    })
    .await
}

fn find(tables: &dyn Tables, name: &str) -> Result<Option<Outline>, AdminError> {
    // Only in the form that is printed: 32 hexadecimal digits alone are a possible subdomain, which
    // somebody could choose to have another's deployment destroyed in the place of theirs.
    let id = (name.len() == 36).then(|| name.parse::<DeploymentId>().ok()).flatten();
    let id = match (id, Subdomain::parse(name)) {
        (Some(id), _) => Some(id),
        (None, Ok(subdomain)) => tables.deployment_named(&subdomain)?,
        (None, Err(_)) => None,
    };
    match id {
        Some(id) => Ok(tables.outline(id)?),
        None => Ok(None),
    }
}

#[cfg(test)]
mod tests;
