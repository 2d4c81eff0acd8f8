//! What a pass publishes: reports to the coordinator, the snapshot to people on the host.

use std::sync::Arc;
use std::time::Duration;

use buddo_runtime::clock::Clock as _;
use buddo_shared::host_wire::manifest::{DeploymentSpec, Strategy};
use buddo_shared::host_wire::report::{DeploymentStatus, Health, HostStatus, Phase, ReportBody};
use buddo_shared::model::id::Revision;
use tokio::time::Instant;

use crate::adapters::store::Entry;
use crate::model::cgroup::CgroupCounts;
use crate::model::document::Document;
use crate::model::host_facts::LimitRule;
use crate::model::live_table::Target;
use crate::model::snapshot::{ContainerSnapshot, DeploymentSnapshot, ExitSnapshot, HostSnapshot};
use crate::model::spec::WorkloadSpec;
use crate::model::step::Step;
use crate::model::workload::{Identity, container_name};
use crate::plan::deployment::{self, WorkloadFacts};
use crate::plan::state::WorkloadState;
use crate::plan::{EDGE_LAG, messages, phase};
use crate::ports::{Containers as _, World};
use crate::reconcile::Reconciler;
use crate::reconcile::planned::{Planned, by_deployment, target_of};
use crate::reconcile::report::HOST;
use crate::reconcile::routing::Settled;

const LOSES_BODIES: &str = "this Caddy answers 502 to requests with a body while an app is \
                            redeployed by `recreate`; 2.11.2 and later hold them";
const NO_EVENTS: &str = "Podman's events do not arrive; containers are listed often";

