//! One pass: snapshot → plan → operations → publish → report.

use std::collections::BTreeMap;
use std::sync::Arc;

use buddo_shared::host_wire::report::{Failure, ReportBody};
use buddo_shared::model::id::DeploymentId;
use buddo_shared::model::workload::{ReplicaIndex, ServiceName};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::Reconciler;
use super::executor::Operation;
use super::observe::Observed;
use super::old_table::needs_no_new_table;
use super::operations::{Asked, Ended};
use super::planned::Planned;
use super::table_publisher::{Published, live_table};
use crate::adapters::probe::board;
use crate::adapters::store::Entry;
use crate::model::cgroup::LimitCheck;
use crate::model::document::Document;
use crate::model::health::Level;
use crate::model::host_facts::LimitRule;
use crate::model::spec::{RevisionSpec, WorkloadSpec};
use crate::model::step::{Lane, Step};
use crate::model::workload::{Slot, WorkloadId};
use crate::plan::deployment::roll_back_together;
use crate::plan::state::WorkloadState;
use crate::plan::{PlannedOperation, Replacing, messages, revision_to_run};
use crate::ports::{ContainersError, World};
use crate::reconcile::resync::resync;

impl<W: World> Reconciler<W> {
    /// Makes one pass over everything. Returns when to look again if nothing happens.
    pub(super) async fn pass(&mut self) -> Option<Instant> {
        self.take_in_outcomes();
        let Some(document) = self.newest_document() else {
            // Without a document nothing is known to be unwanted: nothing is touched.
            self.show(None, &[], Instant::now());
            return None;
        };
        if self.observation.trouble().is_some() {
            // Asking may take long while Podman hangs, and that it hangs is known already.
            self.show_trouble(&document);
        }
        let observed = match self.observe().await {
            Ok(observed) => observed,
            Err(error) => return Some(self.podman_is_away(&error, &document)),
        };
        // Observing takes long while Podman hangs, and the desired state may have changed
        // meanwhile.
        let document = self.newest_document().unwrap_or(document);
        self.observation.succeeded();
        let previous = self.settings.previous.take();
        resync(&mut self.states, &self.settings.network, previous, &document, &observed);

        let now = Instant::now();
        let health = self.probes.snapshot();
        let missing = self.host_trouble.look(&self.states, &observed, &health, now);
        self.orphans.misses(missing, now);
        // Before the plans, which act on it; and after them, for what they gave up.
        let went_back = self.roll_back_together(&document);
        let mut planned = self.plan_all(&document, &observed, &health, now);
        let goes_back = self.roll_back_together(&document);
        if went_back || goes_back || planned.iter().any(|workload| workload.plan.decided) {
            // If this were forgotten, the bad revision would come back.
            self.persistence.persist(&self.states).await;
        }
        let watched = planned.iter().any(|workload| workload.plan.watched_until.is_some());
        self.edge.follow_log(&document, watched);
        let limits = self.inputs.facts.borrow().limits;
        let exits_due = self.lookouts.keep(&planned, &self.states, limits);
        self.shortage.look_at_limits(unlimited(&planned), now);
        self.keep_probes(&planned);
        let published = self.publish_table(&document, &planned, now).await;
        let served = |id| self.persistence.served(id);
        self.edge.want_routes(&document, &planned, served, now);
        self.send_operations(&mut planned, published, now);

        let table_due = self.table.due(self.world.jitter());
        let status_due = self.show(Some(&document), &planned, now);
        let next = planned.iter().filter_map(|workload| workload.plan.wake);
        let next = next.chain([self.observation.due()]).chain(
            [
                goes_back.then_some(now),
                exits_due,
                self.secrets.again(),
                self.orphans.due(),
                self.shortage.due(now),
                self.host_trouble.due(now),
                table_due,
                status_due,
            ]
            .into_iter()
            .flatten(),
        );
        let next = next.min();
        let gone: Vec<_> = planned
            .iter()
            .filter(|workload| workload.plan.gone)
            .map(|workload| workload.id)
            .collect();
        drop(planned);
        if published {
            self.forget(&gone, &document);
        }
        self.observation.keep(observed);
        self.persistence.save(&self.states);
        next
    }

    /// The document in force. Withdraws operations that it no longer asks for.
    fn newest_document(&mut self) -> Option<Arc<Document>> {
        let document = self.inputs.document.borrow_and_update().clone()?;
        self.operations.withdraw(|id| asked(self.states.get(&id), document.workloads().get(&id)));
        Some(document)
    }

