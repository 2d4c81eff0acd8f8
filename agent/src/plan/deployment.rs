//! What concerns a deployment as a whole: going back together, and what is said of all its
//! workloads at once. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;

use buddo_shared::host_wire::manifest::{DeploymentSpec, Services};
use buddo_shared::host_wire::report::{
    DeploymentStatus, Failure, Health, MAX_REPLICAS, MAX_SERVICES, Phase, ReplicaStatus,
    ServiceStatus,
};
use buddo_shared::model::id::{DeploymentId, Revision};
use buddo_shared::model::image::Digest;
use buddo_shared::model::workload::ServiceName;
use jiff::Timestamp;

use crate::model::live_table::{Addresses, Target};
use crate::model::spec::WorkloadSpec;
use crate::model::workload::WorkloadId;
use crate::plan::phase::Situation;
use crate::plan::state::WorkloadState;
use crate::plan::{messages, phase};

/// A revision goes back as a whole: once one workload of it was given up, those whose content it
/// changed are rolled back, too. Decided from what is persisted, so that it makes no difference
/// when the agent was restarted. Services that are the same in both revisions are left alone; one
/// that only the given-up revision has stays until the next document. Returns whether something
/// was decided.
pub fn roll_back_together(
    deployment: &Arc<DeploymentSpec>,
    states: &mut BTreeMap<WorkloadId, WorkloadState>,
) -> bool {
    let Some(auto_rollback) = &deployment.auto_rollback else { return false };
    let given_up = |spec: &WorkloadSpec| {
        let state = states.get(&spec.id())?;
        let failure = state.persisted.failures.get(&spec.revision())?;
        let by_itself = !state.was_rolled_back_too(spec.revision());
        // Content that the previous revision has, too, says nothing about this one.
        let before = auto_rollback.fallback.services.get(spec.service().name);
        let introduced = before.is_none_or(|before| before.revision != spec.revision());
        (by_itself && introduced).then(|| (spec.id(), failure.clone()))
    };
    let Some((culprit, failure)) = WorkloadSpec::of(deployment).find_map(|spec| given_up(&spec))
    else {
        return false;
    };
    let mut decided = false;
    for spec in WorkloadSpec::of(deployment).filter(|spec| spec.fallback().is_some()) {
        let Some(state) = states.get_mut(&spec.id()) else { continue };
        if !state.persisted.failures.contains_key(&spec.revision()) {
            let fallback = auto_rollback.fallback.revision;
            let failure = messages::rolled_back_together(culprit.service, fallback, &failure);
            state.roll_back_too(&spec, failure);
            decided = true;
        }
    }
    decided
}

/// What a pass knows of one workload.
#[derive(Debug, Clone)]
pub struct WorkloadFacts {
    pub id: WorkloadId,
    /// What is desired of it; `None`: it should not exist.
    pub desired: Option<WorkloadSpec>,
    /// The desired revision of its content, or what there is of one that should not exist.
    pub revision: Revision,
    /// As far as its visitors are concerned.
    pub phase: Phase,
    /// The revision of its content that answers.
    pub serving: Option<Revision>,
    pub health: Health,
    pub checked_at: Option<Timestamp>,
    pub digest: Option<Digest>,
    pub failure: Option<Failure>,
    pub container: Option<String>,
    pub restarts: u32,
    /// Auto rollback gave its revision up for what it did, and what it fell back to is usable.
    pub rolled_back: bool,
    /// It goes back only because another workload was given up.
    pub rolled_back_too: bool,
}

/// The status of a deployment of these workloads, in the order of their ids.
pub fn status(
    id: DeploymentId,
    desired: Option<&DeploymentSpec>,
    workloads: &[WorkloadFacts],
) -> DeploymentStatus {
    // What is left of services that the revision does not have says nothing about the revision.
    let counts = |facts: &&WorkloadFacts| desired.is_none() || facts.desired.is_some();
    let own = || workloads.iter().filter(counts);
    let mut names = own().map(|facts| facts.id.service);
    let first = names.next();
    let several = names.any(|name| Some(name) != first);
    let serving = serving(desired, workloads);
    let rolled_back = own().any(|facts| facts.rolled_back);
    DeploymentStatus {
        id,
        revision: desired.map_or_else(
            || own().map(|facts| facts.revision).max().unwrap_or(Revision::FIRST),
            |desired| desired.revision,
        ),
        phase: phase_of(own(), rolled_back, serving.is_some()),
        serving,
        health: own()
            .map(|facts| facts.health)
            .max_by_key(|h| badness(*h))
            .unwrap_or(Health::Unknown),
        checked_at: own().filter_map(|facts| facts.checked_at).max(),
        failure: failure(own(), several),
        rolled_back_to: desired
            .and_then(|desired| desired.auto_rollback.as_ref())
            .filter(|_| rolled_back)
            .map(|auto_rollback| auto_rollback.fallback.revision),
        restarts: own().fold(0, |sum, facts| sum.saturating_add(facts.restarts)),
        services: services(workloads),
    }
}

/// Visitors of a deployment are sent to all replicas of its public service that answer.
pub fn target<'a>(targets: impl IntoIterator<Item = Option<&'a Target>>) -> Option<Target> {
    let mut addresses = Addresses::new();
    let mut other = None;
    for target in targets.into_iter().flatten() {
        match target {
            Target::Live { addresses: more } => addresses.extend_from_slice(more),
            // Whoever is held is served soon, maybe by another replica.
            Target::Hold => other = Some(Target::Hold),
            Target::Stopped | Target::Suspended => other = other.or_else(|| Some(target.clone())),
        }
    }
    if addresses.is_empty() { other } else { Some(Target::Live { addresses }) }
}

