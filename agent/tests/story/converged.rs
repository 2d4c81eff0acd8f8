//! Whether a host is as its last document says: containers, secrets, the live table. The same check
//! for the simulated host and for a real one.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use buddo_agent::model::container::Identity;
use buddo_agent::model::live_table::{LiveTable, Target};
use buddo_agent::model::workload::{WorkloadId, secret_owner};
use buddo_shared::host_wire::manifest::{DeploymentSpec, RunState};
use buddo_shared::host_wire::report::{DeploymentStatus, Phase};
use buddo_shared::model::id::DeploymentId;

use super::documents::Documents;

/// A container of ours, as Podman has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Found {
    /// Its name.
    pub(crate) name: String,
    /// What its labels say.
    pub(crate) identity: Identity,
    /// Where it is published.
    pub(crate) address: Ipv4Addr,
    /// It runs and answers.
    pub(crate) answers: bool,
}

/// The host.
#[derive(Debug)]
pub(crate) struct Seen<'a> {
    /// All containers with our labels.
    pub(crate) containers: Vec<Found>,
    /// Names of secrets.
    pub(crate) secrets: Vec<&'a str>,
    /// The live table in force.
    pub(crate) table: &'a LiveTable,
    /// What the agent reports of each deployment.
    pub(crate) levels: BTreeMap<DeploymentId, &'a DeploymentStatus>,
}

/// The outcomes a revision may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fate {
    /// It may be live.
    pub(crate) may_live: bool,
    /// It may have been given up.
    pub(crate) may_fail: bool,
}

/// What is not yet as the document says; `None`: everything is.
pub(crate) fn what_is_missing(
    documents: &Documents,
    seen: &Seen<'_>,
    fate: impl Fn(&DeploymentSpec) -> Fate,
) -> Option<String> {
    let mut expected = BTreeSet::new();
    let mut targets = BTreeMap::new();
    for desired in documents.wanted.values() {
        match settled(seen, desired, fate(desired)) {
            Ok((containers, target)) => {
                expected.extend(containers.into_iter().map(|found| found.name.as_str()));
                targets.insert(desired.subdomain.to_string(), target);
            }
            Err(words) => {
                return Some(format!("{} r{}: {words}", desired.subdomain, desired.revision));
            }
        }
    }
    let orphan = seen.containers.iter().find(|found| !expected.contains(found.name.as_str()));
    if let Some(orphan) = orphan {
        return Some(format!("the container {} is left", orphan.name));
    }
    let used: BTreeSet<_> = seen
        .containers
        .iter()
        .map(|found| (found.identity.workload, found.identity.revision))
        .collect();
    let mut owned = seen.secrets.iter().filter_map(|name| Some((name, secret_owner(name)?)));
    if let Some((orphan, _)) = owned.find(|(_, owner)| !used.contains(owner)) {
        return Some(format!("the secret {orphan} is left"));
    }
    if seen.table.apps != targets {
        return Some(format!("the table says {:?}, not {targets:?}", seen.table.apps));
    }
    None
}

type Settled<'a> = (Vec<&'a Found>, Target);

fn settled<'a>(
    seen: &'a Seen<'_>,
    desired: &DeploymentSpec,
    fate: Fate,
) -> Result<Settled<'a>, String> {
    let Some(level) = seen.levels.get(&desired.id) else {
        return Err("nothing is said of it".to_owned());
    };
    if level.revision != desired.revision {
        return Err(format!("the last report is of r{}", level.revision));
    }
    match (desired.run, level.phase) {
        (RunState::Stopped, Phase::Stopped) => Ok((Vec::new(), Target::Stopped)),
        (RunState::Suspended, Phase::Stopped) => Ok((Vec::new(), Target::Suspended)),
        (RunState::Running, Phase::Live) => {
            if level.serving != Some(desired.revision) {
                return Err(format!("is live and served by {:?}", level.serving));
            }
            if !fate.may_live {
                return Err("is said to be live, and cannot be".to_owned());
            }
            whole(desired, level)?;
            serving(seen, desired, level)
        }
        (RunState::Running, Phase::Failed) => {
            if !fate.may_fail {
                return Err(format!("is good and was given up: {:?}", level.failure));
            }
            if level.failure.is_none() {
                return Err("failed without a reason".to_owned());
            }
            match (level.rolled_back_to, level.serving) {
                (Some(_), None) => Err("is being rolled back".to_owned()),
                (Some(back), Some(other)) if back != other => {
                    Err(format!("rolled back to r{back}, and r{other} serves"))
                }
                (_, Some(_)) => serving(seen, desired, level),
                // Other services may have come up all the same.
                (None, None) => {
                    let (containers, _) = serving(seen, desired, level)?;
                    Ok((containers, Target::Stopped))
                }
            }
        }
        (_, phase) => Err(format!("is reported as {phase:?}, {:?}", level.failure)),
    }
}

/// Each replica of each service serves the desired content.
fn whole(desired: &DeploymentSpec, level: &DeploymentStatus) -> Result<(), String> {
    for service in &desired.services {
        let status = level.services.iter().find(|status| status.name == service.name);
        let replicas = status.map_or(&[][..], |status| &status.replicas);
        let right = replicas.iter().filter(|replica| replica.serving == Some(service.revision));
        if right.count() != usize::from(service.replicas)
            || level.services.len() != desired.services.iter().len()
        {
            return Err(format!("is said to be live with {:?}", level.services));
        }
    }
    Ok(())
}

/// What serves according to the report, and where visitors are to be sent.
fn serving<'a>(
    seen: &'a Seen<'_>,
    desired: &DeploymentSpec,
    level: &DeploymentStatus,
) -> Result<Settled<'a>, String> {
    let (mut containers, mut addresses) = (Vec::new(), Vec::new());
    for service in &level.services {
        for replica in &service.replicas {
            let workload = WorkloadId {
                deployment: level.id,
                service: service.name,
                replica: replica.replica,
            };
            let Some(revision) = replica.serving else { continue };
            let mut found = seen.containers.iter().filter(|found| {
                (found.identity.workload, found.identity.revision) == (workload, revision)
            });
            match (found.next(), found.next()) {
                (Some(found), None) if found.answers => {
                    containers.push(found);
                    if service.name == desired.services.public().name {
                        addresses.push(found.address);
                    }
                }
                (first, second) => {
                    return Err(format!(
                        "{workload} is said to be served by r{revision}, and there are {first:?} \
                         and {second:?}"
                    ));
                }
            }
        }
    }
    Ok((containers, Target::Live { addresses: addresses.into() }))
}
