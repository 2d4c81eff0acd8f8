//! Resync: what the database no longer says, or not yet, learned from the observed state.

use std::collections::{BTreeMap, BTreeSet};

use buddo_shared::host_wire::manifest::Strategy;
use tokio::time::Instant;

use crate::config::Network;
use crate::model::address::Index;
use crate::model::container::{Container, ContainerState};
use crate::model::document::Document;
use crate::model::live_table::{Addresses, LiveTable, Target};
use crate::model::persisted::{Persisted, Serving};
use crate::model::spec::{RevisionSpec, WorkloadSpec};
use crate::model::workload::{Identity, Slot, WorkloadId};
use crate::plan::EDGE_LAG;
use crate::plan::state::WorkloadState;
use crate::reconcile::observe::Observed;

/// Learns what the database no longer says, or not yet: addresses, and who serves. `previous`: the
/// live table as an earlier agent left it, in the first pass only.
pub(super) fn resync(
    states: &mut BTreeMap<WorkloadId, WorkloadState>,
    network: &Network,
    previous: Option<LiveTable>,
    document: &Document,
    observed: &Observed,
) {
    for (id, containers) in &observed.workloads {
        let persisted = &mut states.entry(*id).or_default().persisted;
        if persisted.index.is_none() {
            persisted.index = containers.iter().find_map(|container| {
                let slot = container.identity?.slot;
                network.index_of(*container.address?.ip(), slot)
            });
        }
    }
    if let Some(previous) = previous {
        // The edge has long been using that table.
        let since = Instant::now().checked_sub(EDGE_LAG);
        for (id, desired) in document.workloads() {
            let state = states.entry(*id).or_default();
            let target = previous_target(&previous, desired, &state.persisted, network);
            if let Some(target) = &target {
                let containers =
                    observed.workloads.get(id).map_or(&[][..], |containers| containers);
                let found = who_served(containers, target, desired);
                // The edge uses the table, and the database may not have been written after it: the
                // table takes precedence where that container runs.
                let runs =
                    |c: &Container| c.identity == found && c.state == ContainerState::Running;
                let outranks = matches!(target, Target::Live { .. })
                    && found.is_some()
                    && containers.iter().any(runs);
                if state.persisted.live.is_none() || outranks {
                    state.persisted.live =
                        found.map(|i| Serving { revision: i.revision, slot: i.slot });
                    state.persisted.proven.extend(found.map(|i| i.revision));
                }
            }
            state.target = target;
            state.in_force = since;
        }
        for (id, state) in
            states.iter_mut().filter(|(id, _)| !document.workloads().contains_key(id))
        {
            if let Some(target) = left_over(&previous, *id, document, &state.persisted, network) {
                (state.target, state.in_force) = (Some(target), since);
            }
        }
    }
    let mut taken: BTreeSet<Index> =
        states.values().filter_map(|state| state.persisted.index).collect();
    for id in document.workloads().keys() {
        let persisted = &mut states.entry(*id).or_default().persisted;
        if persisted.index.is_none() {
            persisted.index = Index::lowest_free(&taken);
            taken.extend(persisted.index);
        }
    }
}

/// Where requests to a workload went under `table`.
fn previous_target(
    table: &LiveTable,
    desired: &WorkloadSpec,
    persisted: &Persisted,
    network: &Network,
) -> Option<Target> {
    if !desired.public() {
        // No table names it: it stays where it served.
        let (live, index) = persisted.live.zip(persisted.index)?;
        return Some(Target::Live {
            addresses: smallvec::smallvec![*network.address(index, live.slot).ip()],
        });
    }
    let target = table.apps.get(desired.deployment().subdomain.as_str())?;
    let Target::Live { addresses } = target else { return Some(target.clone()) };
    if desired.service().replicas == 1 {
        return Some(target.clone());
    }
    // Its own part of what several replicas share.
    let index = persisted.index?;
    let own = [Slot::A, Slot::B].map(|slot| *network.address(index, slot).ip());
    let addresses: Addresses = addresses.iter().copied().filter(|a| own.contains(a)).collect();
    Some(if addresses.is_empty() { Target::Hold } else { Target::Live { addresses } })
}

/// Where `table` sends visitors to a workload that is no longer wanted: it may be all that answers.
fn left_over(
    table: &LiveTable,
    id: WorkloadId,
    document: &Document,
    persisted: &Persisted,
    network: &Network,
) -> Option<Target> {
    let (live, index) = persisted.live.zip(persisted.index)?;
    let own = *network.address(index, live.slot).ip();
    let deployment = document.entries().get(&id.deployment)?;
    match table.apps.get(deployment.subdomain.as_str())? {
        Target::Live { addresses } if addresses.contains(&own) => {
            Some(Target::Live { addresses: smallvec::smallvec![own] })
        }
        _ => None,
    }
}