/// The phase of the part that is furthest behind; 'failed' as soon as one part is given up, except
/// while visitors are not answered and will be again.
fn phase_of<'a>(
    workloads: impl Iterator<Item = &'a WorkloadFacts> + Clone,
    rolled_back: bool,
    answers: bool,
) -> Phase {
    let phases = || workloads.clone().map(|facts| facts.phase);
    let given_up = phases().any(|phase| phase == Phase::Failed);
    if !given_up {
        return phases().min_by_key(|phase| progress(*phase)).unwrap_or(Phase::Stopped);
    }
    // An app that does not answer, in any phase but this one, is on its way.
    let mut public =
        workloads.filter(|facts| facts.desired.as_ref().is_none_or(WorkloadSpec::public));
    let something_serves = public.any(|facts| facts.phase != Phase::Failed);
    phase::of(Situation::GivenUp { rolled_back, something_serves, answers })
}

/// How far a phase is. A part that stops holds back the word 'stopped', and one that is on its way
/// holds back 'live'.
fn progress(phase: Phase) -> u8 {
    match phase {
        Phase::Failed => 0,
        Phase::Stopping => 1,
        Phase::Accepted => 2,
        Phase::Pulling => 3,
        Phase::Starting => 4,
        Phase::Probing => 5,
        Phase::Routing => 6,
        Phase::Live => 7,
        Phase::Stopped => 8,
    }
}

fn badness(health: Health) -> u8 {
    match health {
        Health::Healthy => 0,
        Health::Unknown => 1,
        Health::Unhealthy => 2,
    }
}

/// The revision of the deployment that answers visitors.
///
/// A public service that did not change belongs to both revisions: it shows the desired one, unless
/// that was given up and the other parts go back.
fn serving(desired: Option<&DeploymentSpec>, workloads: &[WorkloadFacts]) -> Option<Revision> {
    let Some(desired) = desired else {
        return workloads.iter().find_map(|facts| facts.serving);
    };
    let public = desired.services.public();
    // Also one that is no longer wanted: it answers only while no other does.
    let answering = workloads
        .iter()
        .filter(|facts| facts.id.service == public.name)
        .filter_map(|facts| facts.serving);
    // While replicas serve different contents, the change is not done.
    let serving = answering.max_by_key(|serving| *serving != public.revision)?;
    let has = |services: &Services| {
        services.get(public.name).is_some_and(|service| service.revision == serving)
    };
    let given_up = workloads.iter().any(|facts| {
        facts.desired.is_some() && (facts.phase == Phase::Failed || facts.rolled_back_too)
    });
    let before = desired
        .auto_rollback
        .as_ref()
        .map(|auto_rollback| &auto_rollback.fallback)
        .filter(|f| has(&f.services));
    match before {
        Some(before) if given_up || !has(&desired.services) => Some(before.revision),
        _ if has(&desired.services) => Some(desired.revision),
        _ => Some(serving),
    }
}

/// The failure of the part that was given up, or else of one that something holds up.
fn failure<'a>(
    workloads: impl Iterator<Item = &'a WorkloadFacts> + Clone,
    several: bool,
) -> Option<Failure> {
    let rank = |facts: &WorkloadFacts| match facts.phase {
        Phase::Failed if !facts.rolled_back_too => 0,
        Phase::Failed => 1,
        _ if !facts.rolled_back_too => 2,
        _ => 3,
    };
    let first =
        workloads.filter(|facts| facts.failure.is_some()).min_by_key(|facts| rank(facts))?;
    let failure = first.failure.clone()?;
    Some(if several { messages::of_service(first.id.service, failure) } else { failure })
}

fn services(workloads: &[WorkloadFacts]) -> Vec<ServiceStatus> {
    let mut services: BTreeMap<ServiceName, Vec<&WorkloadFacts>> = BTreeMap::new();
    for facts in workloads {
        services.entry(facts.id.service).or_default().push(facts);
    }
    // Kept for each deployment of the host: `collect` would leave room for three more.
    let mut told = Vec::with_capacity(services.len().min(MAX_SERVICES));
    let services = services.into_iter().take(MAX_SERVICES);
    told.extend(services.filter_map(|(name, replicas)| service(name, &replicas)));
    told
}

fn service(name: ServiceName, replicas: &[&WorkloadFacts]) -> Option<ServiceStatus> {
    // Replicas that a change of their number removes say nothing about the content.
    let own = || {
        let left = replicas.iter().all(|facts| facts.desired.is_none());
        replicas.iter().copied().filter(move |facts| left || facts.desired.is_some())
    };
    Some(ServiceStatus {
        name,
        revision: own().map(|facts| facts.revision).max()?,
        phase: own().map(|facts| facts.phase).min_by_key(|phase| progress(*phase))?,
        digest: own().find_map(|facts| facts.digest.clone()),
        failure: failure(own(), false),
        replicas: replicas.iter().take(MAX_REPLICAS).map(|facts| replica(facts)).collect(),
    })
}

fn replica(facts: &WorkloadFacts) -> ReplicaStatus {
    ReplicaStatus {
        replica: facts.id.replica,
        serving: facts.serving,
        health: facts.health,
        checked_at: facts.checked_at,
        container: facts.container.clone(),
        restarts: facts.restarts,
    }
}

#[cfg(test)]
mod tests;