impl<W: World> Reconciler<W> {
    /// Reports the current state and shows it locally. Returns when to look again.
    pub(super) fn show(
        &self,
        document: Option<&Document>,
        planned: &[Planned<'_>],
        now: Instant,
    ) -> Option<Instant> {
        let mut due: Option<Instant> = None;
        let mut snapshots = Vec::new();
        for (id, workloads) in by_deployment(planned) {
            if workloads.iter().all(|workload| workload.plan.gone) {
                continue;
            }
            let desired = document.and_then(|document| document.entries().get(&id));
            let host = desired
                .zip(document)
                .map(|(desired, document)| desired.subdomain.host_in(&document.manifest().zone));
            let mut facts = Vec::with_capacity(workloads.len());
            for workload in workloads.iter().filter(|workload| !workload.plan.gone) {
                let Some(state) = self.states.get(&workload.id) else { continue };
                let (known, look) = self.facts_of(workload, state, host.as_deref(), now);
                facts.push(known);
                due = due.into_iter().chain(look).min();
            }
            let status = deployment::status(id, desired.map(AsRef::as_ref), &facts);
            if desired.is_some() {
                self.status.set([Entry {
                    subject: id.to_string(),
                    body: ReportBody::Deployment(status.clone()),
                    last: false,
                }]);
            }
            let parts: Vec<_> =
                workloads.iter().filter_map(|workload| self.part_of(workload, now)).collect();
            snapshots.push(snapshot_of(desired.map(AsRef::as_ref), workloads, parts, status, host));
        }
        let host = self.host_status(document);
        self.status.set([Entry {
            subject: HOST.to_owned(),
            body: ReportBody::Host(host.clone()),
            last: false,
        }]);
        let joined = self.settings.joined;
        self.snapshot.send_replace(Some(Arc::new(HostSnapshot {
            joined,
            host,
            deployments: snapshots,
        })));
        due
    }

    /// Podman does not answer: shows the deployments as the last pass saw them.
    pub(super) fn show_trouble(&self, document: &Document) {
        let host = self.host_status(Some(document));
        self.status.set([Entry {
            subject: HOST.to_owned(),
            body: ReportBody::Host(host.clone()),
            last: false,
        }]);
        let previous = self.snapshot.borrow().clone();
        let deployments = previous.map(|p| p.deployments.clone()).unwrap_or_default();
        let joined = self.settings.joined;
        self.snapshot.send_replace(Some(Arc::new(HostSnapshot { joined, host, deployments })));
    }

    /// What is known of a workload, and when more is.
    fn facts_of(
        &self,
        workload: &Planned<'_>,
        state: &WorkloadState,
        host: Option<&str>,
        now: Instant,
    ) -> (WorkloadFacts, Option<Instant>) {
        let plan = &workload.plan;
        let live = state.persisted.live;
        let revision = workload.desired.map(WorkloadSpec::revision);
        let revision = revision.or(live.map(|l| l.revision)).or_else(|| {
            let mut identities = workload.containers.iter().filter_map(|c| c.identity);
            identities.next().map(|identity| identity.revision)
        });
        let revision = revision.unwrap_or(Revision::FIRST);
        let mut containers = workload.containers.iter();
        let container = containers.find(|c| plan.container.as_ref() == Some(&c.name));
        let tracker = container.and_then(|container| container.tracker);
        let answers = matches!(plan.target, Some(Target::Live { .. }));
        let mut failure = plan.failure.clone();
        let mut ready = true;
        let mut due = state.restarts.forgotten_at(now);
        // Only what visitors reach has a route, a certificate, and a place in the live table.
        let edge = host.filter(|_| !workload.is_internal());
        if let (Phase::Live, true, Some(host)) = (plan.phase, answers, edge) {
            match self.edge.settled(workload.id.deployment, host, now) {
                Settled::Yes => {}
                Settled::NotYet(at) => {
                    ready = false;
                    due = due.into_iter().chain([at]).min();
                }
                Settled::Warning(warning) => failure = failure.or(Some(warning)),
            }
            // Live means that a visitor who comes now is answered by it.
            let known = state.in_force.map(|since| since + EDGE_LAG);
            if known.is_none_or(|at| at > now) {
                ready = false;
                due = due.into_iter().chain(known).min();
            }
        }
        let facts = WorkloadFacts {
            id: workload.id,
            desired: workload.desired.cloned(),
            revision,
            phase: phase::for_visitors(plan.phase, ready),
            serving: live.filter(|_| answers).map(|live| live.revision),
            health: tracker.map_or(Health::Unknown, |tracker| tracker.level().health()),
            checked_at: tracker.and_then(|tracker| tracker.checked_at),
            digest: state.persisted.digests.get(&revision).cloned(),
            failure,
            container: plan.container.clone(),
            restarts: live.map_or(0, |live| state.restarts.lately(live.revision, now)),
            rolled_back: plan.fallback.is_some(),
            rolled_back_too: state.was_rolled_back_too(revision),
        };
        (facts, due)
    }

    /// A workload's part of its deployment's snapshot.
    fn part_of(&self, workload: &Planned<'_>, now: Instant) -> Option<Part> {
        let state = self.states.get(&workload.id).filter(|_| !workload.plan.gone)?;
        // Operations started in this pass are shown, too.
        let busy = self.operations.busy(workload.id);
        let containers = workload.containers.iter().map(|container| {
            let tracker = container.tracker;
            ContainerSnapshot {
                name: container.name.clone(),
                state: format!("{:?}", container.state).to_lowercase(),
                address: container.address,
                drains: state.retiring.contains_key(&container.name),
                health: tracker.map(|t| format!("{:?}", t.level()).to_lowercase()),
                problem: tracker.and_then(|t| t.reason.clone()),
            }
        });
        let orphans = state.orphans.iter().map(|(&slot, &revision)| ContainerSnapshot {
            name: container_name(&Identity { workload: workload.id, revision, slot }),
            state: "orphaned".to_owned(),
            address: None,
            drains: true,
            health: None,
            problem: None,
        });
        let until = |at: Instant| at.saturating_duration_since(now);
        Some(Part {
            containers: containers.chain(orphans).collect(),
            doing: busy.serve.iter().chain(&busy.roll).map(Step::to_string).collect(),
            planned: workload.plan.all_steps().map(Step::to_string).collect(),
            kills: state.failure_history.as_ref().map_or(0, |history| history.kills()),
            counts: self.lookouts.counts(workload.id),
            last_exit: state.last_exit.and_then(|last| last.lately(now)),
            retry: state.waits_until(now).map(until),
            watched: workload.plan.watched_until.map(until),
            next_look: workload.plan.wake.map(until),
        })
    }

    fn host_status(&self, document: Option<&Document>) -> HostStatus {
        let facts = self.inputs.facts.borrow().clone();
        let stale = document.is_some_and(|d| d.manifest().expires_at <= self.world.clock().now());
        let short = self.shortage.lacks(Instant::now()).cloned();
        let loses_bodies = facts.loses_bodies && document.is_some_and(has_recreate);
        let trouble = self.observation.trouble();
        // The facts have a warning of their own for that.
        let no_limits = match facts.limits {
            LimitRule::Missing(gap) => Some(messages::limits_not_enforced(gap)),
            LimitRule::Unknown | LimitRule::Enforced | LimitRule::Waived => None,
        };
        let mut warnings = facts.warnings;
        warnings.extend(facts.disk);
        warnings.extend(self.inputs.alarm.borrow().clone());
        warnings.extend(trouble.map(|trouble| format!("{}; {}", trouble.cause, trouble.fix)));
        warnings.extend(self.world.containers().warnings());
        warnings.extend(self.secrets.warning());
        warnings.extend(short.as_ref().map(messages::no_new_apps));
        warnings.extend(self.edge.warnings());
        warnings.extend(loses_bodies.then(|| LOSES_BODIES.to_owned()));
        warnings.extend((!self.observation.hears_events()).then(|| NO_EVENTS.to_owned()));
        warnings.extend(self.lookouts.warning());
        warnings.extend(self.persistence.warning());
        warnings.extend(self.table.warning());
        HostStatus {
            agent_version: env!("CARGO_PKG_VERSION").to_owned(),
            podman_version: facts.podman_version,
            caddy_version: facts.caddy_version,
            document: document.map(|d| d.manifest().generation),
            stale,
            memory_mb: facts.memory_mb,
            allocatable_mb: facts.allocatable_mb,
            cpu_millicores: facts.cpu_millicores,
            warnings,
            lacks: short.or(no_limits).map(Box::new),
        }
    }
}

/// Whether visitors of some app are held while it is redeployed.
fn has_recreate(document: &Document) -> bool {
    let mut public = document.entries().values().map(|desired| desired.services.public());
    public.any(|service| service.strategy == Strategy::Recreate)
}

/// One workload in the snapshot of its deployment.
struct Part {
    containers: Vec<ContainerSnapshot>,
    doing: Vec<String>,
    planned: Vec<String>,
    kills: usize,
    counts: Option<CgroupCounts>,
    last_exit: Option<ExitSnapshot>,
    retry: Option<Duration>,
    watched: Option<Duration>,
    next_look: Option<Duration>,
}

fn snapshot_of(
    desired: Option<&DeploymentSpec>,
    workloads: &[Planned<'_>],
    parts: Vec<Part>,
    status: DeploymentStatus,
    host: Option<String>,
) -> DeploymentSnapshot {
    let watched = parts.iter().filter_map(|part| part.watched).max();
    let retry = parts.iter().filter_map(|part| part.retry).min();
    let counts = parts.iter().find_map(|part| part.counts);
    let next_look = parts.iter().filter_map(|part| part.next_look).min();
    let mut snapshot = DeploymentSnapshot {
        subdomain: desired.map(|desired| desired.subdomain.to_string()),
        host,
        run: desired.map(|desired| desired.run),
        status,
        given_up: workloads.iter().find_map(|workload| workload.plan.given_up.clone()),
        watched_s: watched.map(|left| left.as_secs()),
        kills: parts.iter().map(|part| part.kills).sum(),
        counts: counts.is_some().then(|| parts.iter().filter_map(|part| part.counts).sum()),
        last_exit: parts.iter().filter_map(|part| part.last_exit).max_by_key(|exit| exit.at),
        retry_s: retry.map(|left| left.as_secs().max(1)),
        target: target_of(workloads),
        // Kept for each deployment of the host: `extend` alone would make room for four.
        containers: Vec::with_capacity(parts.iter().map(|part| part.containers.len()).sum()),
        doing: Vec::new(),
        planned: Vec::new(),
        next_look_ms: next_look.and_then(|left| u64::try_from(left.as_millis()).ok()),
    };
    for part in parts {
        snapshot.containers.extend(part.containers);
        snapshot.doing.extend(part.doing);
        snapshot.planned.extend(part.planned);
    }
    snapshot
}