/// Who served under a table that says `target`, where only containers are left to show it: one at
/// an address in it, or, while visitors are held, one of an earlier revision that makes room for a
/// `recreate`: it comes back if the new revision does not answer.
///
/// Of several that are down, the fallback's: the coordinator knows that it was live. Without one,
/// the oldest: a newer one may never have answered, as when its rollout was superseded, and would be
/// started again for ever. One older than what served, which Podman would not remove, is at least
/// known to have served.
fn who_served(
    containers: &[Container],
    target: &Target,
    desired: &WorkloadSpec,
) -> Option<Identity> {
    let containers = containers.iter();
    let strategy = desired.service().strategy;
    let fallback = RevisionSpec::fallback(desired).map(|fallback| fallback.revision);
    match target {
        Target::Live { addresses } => containers
            .filter(|c| c.address.is_some_and(|a| addresses.contains(a.ip())))
            .find_map(|c| c.identity),
        Target::Hold if strategy == Strategy::Recreate => containers
            .filter(|c| matches!(c.state, ContainerState::Exited(_) | ContainerState::Stopping))
            .filter_map(|c| c.identity)
            .filter(|identity| identity.revision < desired.revision())
            .min_by_key(|identity| (Some(identity.revision) != fallback, identity.revision)),
        Target::Hold | Target::Stopped | Target::Suspended => None,
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddrV4};
    use std::sync::Arc;

    use ContainerState::{Exited, Running};
    use Strategy::{Recreate, Rolling};
    use buddo_shared::host_wire::manifest::{
        AutoRollback, DeploymentSpec, Fallback, ServiceSpec, Services,
    };
    use buddo_shared::model::id::Revision;

    use super::*;
    use crate::testing::{desired, service};

    const ADDRESS: Ipv4Addr = Ipv4Addr::new(127, 64, 0, 1);

    fn container(revision: u32, state: ContainerState) -> Container {
        let workload = WorkloadId::app(desired(7, "ghcr.io/a/b:1").id);
        let identity = Identity { workload, revision: Revision::new(revision), slot: Slot::A };
        Container {
            name: format!("r{revision}"),
            identity: Some(identity),
            state,
            address: Some(SocketAddrV4::new(ADDRESS, 8000)),
            process: None,
        }
    }

    fn wanted(revision: u32, strategy: Strategy, fallback: Option<u32>) -> WorkloadSpec {
        let services = |revision| {
            let app = ServiceSpec { revision, strategy, ..service("app", "ghcr.io/a/b:1") };
            Services::try_from(vec![app]).unwrap()
        };
        let revision = Revision::new(revision);
        let auto_rollback = fallback.map(Revision::new).map(|before| {
            let fallback = Fallback { revision: before, services: services(before) };
            Box::new(AutoRollback { seconds: 600, fallback })
        });
        let base = desired(7, "ghcr.io/a/b:1");
        let spec = DeploymentSpec { revision, services: services(revision), auto_rollback, ..base };
        WorkloadSpec::of(&Arc::new(spec)).next().unwrap()
    }

    #[test]
    fn without_a_database_the_table_shows_which_container_served() {
        let live = Target::Live { addresses: smallvec::smallvec![ADDRESS] };
        let elsewhere =
            Target::Live { addresses: smallvec::smallvec![Ipv4Addr::new(127, 96, 0, 1)] };
        for (target, strategy, container, expected) in [
            (&live, Rolling, container(1, Running), Some(1)),
            (&elsewhere, Rolling, container(1, Running), None),
            // It was stopped for revision 2 and is the only one to return to.
            (&Target::Hold, Recreate, container(1, Exited(0)), Some(1)),
            // The new one itself: it has yet to show that it answers.
            (&Target::Hold, Recreate, container(2, Exited(1)), None),
            (&Target::Hold, Rolling, container(1, Exited(0)), None),
            (&Target::Stopped, Recreate, container(1, Exited(0)), None),
        ] {
            let found = who_served(&[container], target, &wanted(2, strategy, None));
            let found = found.map(|identity| identity.revision);
            assert_eq!(found, expected.map(Revision::new), "{target:?} {strategy:?}");
        }
    }

    /// Revision 4 ended at its start and was superseded before it was given up.
    #[test]
    fn without_a_database_a_superseded_rollout_is_not_taken_for_what_served() {
        let down = [container(2, Exited(0)), container(3, Exited(0)), container(4, Exited(1))];
        for (fallback, expected) in [(Some(3), 3), (Some(2), 2), (Some(1), 2), (None, 2)] {
            let found = who_served(&down, &Target::Hold, &wanted(5, Recreate, fallback));
            let found = found.map(|identity| identity.revision);
            assert_eq!(found, Some(Revision::new(expected)), "{fallback:?}");
        }
    }
}
