//! What a pass publishes: reports to the coordinator, the snapshot to people on the host.

use std::sync::Arc;

use buddo_runtime::clock::Clock;
use buddo_shared::manifest::Strategy;
use buddo_shared::report::{DeploymentStatus, Health, HostStatus, Phase, ReportBody};
use tokio::time::Instant;

use crate::adapters::store::Entry;
use crate::model::container::Identity;
use crate::model::document::Document;
use crate::model::live_table::Target;
use crate::model::snapshot::{ContainerSnapshot, DeploymentSnapshot, HostSnapshot};
use crate::model::step::{Step, container_name};
use crate::plan::state::DeploymentState;
use crate::plan::{Busy, EDGE_LAG, messages};
use crate::ports::{Containers, LiveTablePublisher, Prober, Proxy};
use crate::reconcile::Reconciler;
use crate::reconcile::pass::Case;
use crate::reconcile::report::HOST;
use crate::reconcile::routing::Settled;

impl<C, P, X, L, K> Reconciler<C, P, X, L, K>
where
    C: Containers,
    P: Prober,
    X: Proxy,
    L: LiveTablePublisher,
    K: Clock,
{
    /// Reports the current state and shows it locally. Returns when to look again.
    pub(super) fn show(
        &self,
        document: Option<&Document>,
        cases: &[Case<'_>],
        now: Instant,
    ) -> Option<Instant> {
        let mut due: Option<Instant> = None;
        let mut snapshots = Vec::with_capacity(cases.len());
        for case in cases.iter().filter(|case| !case.plan.gone) {
            let Some(memory) = self.memories.get(&case.id) else { continue };
            let host = case
                .desired
                .zip(document)
                .map(|(desired, document)| desired.subdomain.host_in(&document.manifest().zone));
            let (status, look) = self.status_of(case, memory, host.as_deref(), now);
            due = due.into_iter().chain(look).min();
            if case.desired.is_some() {
                self.status.set([Entry {
                    subject: case.id.to_string(),
                    body: ReportBody::Deployment(status.clone()),
                    last: false,
                }]);
            }
            // Operations started in this pass are shown, too.
            let busy = self.operations.busy(case.id);
            snapshots.push(snapshot_of(case, memory, &busy, status, host, now));
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

    fn status_of(
        &self,
        case: &Case<'_>,
        memory: &DeploymentState,
        host: Option<&str>,
        now: Instant,
    ) -> (DeploymentStatus, Option<Instant>) {
        let plan = &case.plan;
        let live = memory.persisted.live;
        let revision = case.desired.map(|desired| desired.revision);
        let revision = revision.or(live.map(|l| l.revision)).or_else(|| {
            case.containers.iter().find_map(|c| c.identity).map(|identity| identity.revision)
        });
        let revision = revision.unwrap_or(buddo_shared::id::Revision::FIRST);
        let container = case.containers.iter().find(|c| plan.container.as_ref() == Some(&c.name));
        let tracker = container.and_then(|container| container.tracker);
        let answers = matches!(plan.target, Some(Target::Live { .. }));
        let mut failure = plan.failure.clone();
        let mut phase = plan.phase;
        let mut due = memory.restarts.forgotten_at(now);
        if let (Phase::Live, true, Some(host)) = (phase, answers, host) {
            let rendered = &self.rendered.2;
            let needed = rendered.own.get(&case.id).into_iter().chain([&rendered.zone]);
            match self.routes.settled(host, &needed.cloned().collect(), now) {
                Settled::Yes => {}
                Settled::NotYet(at) => {
                    phase = Phase::Routing;
                    due = due.into_iter().chain([at]).min();
                }
                Settled::Warning(warning) => failure = failure.or(Some(warning)),
            }
            // Live means that a visitor who comes now is answered by it.
            let known = memory.in_force.map(|since| since + EDGE_LAG);
            if known.is_none_or(|at| at > now) {
                phase = Phase::Routing;
                due = due.into_iter().chain(known).min();
            }
        }
        let status = DeploymentStatus {
            id: case.id,
            revision,
            phase,
            serving: live.filter(|_| answers).map(|live| live.revision),
            health: tracker.map_or(Health::Unknown, |tracker| tracker.level().health()),
            checked_at: tracker.and_then(|tracker| tracker.checked_at),
            digest: memory.persisted.digests.get(&revision).cloned(),
            failure,
            container: plan.container.clone(),
            put_back: plan.put_back,
            restarts: live.map_or(0, |live| memory.restarts.lately(live.revision, now)),
        };
        (status, due)
    }

    fn host_status(&self, document: Option<&Document>) -> HostStatus {
        let facts = self.inputs.facts.borrow().clone();
        let stale = document.is_some_and(|d| d.manifest().expires_at <= self.world.clock.now());
        let mut warnings = facts.warnings;
        warnings.extend(facts.disk);
        warnings.extend(self.inputs.alarm.borrow().clone());
        warnings.extend(
            self.trouble.as_ref().map(|trouble| format!("{}; {}", trouble.cause, trouble.fix)),
        );
        warnings.extend(self.world.containers.warnings());
        warnings.extend(self.secrets.warning());
        let lacks = self.shortage.lacks(Instant::now()).cloned();
        warnings.extend(lacks.as_ref().map(messages::no_new_apps));
        warnings.extend(self.routes.warnings());
        warnings.extend(self.errors.warning());
        let recreates = |document: &Document| {
            let mut entries = document.entries().values();
            entries.any(|desired| desired.strategy == Strategy::Recreate)
        };
        if facts.loses_bodies && document.is_some_and(recreates) {
            warnings.push(
                "this Caddy answers 502 to requests with a body while an app is redeployed by \
                 `recreate`; 2.11.2 and later hold them"
                    .to_owned(),
            );
        }
        if !*self.inputs.events.healthy.borrow() || self.event_liveness.is_deaf() {
            warnings.push("Podman's events do not arrive; containers are listed often".to_owned());
        }
        let unwatched = self.exits.unwatched();
        if unwatched > 0 {
            warnings.push(format!(
                "there are not enough file descriptors to watch {unwatched} more containers: their \
                 ends are noticed later, by events; raise LimitNOFILE of buddo-agent.service"
            ));
        }
        if *self.unsaved.borrow() {
            warnings.push("the agent's database cannot be written; is the disk full?".to_owned());
        }
        if self.unpublished {
            warnings.push("the live table cannot be written; is the disk full?".to_owned());
        }
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
            lacks: lacks.map(Box::new),
        }
    }
}

fn snapshot_of(
    case: &Case<'_>,
    memory: &DeploymentState,
    busy: &Busy,
    status: DeploymentStatus,
    host: Option<String>,
    now: Instant,
) -> DeploymentSnapshot {
    let containers = case.containers.iter().map(|container| {
        let tracker = container.tracker;
        ContainerSnapshot {
            name: container.name.clone(),
            state: format!("{:?}", container.state).to_lowercase(),
            address: container.address,
            drains: memory.retiring.contains_key(&container.name),
            health: tracker.map(|t| format!("{:?}", t.level()).to_lowercase()),
            problem: tracker.and_then(|t| t.reason.clone()),
        }
    });
    let lost = memory.lost.iter().map(|(&slot, &revision)| ContainerSnapshot {
        name: container_name(&Identity { deployment: case.id, revision, slot }),
        state: "lost by Podman".to_owned(),
        address: None,
        drains: true,
        health: None,
        problem: None,
    });
    let doing = busy.serve.iter().chain(&busy.roll);
    let planned = case.plan.serve.iter().chain(&case.plan.roll);
    let next = case.plan.wake.map(|at| at.saturating_duration_since(now).as_millis());
    DeploymentSnapshot {
        subdomain: case.desired.map(|desired| desired.subdomain.to_string()),
        host,
        run: case.desired.map(|desired| desired.run),
        status,
        given_up: case.plan.given_up.clone(),
        guarded_s: case.plan.guarded_until.map(|at| at.saturating_duration_since(now).as_secs()),
        kills: memory.failure_history.kills(),
        retry_s: memory
            .waits_until(now)
            .map(|at| at.saturating_duration_since(now).as_secs().max(1)),
        target: case.plan.target.clone(),
        containers: containers.chain(lost).collect(),
        doing: doing.map(Step::to_string).collect(),
        planned: planned.map(Step::to_string).collect(),
        next_look_ms: next.and_then(|ms| u64::try_from(ms).ok()),
    }
}
