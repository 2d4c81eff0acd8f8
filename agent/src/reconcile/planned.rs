//! All workloads of one pass, planned.

use std::collections::{BTreeMap, BTreeSet};

use buddo_runtime::clock::Clock as _;
use buddo_shared::host_wire::manifest::RunState;
use buddo_shared::model::id::DeploymentId;
use buddo_shared::model::workload::ServiceName;
use tokio::time::Instant;

use super::Reconciler;
use super::edge::failed_requests_of;
use super::observe::Observed;
use super::operations::Asked;
use super::pass::asked;
use crate::model::document::Document;
use crate::model::health::Trackers;
use crate::model::live_table::Target;
use crate::model::spec::WorkloadSpec;
use crate::model::workload::WorkloadId;
use crate::plan::replicas::{Replicas, share_digest};
use crate::plan::rollback_watch::failed_requests::Failed;
use crate::plan::state::WorkloadState;
use crate::plan::{Plan, Replacing, Rules, Seen, View, deployment, plan};
use crate::ports::World;

/// One workload in one pass.
pub(super) struct Planned<'a> {
    pub(super) id: WorkloadId,
    pub(super) desired: Option<&'a WorkloadSpec>,
    pub(super) containers: Vec<Seen<'a>>,
    pub(super) plan: Plan,
    /// What it was asked to be when it was planned.
    pub(super) asked: Asked,
}

impl Planned<'_> {
    /// Whether the live table has no say in it: visitors do not reach it, and did not before.
    pub(super) fn is_internal(&self) -> bool {
        self.desired.is_some_and(|desired| !desired.public())
    }
}

/// All workloads of a pass, by deployment: neighbours, in the order of their ids.
pub(super) fn by_deployment<'a, 'b>(
    planned: &'b [Planned<'a>],
) -> impl Iterator<Item = (DeploymentId, &'b [Planned<'a>])> {
    let deployments = planned.chunk_by(|a, b| a.id.deployment == b.id.deployment);
    deployments.filter_map(|workloads| Some((workloads.first()?.id.deployment, workloads)))
}

/// Where visitors of a deployment go. A replica that is no longer wanted has a target only while it
/// stands in for those that are.
pub(super) fn target_of(workloads: &[Planned<'_>]) -> Option<Target> {
    let public =
        workloads.iter().filter(|workload| workload.desired.is_none_or(WorkloadSpec::public));
    deployment::target(public.map(|workload| workload.plan.target.as_ref()))
}

/// Whether a replica that is no longer wanted is one of the public service, of which no wanted
/// replica answers visitors. Those come first in the order of the ids, so they are `planned`.
fn stands_in(id: WorkloadId, document: &Document, planned: &[Planned<'_>]) -> bool {
    let deployment = document.entries().get(&id.deployment);
    let public = deployment.is_some_and(|deployment| {
        deployment.run == RunState::Running && deployment.services.public().name == id.service
    });
    let of_service =
        |other: WorkloadId| (other.deployment, other.service) == (id.deployment, id.service);
    let mut wanted = planned
        .iter()
        .rev()
        .take_while(|workload| of_service(workload.id))
        .filter(|workload| workload.desired.is_some());
    public && !wanted.any(|workload| matches!(workload.plan.target, Some(Target::Live { .. })))
}

/// The services with several replicas, which first agree on the bytes that they run.
fn replicas(
    document: &Document,
    states: &mut BTreeMap<WorkloadId, WorkloadState>,
) -> BTreeMap<(DeploymentId, ServiceName), Replicas> {
    let mut all = BTreeMap::new();
    for desired in document.entries().values() {
        for service in desired.services.iter().filter(|service| service.replicas > 1) {
            share_digest(desired.id, service, states);
            let replicas = Replicas::of(desired.id, service, states);
            all.insert((desired.id, service.name), replicas);
        }
    }
    all
}

impl<W: World> Reconciler<W> {
    pub(super) fn plan_all<'a>(
        &mut self,
        document: &'a Document,
        observed: &'a Observed,
        health: &'a Trackers,
        now: Instant,
    ) -> Vec<Planned<'a>> {
        let rules = Rules {
            limits: self.inputs.facts.borrow_and_update().limits,
            drain: self.settings.drain.clone(),
            network: self.settings.network.clone(),
            troubled_until: self.host_trouble.until(),
            many_sick: self.host_trouble.many_sick(),
            secrets_known: self.secrets.known,
        };
        // A clock that is behind the signed time is wrong.
        let wall = self.world.clock().now().max(document.manifest().issued_at);
        let failed_requests = self.edge.failed_requests();
        let (all, alone) = (replicas(document, &mut self.states), Replicas::default());
        let mut permits = self.host_trouble.permits(now);
        let mut waiting = BTreeSet::new();
        let mut planned = Vec::with_capacity(self.states.len());
        for (id, state) in &mut self.states {
            let desired = document.workloads().get(id);
            let containers: Vec<Seen<'a>> = observed
                .workloads
                .get(id)
                .into_iter()
                .flatten()
                .map(|container| Seen {
                    container,
                    tracker: health.get(&container.name),
                    limits: self.lookouts.limits(container, rules.limits),
                })
                .collect();
            let busy = self.operations.busy(*id);
            if let Some(service) = desired.map(WorkloadSpec::service) {
                let digest = service.digest.clone();
                state.persisted.digests.extend(digest.map(|digest| (service.revision, digest)));
            }
            // Only visitors' requests are logged.
            let watched =
                desired.filter(|desired| desired.public() && state.watches(desired.revision()));
            let counts = watched.map(|desired| {
                failed_requests_of(&failed_requests, desired.deployment(), document)
            });
            let failed = match &counts {
                Some(counts) => Failed {
                    counts: Some(counts),
                    gaps: &failed_requests.gaps,
                    known_since: failed_requests.known_since,
                },
                None => Failed::default(),
            };
            let kills = self.lookouts.kills(*id);
            let view = View {
                id: *id,
                desired,
                stands_in: desired.is_none() && stands_in(*id, document, &planned),
                containers: &containers,
                busy: &busy,
                rules: &rules,
                failed,
                kills: kills.as_ref(),
                replicas: all.get(&(id.deployment, id.service)).unwrap_or(&alone),
                permit: permits.permit(*id),
                now,
                wall,
                jitter: (self.world.jitter())(),
            };
            let plan = plan(state, &view);
            match plan.replacing {
                Some(Replacing::Begins) => permits.begins(*id),
                Some(Replacing::Waits) => {
                    waiting.insert(*id);
                }
                None => {}
            }
            let asked = asked(Some(state), desired);
            planned.push(Planned { id: *id, desired, containers, plan, asked });
        }
        self.host_trouble.wait(&waiting, now);
        planned
    }
}
