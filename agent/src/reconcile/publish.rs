//! What a pass publishes: reports to the coordinator, the snapshot to people on the host.

use std::sync::Arc;

use buddo_runtime::clock::Clock as _;
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
use crate::plan::{Busy, EDGE_LAG, messages, phase};
use crate::ports::{Containers as _, World};
use crate::reconcile::Reconciler;
use crate::reconcile::planned::Planned;
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
        let mut snapshots = Vec::with_capacity(planned.len());
        for app in planned.iter().filter(|app| !app.plan.gone) {
            let Some(state) = self.states.get(&app.id) else { continue };
            let host = app
                .desired
                .zip(document)
                .map(|(desired, document)| desired.subdomain.host_in(&document.manifest().zone));
            let (status, look) = self.status_of(app, state, host.as_deref(), now);
            due = due.into_iter().chain(look).min();
            if app.desired.is_some() {
                self.status.set([Entry {
                    subject: app.id.to_string(),
                    body: ReportBody::Deployment(status.clone()),
                    last: false,
                }]);
            }
            // Operations started in this pass are shown, too.
            let busy = self.operations.busy(app.id);
            snapshots.push(snapshot_of(app, state, &busy, status, host, now));
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
        app: &Planned<'_>,
        state: &DeploymentState,
        host: Option<&str>,
        now: Instant,
    ) -> (DeploymentStatus, Option<Instant>) {
        let plan = &app.plan;
        let live = state.persisted.live;
        let revision = app.desired.map(|desired| desired.revision);
        let revision = revision.or(live.map(|l| l.revision)).or_else(|| {
            app.containers.iter().find_map(|c| c.identity).map(|identity| identity.revision)
        });
        let revision = revision.unwrap_or(buddo_shared::id::Revision::FIRST);
        let container = app.containers.iter().find(|c| plan.container.as_ref() == Some(&c.name));
        let tracker = container.and_then(|container| container.tracker);
        let answers = matches!(plan.target, Some(Target::Live { .. }));
        let mut failure = plan.failure.clone();
        let mut ready = true;
        let mut due = state.restarts.forgotten_at(now);
        if let (Phase::Live, true, Some(host)) = (plan.phase, answers, host) {
            match self.edge.settled(app.id, host, now) {
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
        let status = DeploymentStatus {
            id: app.id,
            revision,
            phase: phase::for_visitors(plan.phase, ready),
            serving: live.filter(|_| answers).map(|live| live.revision),
            health: tracker.map_or(Health::Unknown, |tracker| tracker.level().health()),
            checked_at: tracker.and_then(|tracker| tracker.checked_at),
            digest: state.persisted.digests.get(&revision).cloned(),
            failure,
            container: plan.container.clone(),
            put_back: plan.fallback,
            restarts: live.map_or(0, |live| state.restarts.lately(live.revision, now)),
        };
        (status, due)
    }

    fn host_status(&self, document: Option<&Document>) -> HostStatus {
        let facts = self.inputs.facts.borrow().clone();
        let stale = document.is_some_and(|d| d.manifest().expires_at <= self.world.clock().now());
        let lacks = self.shortage.lacks(Instant::now()).cloned();
        let loses_bodies = facts.loses_bodies && document.is_some_and(has_recreate);
        let trouble = self.observation.trouble();
        let mut warnings = facts.warnings;
        warnings.extend(facts.disk);
        warnings.extend(self.inputs.alarm.borrow().clone());
        warnings.extend(trouble.map(|trouble| format!("{}; {}", trouble.cause, trouble.fix)));
        warnings.extend(self.world.containers().warnings());
        warnings.extend(self.secrets.warning());
        warnings.extend(lacks.as_ref().map(messages::no_new_apps));
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
            lacks: lacks.map(Box::new),
        }
    }
}

fn has_recreate(document: &Document) -> bool {
    document.entries().values().any(|desired| desired.strategy == Strategy::Recreate)
}

fn snapshot_of(
    app: &Planned<'_>,
    state: &DeploymentState,
    busy: &Busy,
    status: DeploymentStatus,
    host: Option<String>,
    now: Instant,
) -> DeploymentSnapshot {
    let containers = app.containers.iter().map(|container| {
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
    let lost = state.lost.iter().map(|(&slot, &revision)| ContainerSnapshot {
        name: container_name(&Identity { deployment: app.id, revision, slot }),
        state: "lost by Podman".to_owned(),
        address: None,
        drains: true,
        health: None,
        problem: None,
    });
    let doing = busy.serve.iter().chain(&busy.roll);
    let next = app.plan.wake.map(|at| at.saturating_duration_since(now).as_millis());
    DeploymentSnapshot {
        subdomain: app.desired.map(|desired| desired.subdomain.to_string()),
        host,
        run: app.desired.map(|desired| desired.run),
        status,
        given_up: app.plan.given_up.clone(),
        guarded_s: app.plan.watched_until.map(|at| at.saturating_duration_since(now).as_secs()),
        kills: state.failure_history.kills(),
        retry_s: state
            .waits_until(now)
            .map(|at| at.saturating_duration_since(now).as_secs().max(1)),
        target: app.plan.target.clone(),
        containers: containers.chain(lost).collect(),
        doing: doing.map(Step::to_string).collect(),
        planned: app.plan.all_steps().map(Step::to_string).collect(),
        next_look_ms: next.and_then(|ms| u64::try_from(ms).ok()),
    }
}