    /// Rolls deployments back as a whole. Returns whether something was decided.
    fn roll_back_together(&mut self, document: &Document) -> bool {
        let mut decided = false;
        for deployment in document.entries().values() {
            decided |= roll_back_together(deployment, &mut self.states);
        }
        decided
    }

    /// Records how steps ended since the last pass.
    fn take_in_outcomes(&mut self) {
        let now = Instant::now();
        self.observation.hear_events();
        for ended in self.operations.drain(self.observation.relist()) {
            self.secrets.record(&ended.step, &ended.outcome, now);
            self.orphans.record(&ended.step, &ended.outcome, now);
            self.shortage.record(&ended.step, &ended.outcome, now);
            self.observation.record(&ended, now);
            let jitter = (self.world.jitter())();
            let Ended { workload, lane, step, revision, outcome, .. } = ended;
            if let Some(state) = self.states.get_mut(&workload) {
                state.record(lane, &step, revision, outcome, now, jitter);
            }
        }
        self.observation.check_stream(now);
    }

    /// Asks Podman about what is in doubt. Each call has its deadline: if Podman hangs, the loop
    /// does not.
    async fn observe(&mut self) -> Result<Observed, ContainersError> {
        let containers = Arc::clone(self.world.containers());
        let jitter = Arc::clone(self.world.jitter());
        if self.secrets.look(&*containers, &mut self.states, &jitter).await? {
            self.beat();
        }
        let unanswered = self.probes.unanswered();
        self.observation.doubt_what_was_hinted_at(self.lookouts.ended(), unanswered);
        let observed = self.observation.look(&*containers, &jitter).await?;
        if self.orphans.look(&*containers, &mut self.states).await {
            self.beat();
        }
        Ok(observed)
    }

    fn podman_is_away(&mut self, error: &ContainersError, document: &Document) -> Instant {
        let now = Instant::now();
        self.host_trouble.podman_is_away(now);
        self.orphans.arm(now);
        let again = self.observation.failed(error, self.world.jitter());
        self.show_trouble(document);
        again
    }

