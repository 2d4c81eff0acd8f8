//! Whether a host is as its last document says: containers, secrets, the live table. The same check
//! for the simulated host and for a real one.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use buddo_agent::model::container::Identity;
use buddo_agent::model::live_table::{LiveTable, Target};
use buddo_agent::model::step::secret_owner;
use buddo_shared::id::DeploymentId;
use buddo_shared::manifest::{DeploymentSpec, RunState};
use buddo_shared::report::{DeploymentStatus, Phase};

use super::ledger::Ledger;

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
    ledger: &Ledger,
    seen: &Seen<'_>,
    fate: impl Fn(&DeploymentSpec) -> Fate,
) -> Option<String> {
    let mut expected = BTreeSet::new();
    let mut targets = BTreeMap::new();
    for desired in ledger.wanted.values() {
        match settled(seen, desired, fate(desired)) {
            Ok((container, target)) => {
                expected.extend(container.map(|found| found.name.as_str()));
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
        .map(|found| (found.identity.deployment, found.identity.revision))
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

type Settled<'a> = (Option<&'a Found>, Target);

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
        (RunState::Stopped, Phase::Stopped) => Ok((None, Target::Stopped)),
        (RunState::Suspended, Phase::Stopped) => Ok((None, Target::Suspended)),
        (RunState::Running, Phase::Live) => {
            if level.serving != Some(desired.revision) {
                return Err(format!("is live and served by {:?}", level.serving));
            }
            if !fate.may_live {
                return Err("is said to be live, and cannot be".to_owned());
            }
            serving(seen, level)
        }
        (RunState::Running, Phase::Failed) => {
            if !fate.may_fail {
                return Err(format!("is good and was given up: {:?}", level.failure));
            }
            if level.failure.is_none() {
                return Err("failed without a reason".to_owned());
            }
            match (level.put_back, level.serving) {
                (Some(_), None) => Err("is being put back".to_owned()),
                (Some(back), Some(other)) if back != other => {
                    Err(format!("r{back} is put back, and r{other} serves"))
                }
                (_, Some(_)) => serving(seen, level),
                (None, None) => Ok((None, Target::Stopped)),
            }
        }
        (_, phase) => Err(format!("is reported as {phase:?}, {:?}", level.failure)),
    }
}

fn serving<'a>(seen: &'a Seen<'_>, level: &DeploymentStatus) -> Result<Settled<'a>, String> {
    let mut found = seen.containers.iter().filter(|found| {
        found.identity.deployment == level.id && Some(found.identity.revision) == level.serving
    });
    match (found.next(), found.next()) {
        (Some(found), None) if found.answers => {
            Ok((Some(found), Target::Live { addresses: vec![found.address] }))
        }
        (first, second) => Err(format!(
            "is said to be served by {:?}, and there are {first:?} and {second:?}",
            level.serving
        )),
    }
}
