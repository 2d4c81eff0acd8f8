//! What the replicas of one service have to know of each other. Pure.

use std::collections::{BTreeMap, BTreeSet};

use buddo_shared::host_wire::manifest::ServiceSpec;
use buddo_shared::model::id::{DeploymentId, Revision};
use buddo_shared::model::workload::ReplicaIndex;
use tokio::time::Instant;

use crate::model::live_table::Target;
use crate::model::workload::WorkloadId;
use crate::plan::state::WorkloadState;

/// All replicas of one service, as the last pass left them. Says nothing where there is only one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Replicas {
    /// Contents that served on one of them, and are no longer on trial there.
    pub proven: BTreeSet<Revision>,
    /// One of them may still answer visitors with other content than the desired one.
    pub mixed: bool,
    /// When the last change to where their visitors go came into force.
    pub in_force: Option<Instant>,
}

impl Replicas {
    /// The replicas of `service`.
    pub fn of(
        deployment: DeploymentId,
        service: &ServiceSpec,
        states: &BTreeMap<WorkloadId, WorkloadState>,
    ) -> Self {
        let mut replicas = Self::default();
        let ids = ids(deployment, service);
        for state in ids.filter_map(|id| states.get(&id)) {
            replicas.add(state, service.revision);
        }
        replicas
    }

    fn add(&mut self, state: &WorkloadState, content: Revision) {
        let failures = &state.persisted.failures;
        let settled = |r: &&Revision| !state.watches(**r) && !failures.contains_key(*r);
        self.proven.extend(state.persisted.proven.iter().filter(settled));
        let answers = matches!(state.target, Some(Target::Live { .. }));
        match state.persisted.live.map(|live| live.revision == content) {
            // It crashes and comes back, always with the same content.
            Some(true) if !answers => {}
            Some(false) if answers => self.mixed = true,
            // Until the table says so, visitors go where they went before.
            _ => match state.in_force {
                Some(since) => self.in_force = self.in_force.max(Some(since)),
                None => self.mixed = true,
            },
        }
    }
}

/// All replicas of a service run the same bytes: what the tag meant for the first that asked, it
/// means for the others, even where a replica is added much later.
pub fn share_digest(
    deployment: DeploymentId,
    service: &ServiceSpec,
    states: &mut BTreeMap<WorkloadId, WorkloadState>,
) {
    let known = |id| states.get(&id)?.persisted.digests.get(&service.revision).cloned();
    let digest = service.digest.clone().or_else(|| ids(deployment, service).find_map(known));
    let Some(digest) = digest else { return };
    for id in ids(deployment, service) {
        if let Some(state) = states.get_mut(&id) {
            state.persisted.digests.entry(service.revision).or_insert_with(|| digest.clone());
        }
    }
}

fn ids(
    deployment: DeploymentId,
    service: &ServiceSpec,
) -> impl Iterator<Item = WorkloadId> + use<> {
    let name = service.name;
    let of = move |replica: ReplicaIndex| WorkloadId { deployment, service: name, replica };
    service.replica_indexes().map(of)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use buddo_shared::model::image::Digest;

    use super::*;
    use crate::model::persisted::{RollbackWatch, Serving};
    use crate::model::workload::Slot;
    use crate::testing::{desired, service};

    const OLD: Revision = Revision::new(1);
    const NEW: Revision = Revision::new(2);

    fn two() -> (DeploymentId, ServiceSpec, [WorkloadId; 2]) {
        let deployment = desired(1, "ghcr.io/a/b:1").id;
        let service = ServiceSpec { replicas: 2, revision: NEW, ..service("app", "ghcr.io/a/b:1") };
        let ids = [0, 1].map(|replica| WorkloadId {
            replica: ReplicaIndex::new(replica),
            ..WorkloadId::app(deployment)
        });
        (deployment, service, ids)
    }

    /// Visitors have been sent to this content since `in_force`.
    fn serves(revision: Revision, in_force: Option<Instant>) -> WorkloadState {
        let mut state = WorkloadState::default();
        state.persisted.live = Some(Serving { revision, slot: Slot::A });
        state.target =
            Some(Target::Live { addresses: smallvec::smallvec![[127, 64, 0, 1].into()] });
        state.in_force = in_force;
        state
    }

    #[test]
    fn errors_are_those_of_one_content_once_every_replica_serves_it() {
        let (deployment, service, [first, second]) = two();
        let now = Instant::now();
        let later = now + Duration::from_secs(9);
        let of = |other: WorkloadState| {
            let states = [(first, serves(NEW, Some(now))), (second, other)].into();
            let replicas = Replicas::of(deployment, &service, &states);
            (replicas.mixed, replicas.in_force)
        };
        assert_eq!(of(serves(NEW, Some(later))), (false, Some(later)));
        assert!(of(serves(OLD, Some(now))).0, "it answers with the old content");
        assert!(of(serves(NEW, None)).0, "the table does not say so yet");
        let held = |revision, in_force| WorkloadState {
            target: Some(Target::Hold),
            ..serves(revision, in_force)
        };
        assert_eq!(of(held(OLD, Some(later))), (false, Some(later)), "it answered until then");
        assert_eq!(of(held(NEW, Some(later))), (false, Some(now)), "it crashed");
    }

    #[test]
    fn what_one_replica_proved_counts_for_all_unless_it_is_on_trial_or_given_up() {
        let (deployment, service, [first, _]) = two();
        let mut state = WorkloadState::default();
        state.persisted.proven.extend([OLD, NEW]);
        let proven = |state: &WorkloadState| {
            Replicas::of(deployment, &service, &[(first, state.clone())].into()).proven
        };
        assert_eq!(proven(&state), [OLD, NEW].into());
        let since = jiff::Timestamp::UNIX_EPOCH;
        state.persisted.rollback_watch = Some(RollbackWatch::Watching { revision: NEW, since });
        assert_eq!(proven(&state), [OLD].into());
    }

    #[test]
    fn replicas_run_the_same_bytes_wherever_the_tag_went() {
        let (deployment, service, [first, second]) = two();
        let digest = |n: &str| Digest::parse(&format!("sha256:{}", n.repeat(64))).unwrap();
        let mut states = BTreeMap::from([(first, WorkloadState::default())]);
        share_digest(deployment, &service, &mut states);
        assert!(states[&first].persisted.digests.is_empty(), "nobody knows");
        let digests = &mut states.get_mut(&first).unwrap().persisted.digests;
        digests.extend([(NEW, digest("a")), (OLD, digest("b"))]);
        states.insert(second, WorkloadState::default());
        share_digest(deployment, &service, &mut states);
        assert_eq!(states[&second].persisted.digests, [(NEW, digest("a"))].into());
    }
}