    fn keep_probes(&self, planned: &[Planned<'_>]) {
        let mut wanted = Vec::new();
        for workload in planned {
            let Some(desired) = workload.desired else { continue };
            for probed in &workload.plan.probes {
                let target = board::Target {
                    workload: workload.id,
                    public: desired.public(),
                    serves: probed.serves,
                    name: probed.name.clone(),
                    address: probed.address,
                    probe: RevisionSpec::probe_of(desired, probed.revision).clone(),
                };
                let level = if probed.assumed { Level::Assumed } else { Level::Starting };
                wanted.push((target, level));
            }
        }
        self.probes.keep(wanted, &self.operations.watches());
    }

    /// Publishes the live table if it changed. Returns whether the one in force is the wanted one.
    /// What leaves drains for its full time from when the table that sends nobody to it is in
    /// force, however long that took.
    async fn publish_table(
        &mut self,
        document: &Document,
        planned: &[Planned<'_>],
        now: Instant,
    ) -> bool {
        let published = self.table.publish(live_table(document, planned), now).await;
        for workload in planned {
            let Some(state) = self.states.get_mut(&workload.id) else { continue };
            // What the table does not name needs none: it is as planned from now on.
            let published = if workload.is_internal() { Published::Unchanged } else { published };
            take_effect(state, published, now);
        }
        published != Published::Not
    }

    /// Starts the planned operations. Unless the table is `published`, visitors may still be sent
    /// where an older one says: then only what is right under that one, too, is done.
    /// What is held back stays in its plan, and is shown there.
    fn send_operations(&mut self, planned: &mut [Planned<'_>], published: bool, now: Instant) {
        for workload in planned {
            let Some(state) = self.states.get(&workload.id) else { continue };
            let asked = asked(Some(state), workload.desired);
            if asked != workload.asked {
                // It went back with its deployment after it was planned. The next pass begins at
                // once, and plans that.
                workload.plan.operations.clear();
                continue;
            }
            for steps in std::mem::take(&mut workload.plan.operations) {
                let operation = self.operation(workload, state, &steps);
                if !published && !needs_no_new_table(&operation, self.table.older()) {
                    workload.plan.operations.push(steps);
                    continue;
                }
                // Two replicas that ask for a tag at once may get different bytes.
                let several = workload.desired.is_some_and(|d| d.service().replicas > 1);
                let resolves = operation.digest.is_none() && steps.steps.contains(&Step::Image);
                if several && resolves && self.operations.resolves_beside(workload.id) {
                    workload.plan.operations.push(steps);
                    continue;
                }
                if steps.lane == Lane::Roll && workload.plan.replacing == Some(Replacing::Begins) {
                    self.host_trouble.take(workload.id, now);
                }
                self.operations.send(operation, asked, &self.probes, &self.status);
            }
        }
    }

    fn operation(
        &self,
        workload: &Planned<'_>,
        state: &WorkloadState,
        planned: &PlannedOperation,
    ) -> Operation {
        let network = &self.settings.network;
        let addresses = |index| [Slot::A, Slot::B].map(|slot| network.address(index, slot));
        Operation {
            workload: workload.id,
            revision: planned.revision,
            lane: planned.lane,
            steps: planned.steps.clone(),
            desired: workload.desired.cloned(),
            digest: state.persisted.digests.get(&planned.revision).cloned(),
            addresses: state.persisted.index.map(addresses),
            limited: self.inputs.facts.borrow().limits != LimitRule::Waived,
            stop_grace: self.settings.drain.stop_grace,
            permit: CancellationToken::new(),
        }
    }

    /// Workloads of which nothing is left: their addresses are free again. A deployment is gone
    /// with its last one, or was when this agent started.
    fn forget(&mut self, gone: &[WorkloadId], document: &Document) {
        for workload in gone {
            self.states.remove(workload);
        }
        let untold = std::mem::take(&mut self.untold);
        for id in gone.iter().map(|workload| workload.deployment).chain(untold) {
            if !has_any(&self.states, id) && !document.entries().contains_key(&id) {
                self.status.set([Entry {
                    subject: id.to_string(),
                    body: ReportBody::Removed { id },
                    last: true,
                }]);
            }
        }
    }
}

/// What runs without its limits: one of them, and how many there are.
fn unlimited(planned: &[Planned<'_>]) -> Option<Failure> {
    let containers = planned.iter().flat_map(|workload| &workload.containers);
    let mut broken = containers.filter_map(|container| match container.limits {
        LimitCheck::Broken(breach) => Some((&container.name, breach)),
        LimitCheck::Held | LimitCheck::Unread => None,
    });
    let (name, breach) = broken.next()?;
    Some(messages::host_without_limits(name, breach, 1 + broken.count()))
}

/// Whether there is any workload of a deployment.
fn has_any(states: &BTreeMap<WorkloadId, WorkloadState>, deployment: DeploymentId) -> bool {
    let first =
        WorkloadId { deployment, service: ServiceName::LEAST, replica: ReplicaIndex::new(0) };
    states.range(first..).next().is_some_and(|(id, _)| id.deployment == deployment)
}

/// What a pass at `now` planned for a workload is in force, or is not.
fn take_effect(state: &mut WorkloadState, published: Published, now: Instant) {
    match published {
        // Its own target may have changed all the same: another replica answers in its place.
        Published::Unchanged => state.published(now, now),
        Published::Since(since) => state.published(now, since),
        Published::Not => state.restart_drains(),
    }
}

/// What a workload is asked to be.
pub(super) fn asked(state: Option<&WorkloadState>, desired: Option<&WorkloadSpec>) -> Asked {
    let desired = desired?;
    let revision = match state {
        Some(state) => revision_to_run(state, desired).map(|spec| spec.revision),
        None => Some(desired.revision()),
    };
    Some((revision, desired.run()))
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::model::live_table::Target;
    use crate::plan::EDGE_LAG;

    /// One of several replicas begins to start: visitors go where they went.
    #[test]
    fn what_the_table_already_says_is_in_force() {
        let (mut state, now) = (WorkloadState::default(), Instant::now());
        state.send_to(Some(&Target::Hold));
        take_effect(&mut state, Published::Not, now);
        assert_eq!(state.in_force, None);
        take_effect(&mut state, Published::Unchanged, now);
        assert_eq!(state.in_force, Some(now));
        take_effect(&mut state, Published::Since(now + EDGE_LAG), now);
        assert_eq!(state.in_force, Some(now), "and stays so");
    }

    #[test]
    fn a_deployment_is_gone_with_its_last_workload() {
        let id = |n| DeploymentId::new(Uuid::from_u128(n));
        let of =
            |n, name: &str| WorkloadId { service: name.parse().unwrap(), ..WorkloadId::app(id(n)) };
        let ids = [of(1, "worker"), of(2, "a"), of(4, "db"), of(4, "z")];
        let states = ids.map(|id| (id, WorkloadState::default())).into();
        let any: Vec<_> = (0..6).filter(|n| has_any(&states, id(*n))).collect();
        assert_eq!(any, [1, 2, 4]);
    }
}
