//! Whether the host, and not the apps, is to blame for what happens to them; and what may be
//! replaced meanwhile.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use buddo_shared::model::id::DeploymentId;
use tokio::time::Instant;

use crate::model::container::ContainerState;
use crate::model::health::Trackers;
use crate::model::workload::{WorkloadId, container_owner};
use crate::plan::permits::{Permits, Round};
use crate::plan::rollback_watch::mass_failure::{MassFailure, many};
use crate::plan::state::WorkloadState;
use crate::reconcile::observe::Observed;

/// After Podman was away, or many apps went down together, auto rollback judges nothing for this
/// long.
const LASTS: Duration = Duration::from_secs(30);

#[derive(Debug)]
pub(super) struct HostTrouble {
    mass_failure: MassFailure,
    until: Option<Instant>,
    many_sick: bool,
    permits: Permits,
}

impl HostTrouble {
    pub(super) fn begin(now: Instant) -> Self {
        let permits = Permits::begin(now);
        Self { mass_failure: MassFailure::default(), until: None, many_sick: false, permits }
    }

    /// Podman does not answer.
    pub(super) fn podman_is_away(&mut self, now: Instant) {
        self.until = Some(now + LASTS);
    }

    /// Looks at all workloads that serve. Returns those whose serving container Podman does not
    /// list.
    ///
    /// Deployments are counted, not workloads: services of one app need each other and fail
    /// together, which says nothing about the host. A permit is for one container, because each
    /// second one costs the host the same.
    pub(super) fn look(
        &mut self,
        states: &BTreeMap<WorkloadId, WorkloadState>,
        observed: &Observed,
        health: &Trackers,
        now: Instant,
    ) -> BTreeSet<WorkloadId> {
        let mut serving = BTreeSet::new();
        let mut missing = BTreeSet::new();
        for (id, state) in states {
            let Some(live) = state.persisted.live else { continue };
            serving.insert(id.deployment);
            let mut containers = observed.workloads.get(id).into_iter().flatten();
            let found = containers.find(|container| container.identity.is_some_and(|i| live.is(i)));
            if found.is_none() {
                missing.insert(*id);
            }
            let runs = found.is_some_and(|found| found.state == ContainerState::Running);
            if !runs && state.crash.ran && !state.crash.down {
                self.mass_failure.ended(id.deployment, now);
            }
        }
        if self.mass_failure.is_common(serving.len(), now) {
            if self.until.is_none_or(|until| until <= now) {
                tracing::warn!(
                    "many apps went down together; auto rollback does not blame them for it"
                );
            }
            self.until = Some(now + LASTS);
        }
        let failing = health.iter().filter(|(_, tracker)| tracker.is_failing());
        let sick: BTreeSet<DeploymentId> = failing
            .filter_map(|(name, _)| container_owner(name))
            .map(|identity| identity.workload.deployment)
            .collect();
        self.many_sick = many(sick.len(), serving.len());
        missing
    }

    /// Until when nothing is judged.
    pub(super) fn until(&self) -> Option<Instant> {
        self.until
    }

    /// So many apps let their probes time out that the apps are not at fault.
    pub(super) fn many_sick(&self) -> bool {
        self.many_sick
    }

    /// What one pass may replace.
    pub(super) fn permits(&mut self, now: Instant) -> Round {
        let troubled = self.until.is_some_and(|until| until > now);
        self.permits.round(troubled, self.many_sick, now)
    }

    /// Exactly these wait for a permit.
    pub(super) fn wait(&mut self, waiting: &BTreeSet<WorkloadId>, now: Instant) {
        self.permits.wait(waiting, now);
    }

    /// The replacement of this workload's container is on its way.
    pub(super) fn take(&mut self, id: WorkloadId, now: Instant) {
        self.permits.take(id, now);
    }

    /// When to look again on behalf of the waiting apps.
    pub(super) fn due(&self, now: Instant) -> Option<Instant> {
        self.permits.due(now)
    }
}

#[cfg(test)]
mod tests {
    use buddo_shared::model::id::Revision;
    use uuid::Uuid;

    use super::*;
    use crate::model::container::Slot;
    use crate::model::persisted::{Persisted, Serving};

    /// So many apps that served, and are gone.
    fn ended(count: u128) -> BTreeMap<WorkloadId, WorkloadState> {
        let live = Some(Serving { revision: Revision::FIRST, slot: Slot::A });
        let state = || {
            let mut state = WorkloadState::restore(Persisted { live, ..Persisted::default() });
            state.crash.ran = true;
            state
        };
        (1..=count)
            .map(|n| (WorkloadId::app(DeploymentId::new(Uuid::from_u128(n))), state()))
            .collect()
    }

    #[test]
    fn apps_that_go_down_together_put_the_blame_on_their_host_for_a_while() {
        let now = Instant::now();
        let look = |count, now| {
            let mut trouble = HostTrouble::begin(now);
            let (observed, health) = (Observed::default(), Trackers::new());
            let missing = trouble.look(&ended(count), &observed, &health, now);
            assert_eq!(missing.len(), usize::try_from(count).unwrap());
            trouble.until()
        };
        assert_eq!(look(2, now), None, "two may fail by chance");
        assert_eq!(look(3, now), Some(now + LASTS));
    }

    #[test]
    fn a_podman_that_is_away_is_the_hosts_own_trouble() {
        let now = Instant::now();
        let mut trouble = HostTrouble::begin(now);
        trouble.podman_is_away(now);
        assert_eq!(trouble.until(), Some(now + LASTS));
    }
}
