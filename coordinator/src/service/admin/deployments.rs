//! Deployments of others: moved off a host that is lost, or destroyed.

use std::sync::Arc;

use buddo_shared::id::{DeploymentId, HostId};
use buddo_shared::name::Subdomain;
use serde_json::json;

use super::{AdminError, Changed, Desk};
use crate::service::deployments::{self, Left, Moved, Mover};
use crate::service::hosts::HostError;
use crate::store::Tables;
use crate::store::contract::{Deployment, Host};
use crate::vault::Vault;

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
    /// The host, drained.
    pub host: Host,
    /// What was moved, each with the host that it is on now; and the host that it was on.
    pub changed: Changed,
    /// What could not be.
    pub left: Vec<Left>,
}

/// Places the deployments of a host on others. It may be run again: whatever stops it on its way, what
/// was moved is moved, and nothing is in two places of the documents.
pub async fn evacuate(desk: &Desk, means: &Means, name: &str) -> Result<Evacuated, AdminError> {
    let host = begin(desk, name).await?;
    let mover = Mover {
        vault: Arc::clone(&means.vault),
        random: Arc::clone(&desk.random),
        overcommit: means.overcommit,
        now: desk.now,
    };
    let (mut changed, mut left): (Changed, Vec<Left>) = (Vec::new(), Vec::new());
    loop {
        let (mover, from) = (mover.clone(), host.clone());
        let skip: Vec<DeploymentId> = left.iter().map(|one| one.id).collect();
        let moved: Moved = desk
            .write(move |tables, _| Ok(deployments::evacuate_some(tables, &mover, &from, &skip)?))
            .await?;
        if moved.to.is_empty() && moved.left.is_empty() {
            break;
        }
        for (to, id) in moved.to {
            changed.extend([(to, id), (host.id, id)]);
        }
        left.extend(moved.left);
    }
    let details = json!({ "host": host.name, "moved": changed.len() / 2, "left": left.len() });
    desk.write(move |tables, desk| {
        Ok(tables.insert_admin_act("host_evacuated", desk.now, desk.actor, &details)?)
    })
    .await?;
    Ok(Evacuated { host, changed, left })
}

/// From here on nothing new comes to the host, so that the evacuation has an end.
async fn begin(desk: &Desk, name: &str) -> Result<Host, AdminError> {
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

/// Destroys a deployment, named by id or subdomain.
pub async fn destroy(desk: &Desk, name: &str) -> Result<(HostId, Deployment), AdminError> {
    let name = name.to_owned();
    desk.write(move |tables, desk| {
        let deployment = find(tables, &name)?.ok_or(AdminError::NoDeployment(name))?;
        let (id, subdomain) = (deployment.id, &deployment.subdomain);
        let details =
            json!({ "deployment": id, "subdomain": subdomain, "account": deployment.account });
        tables.insert_admin_act("deployment_destroy", desk.now, desk.actor, &details)?;
        let host = deployments::destroy_any(tables, &desk.random, desk.now, deployment.clone())?;
        Ok((host, deployment))
    })
    .await
}

fn find(tables: &dyn Tables, name: &str) -> Result<Option<Deployment>, AdminError> {
    // Only in the form that is printed: 32 hexadecimal digits alone are a possible subdomain, which
    // somebody could choose to have another's deployment destroyed in the place of theirs.
    let id = (name.len() == 36).then(|| name.parse::<DeploymentId>().ok()).flatten();
    let id = match (id, Subdomain::parse(name)) {
        (Some(id), _) => Some(id),
        (None, Ok(subdomain)) => tables.deployment_named(&subdomain)?,
        (None, Err(_)) => None,
    };
    match id {
        Some(id) => Ok(tables.deployment(id)?),
        None => Ok(None),
    }
}

#[cfg(test)]
mod tests;
