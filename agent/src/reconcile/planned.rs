//! All deployments of one pass, planned.

use std::collections::BTreeSet;
use std::sync::Arc;

use buddo_runtime::clock::Clock as _;
use buddo_shared::id::DeploymentId;
use buddo_shared::manifest::DeploymentSpec;
use tokio::time::Instant;

use super::Reconciler;
use super::edge::failed_requests_of;
use super::observe::Observed;
use crate::model::document::Document;
use crate::model::health::Trackers;
use crate::plan::rollback_watch::failed_requests::Failed;
use crate::plan::{Plan, Replacing, Rules, Seen, View, plan};
use crate::ports::World;

/// One deployment in one pass.
pub(super) struct Planned<'a> {
    pub(super) id: DeploymentId,
    pub(super) desired: Option<&'a Arc<DeploymentSpec>>,
    pub(super) containers: Vec<Seen<'a>>,
    pub(super) plan: Plan,
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
        let mut permits = self.host_trouble.permits(now);
        let mut waiting = BTreeSet::new();
        let mut planned = Vec::with_capacity(self.states.len());
        for (id, state) in &mut self.states {
            let desired = document.entries().get(id);
            let containers: Vec<Seen<'a>> = observed
                .deployments
                .get(id)
                .into_iter()
                .flatten()
                .map(|container| Seen { container, tracker: health.get(&container.name) })
                .collect();
            let busy = self.operations.busy(*id);
            if let Some(digest) = desired.and_then(|desired| desired.digest.clone()) {
                let revision = desired.map(|desired| desired.revision);
                state.persisted.digests.extend(revision.map(|revision| (revision, digest)));
            }
            let watched = desired.filter(|desired| state.watches(desired.revision));
            let counts =
                watched.map(|desired| failed_requests_of(&failed_requests, desired, document));
            let kills = self.lookouts.kills(*id);
            let view = View {
                id: *id,
                desired: desired.map(AsRef::as_ref),
                containers: &containers,
                busy: &busy,
                rules: &rules,
                failed: Failed {
                    counts: counts.as_ref(),
                    gaps: &failed_requests.gaps,
                    known_since: failed_requests.known_since,
                },
                kills: kills.as_ref(),
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
            planned.push(Planned { id: *id, desired, containers, plan });
        }
        self.host_trouble.wait(&waiting, now);
        planned
    }
}
