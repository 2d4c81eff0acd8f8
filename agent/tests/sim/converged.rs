//! Whether everything is as the last document says: the story's check, plus what only the
//! simulation knows: acknowledgements, files, routes, reports.

use std::collections::BTreeSet;

use buddo_agent::model::container::{ContainerState, Identity};
use buddo_agent::model::workload::WorkloadId;
use buddo_shared::host_wire::manifest::DeploymentSpec;
use buddo_shared::host_wire::report::{Failure, Phase, ReportBody};
use tokio::time::Instant;

use crate::agent::render;
use crate::podman::short;
use crate::story::converged::{self, Fate, Found, Seen};
use crate::world::State;

/// What differs from the desired state. `strict`: a good revision must be live, whatever happened.
pub(crate) fn what_is_missing(state: &State, strict: bool) -> Option<String> {
    if state.books.acked < state.books.generation {
        return Some("the document is not acknowledged".to_owned());
    }
    let fate = |desired: &DeploymentSpec| fate_of(state, desired, strict);
    let missing = converged::what_is_missing(&state.books.documents, &seen(state), fate);
    missing.or_else(|| host(state)).or_else(|| state.auto_rollbacks.unreported())
}

fn seen(state: &State) -> Seen<'_> {
    let now = Instant::now();
    let containers = state.engine.containers.iter().filter_map(|(name, container)| {
        Some(Found {
            name: name.clone(),
            identity: container.identity?,
            address: *container.address.ip(),
            answers: container.answers(now),
        })
    });
    let secrets = state.engine.secrets.keys().filter(|name| !state.engine.strays.contains(*name));
    let levels = state.books.levels.iter().filter_map(|(id, body)| match body {
        ReportBody::Deployment(status) => Some((*id, status)),
        _ => None,
    });
    Seen {
        containers: containers.collect(),
        secrets: secrets.map(String::as_str).collect(),
        table: &state.edge.table,
        levels: levels.collect(),
    }
}

fn fate_of(state: &State, desired: &DeploymentSpec, strict: bool) -> Fate {
    let key = (desired.id, desired.services.public().revision);
    let (app, registry) = state.app(key.0, key.1);
    let turned_bad = state.apps.get(&key).is_some_and(|(app, _)| app.turns_bad());
    let here = state.engine.images.contains(&crate::coordinator::image_of(desired));
    let bad = !app.starts() || !registry.gives();
    let hurt = state.is_hurt(desired.id, desired.revision) && !strict;
    // An image that is on the host needs no registry any more.
    Fate { may_live: app.starts() && here, may_fail: bad || hurt || turned_bad }
}

/// What differs from the desired state of the host.
fn host(state: &State) -> Option<String> {
    if !matches!(&state.edge.file, crate::caddy::File::Table(table) if *table == state.edge.table) {
        return Some("the table's file is not what the resolver says".to_owned());
    }
    let wanted = || state.books.documents.wanted.values();
    let domains = wanted().filter(|desired| !desired.domains.is_empty());
    let domains = domains.map(|d| (d.id, (d.subdomain.clone(), d.domains.clone()))).collect();
    let zone = buddo_shared::model::name::HostName::parse("apps.example").expect("valid");
    if let Some(name) = without_secrets(state) {
        return Some(format!("{} could not be started again: it lacks secrets", short(name)));
    }
    if let Some(name) = state.engine.orphans.keys().next() {
        return Some(format!("{} runs, unknown to Podman", short(name)));
    }
    if state.edge.routes != render(&zone, &domains).files {
        return Some(format!("Caddy's routes are {:?}", state.edge.routes));
    }
    if let Some(idle) = wanted().find_map(|desired| idle_fallback(state, desired)) {
        return Some(idle);
    }
    let known: BTreeSet<_> = wanted().map(|desired| desired.id).collect();
    let gone = state.books.levels.iter().find(|(id, body)| {
        // A deployment that was removed while its database was lost is not remembered.
        !known.contains(id) && !matches!(body, ReportBody::Removed { .. }) && !state.ever_lost
    });
    gone.map(|(id, body)| {
        format!("{} is gone, and its last report is {body:?}", short(&id.to_string()))
    })
}

/// A running container that could not be restarted with the present secrets. Those of a revision
/// that the document no longer describes cannot be restored: it serves because every newer one
/// failed.
fn without_secrets(state: &State) -> Option<&str> {
    let engine = &state.engine;
    let running = engine.containers.iter().filter(|(_, c)| c.state == ContainerState::Running);
    let lacks = |name: &String| engine.torn || !engine.secrets.contains_key(name);
    let running = running.filter(|(_, c)| c.identity.is_some_and(|i| state.describes(i)));
    running.filter(|(_, c)| c.reads.iter().any(lacks)).map(|(name, _)| name.as_str()).next()
}

impl State {
    /// Whether the document describes this container's revision.
    pub(crate) fn describes(&self, identity: Identity) -> bool {
        let WorkloadId { deployment, service, .. } = identity.workload;
        self.books.documents.wanted.values().filter(|desired| desired.id == deployment).any(
            |desired| {
                let fallback = desired
                    .auto_rollback
                    .as_ref()
                    .map(|auto_rollback| &auto_rollback.fallback.services);
                let mut both = std::iter::once(&desired.services).chain(fallback);
                both.any(|s| s.get(service).is_some_and(|s| s.revision == identity.revision))
            },
        )
    }
}

/// Whether there is no other part whose fate could explain that of this one.
pub(crate) fn is_one_container(desired: &DeploymentSpec) -> bool {
    matches!(desired.services.as_slice(), [only] if only.replicas == 1)
}

/// Rolled back, nothing serves, and the one before it could.
fn idle_fallback(state: &State, desired: &DeploymentSpec) -> Option<String> {
    let Some(ReportBody::Deployment(status)) = state.books.levels.get(&desired.id) else {
        return None;
    };
    let by_auto_rollback = |failure: &Failure| failure.code.starts_with("guard_");
    let rolled_back_to =
        status.phase == Phase::Failed && status.failure.as_ref().is_some_and(by_auto_rollback);
    let auto_rollback = desired.auto_rollback.as_ref().filter(|_| is_one_container(desired))?;
    let fallback = auto_rollback.fallback.services.public().revision;
    let (app, registry) = state.app(desired.id, fallback);
    let can_run = app.starts() && registry.gives() && !state.hurt.contains(&(desired.id, fallback));
    (rolled_back_to && status.serving.is_none() && can_run).then(|| {
        format!(
            "{} was rolled back and nothing serves, though r{fallback} could",
            desired.subdomain
        )
    })
}
