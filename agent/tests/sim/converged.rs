//! Whether everything is as the last document says: containers, secrets, table, routes, reports.

use std::collections::{BTreeMap, BTreeSet};

use buddo_agent::ports::{ContainerState, Target};
use buddo_agent::step::secret_owner;
use buddo_shared::manifest::{Desired, RunState};
use buddo_shared::report::{DeploymentStatus, Phase, ReportBody};
use tokio::time::Instant;

use crate::agent::render;
use crate::podman::{Boxed, short};
use crate::world::{App, Registry, State};

/// What is not yet as it shall be. `strict`: a good revision must be live, whatever happened.
pub(crate) fn what_is_missing(state: &State, strict: bool) -> Option<String> {
    if state.books.acked < state.books.generation {
        return Some("the document is not acknowledged".to_owned());
    }
    let mut expected: BTreeSet<String> = BTreeSet::new();
    let mut secrets: BTreeSet<String> = BTreeSet::new();
    let mut targets = BTreeMap::new();
    for desired in state.books.wanted.values() {
        match settled(state, desired, strict) {
            Ok((container, target)) => {
                targets.insert(desired.subdomain.to_string(), target);
                let Some((name, found)) = container else { continue };
                expected.insert(name.clone());
                let identity = found.identity?;
                let used = state.engine.secrets.keys().filter(|secret| {
                    secret_owner(secret) == Some((identity.deployment, identity.revision))
                });
                secrets.extend(used.cloned());
            }
            Err(words) => {
                return Some(format!("{} r{}: {words}", desired.subdomain, desired.revision));
            }
        }
    }
    let ours = state.engine.containers.iter().filter(|(_, c)| c.identity.is_some());
    let orphan = ours.map(|(name, _)| name).find(|name| !expected.contains(*name));
    if let Some(orphan) = orphan {
        return Some(format!("the container {} is left", short(orphan)));
    }
    let ours = state.engine.secrets.keys().filter(|name| secret_owner(name).is_some());
    let ours = ours.filter(|name| !state.engine.strays.contains(*name));
    if let Some(orphan) = ours.into_iter().find(|name| !secrets.contains(*name)) {
        return Some(format!("the secret {} is left", short(orphan)));
    }
    if state.edge.table.apps != targets {
        return Some(format!("the table says {:?}, not {targets:?}", state.edge.table.apps));
    }
    if !matches!(&state.edge.file, crate::caddy::File::Table(table) if *table == state.edge.table) {
        return Some("the table's file is not what the resolver says".to_owned());
    }
    let domains = state.books.wanted.values().filter(|desired| !desired.domains.is_empty());
    let domains = domains.map(|d| (d.id, (d.subdomain.clone(), d.domains.clone()))).collect();
    let zone = buddo_shared::name::HostName::parse("apps.example").expect("valid");
    if state.edge.routes != render(&zone, &domains).files {
        return Some(format!("Caddy's routes are {:?}", state.edge.routes));
    }
    let known: BTreeSet<_> = state.books.wanted.values().map(|desired| desired.id).collect();
    let gone = state.books.levels.iter().find(|(id, body)| {
        // A deployment that went while its database was lost is remembered by nobody.
        !known.contains(id) && !matches!(body, ReportBody::Removed { .. }) && !state.ever_lost
    });
    gone.map(|(id, body)| {
        format!("{} is gone, and its last report is {body:?}", short(&id.to_string()))
    })
}

type Settled<'a> = (Option<(&'a String, &'a Boxed)>, Target);

fn settled<'a>(state: &'a State, desired: &Desired, strict: bool) -> Result<Settled<'a>, String> {
    let level = match state.books.levels.get(&desired.id) {
        Some(ReportBody::Deployment(status)) => status,
        other => return Err(format!("its last report is {other:?}")),
    };
    if level.revision != desired.revision {
        return Err(format!("the last report is of r{}", level.revision));
    }
    match desired.run {
        RunState::Stopped | RunState::Suspended => {
            let page =
                if desired.run == RunState::Stopped { Target::Stopped } else { Target::Suspended };
            match level.phase {
                Phase::Stopped => Ok((None, page)),
                phase => Err(format!("is reported as {phase:?}")),
            }
        }
        RunState::Running => match level.phase {
            Phase::Live => live(state, desired, level),
            Phase::Failed => failed(state, desired, level, strict),
            phase => Err(format!("is reported as {phase:?}, {:?}", level.failure)),
        },
    }
}

fn serving<'a>(state: &'a State, level: &DeploymentStatus) -> Result<Settled<'a>, String> {
    let mut found = state.engine.containers.iter().filter(|(_, c)| {
        c.identity.is_some_and(|i| i.deployment == level.id && Some(i.revision) == level.serving)
    });
    let (first, second) = (found.next(), found.next());
    match (first, second) {
        (Some((name, c)), None)
            if c.state == ContainerState::Running && c.answers(Instant::now()) =>
        {
            Ok((Some((name, c)), Target::Live { addresses: vec![*c.address.ip()] }))
        }
        (first, second) => Err(format!(
            "is said to be served by {:?}, and there are {:?} and {:?}",
            level.serving,
            first.map(|(name, c)| (short(name), c.state)),
            second.map(|(name, _)| short(name)),
        )),
    }
}

fn live<'a>(
    state: &'a State,
    desired: &Desired,
    level: &DeploymentStatus,
) -> Result<Settled<'a>, String> {
    if level.serving != Some(desired.revision) {
        return Err(format!("is live and served by {:?}", level.serving));
    }
    let (app, registry) = state.app(desired.id, desired.revision);
    if matches!(app, App::Silent | App::Exits(_))
        || matches!(registry, Registry::Lacks | Registry::Vanishes)
    {
        return Err(format!("is said to be live and does {app:?}, {registry:?}"));
    }
    let image = crate::coordinator::image_of(desired);
    if !state.engine.images.contains(&image) {
        return Err(format!("runs without its image {image}"));
    }
    serving(state, level)
}

fn failed<'a>(
    state: &'a State,
    desired: &Desired,
    level: &DeploymentStatus,
    strict: bool,
) -> Result<Settled<'a>, String> {
    let (app, registry) = state.app(desired.id, desired.revision);
    let bad = matches!(app, App::Silent | App::Exits(_))
        || matches!(registry, Registry::Lacks | Registry::Vanishes);
    let hurt = state.hurt.contains(&(desired.id, desired.revision)) && !strict;
    if !bad && !hurt {
        return Err(format!("is good and was given up: {:?}", level.failure));
    }
    if level.failure.is_none() {
        return Err("failed without a reason".to_owned());
    }
    match level.serving {
        Some(_) => serving(state, level),
        None => Ok((None, Target::Stopped)),
    }
}
