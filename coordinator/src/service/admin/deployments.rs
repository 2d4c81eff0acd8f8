//! Other users' deployments: evacuate them from a lost host, or destroy them.

use std::sync::Arc;

use buddo_runtime::error_chain::chain;
use buddo_shared::model::id::{DeploymentId, HostId};
use buddo_shared::model::name::Subdomain;
use serde_json::json;

use super::{AdminContext, AdminError, Changed};
use crate::crypto::vault::Vault;
use crate::domain::deployment::Outline;
use crate::service::deployments::{self, Left, Moved, Mover};
use crate::service::hosts::join::HostError;
use crate::store::contract::Host;
use crate::store::{StoreError, Tables};

/// What moving deployments needs besides the admin context.
#[derive(Clone)]
pub struct Means {
    /// Encrypts environments for their next revision.
    pub vault: Arc<Vault>,
    /// Memory overcommitment of hosts.
    pub overcommit: f64,
}

/// Result of an evacuation.
#[derive(Debug)]
pub struct Evacuated {
    pub host: Host,
    /// What was moved, each with its new host; and the host it was on.
    pub changed: Changed,
    /// What could not be moved.
    pub left: Vec<Left>,
}

/// Moves the deployments of a host to others. Idempotent: if it is interrupted, what was moved
/// stays moved, and no deployment is in two documents. `moved` is called with the changes of each
/// transaction, so that hosts continue at once.
pub async fn evacuate(
    context: &AdminContext,
    means: &Means,
    name: &str,
    moved: impl Fn(&[(HostId, DeploymentId)]),
) -> Result<Evacuated, AdminError> {
    let host = begin(context, name).await?;
    let mut done = Evacuated { host, changed: Vec::new(), left: Vec::new() };
    let ended = move_all(context, means, &mut done, moved).await;
    let error = ended.as_ref().err().map(|error| chain(error));
    let (host, moved, left) = (&done.host.name, done.changed.len() / 2, done.left.len());
    tracing::info!(host, moved, left, error, "an evacuation has ended");
    let mut details = json!({ "host": host, "moved": moved, "left": left });
    if let Some(error) = &error {
        details["error"] = json!(error);
    }
    // Even if the administrator may no longer act: it records what was done.
    let (now, actor) = (context.now, context.actor);
    let noted: Result<(), StoreError> = context
        .store
        .write(move |tables| tables.insert_admin_act("host_evacuated", now, actor, &details))
        .await;
    ended?;
    noted?;
    Ok(done)
}

async fn move_all(
    context: &AdminContext,
    means: &Means,
    done: &mut Evacuated,
    told: impl Fn(&[(HostId, DeploymentId)]),
) -> Result<(), AdminError> {
    let mover = Mover {
        vault: Arc::clone(&means.vault),
        random: Arc::clone(&context.random),
        overcommit: means.overcommit,
        now: context.now,
    };
    let from = done.host.id;
    loop {
        let (mover, host) = (mover.clone(), done.host.clone());
        let skip: Vec<DeploymentId> = done.left.iter().map(|one| one.id).collect();
        let Moved { to, left } = context
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

/// From here on nothing new is placed on the host, so that the evacuation terminates.
async fn begin(context: &AdminContext, name: &str) -> Result<Host, AdminError> {
    let name = name.to_owned();
    context
        .write(move |tables, context| {
            let found = tables.host_named(&name)?.filter(|host| host.identity.removed_at.is_none());
            let mut host = found.ok_or_else(|| HostError::Unknown(name.clone()))?;
            if host.identity.drained_at.is_none() {
                tables.set_drained(host.id, Some(context.now))?;
                host.identity.drained_at = Some(context.now);
            }
            let details = json!({ "host": name });
            tables.insert_admin_act("host_evacuate", context.now, context.actor, &details)?;
            Ok(host)
        })
        .await
}

/// A destroyed deployment.
#[derive(Debug)]
pub struct Destroyed {
    /// The host that ran it.
    pub host: HostId,
    pub id: DeploymentId,
    /// Its name, or its id if the name cannot be read.
    pub name: String,
}

/// Destroys a deployment, named by id or subdomain, even if its row is damaged.
pub async fn destroy(context: &AdminContext, name: &str) -> Result<Destroyed, AdminError> {
    let name = name.to_owned();
    context
        .write(move |tables, context| {
            let outline =
                find(tables, &name)?.ok_or_else(|| AdminError::NoDeployment(name.clone()))?;
            let Outline { id, host, account, subdomain, .. } = &outline;
            let details = json!({ "deployment": id, "subdomain": subdomain, "account": account });
            tables.insert_admin_act("deployment_destroy", context.now, context.actor, &details)?;
            deployments::destroy_any(tables, &context.random, context.now, &outline)?;
            let name = subdomain.as_ref().map_or_else(|| id.to_string(), ToString::to_string);
            Ok(Destroyed { host: *host, id: *id, name })
        })
        .await
}

fn find(tables: &dyn Tables, name: &str) -> Result<Option<Outline>, AdminError> {
    // Only in the printed form: 32 hexadecimal digits are a possible subdomain, which someone could
    // choose so that another's deployment is destroyed instead of theirs.
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
