//! What may be done while the live table cannot be written and visitors follow an older one.
//!
//! A full disk must not keep a crashed app down: its container is restarted where the older table
//! sends its visitors anyway. Anything that ends or removes a container waits, since visitors may
//! still be sent there; so does anything that could serve only under a newer table.

use std::net::SocketAddrV4;

use crate::model::live_table::{LiveTable, Target};
use crate::model::step::{Lane, Step};
use crate::reconcile::executor::Operation;

/// Whether `operation` is right under the older table, too, if that is known.
pub(super) fn needs_no_new_table(operation: &Operation, older: Option<&LiveTable>) -> bool {
    let Some(desired) = &operation.desired else { return false };
    if !desired.public() {
        return is_internal_in(operation, older);
    }
    let subdomain = desired.deployment().subdomain.as_str();
    let mut starts = false;
    for step in &operation.steps {
        let address = match step {
            Step::PutSecrets | Step::Image | Step::InspectExit(_) | Step::Watch(_) => continue,
            Step::Create(slot) => operation.address(*slot),
            Step::Start(name) => operation.address_of(name),
            Step::Stop(_)
            | Step::Remove(_)
            | Step::EndOrphans(_)
            | Step::FreeAddress(_)
            | Step::RemoveSecrets(_) => return false,
        };
        let Some(address) = address else { return false };
        let sends = |target: &Target| sends_to(target, address);
        let apps = || older.into_iter().flat_map(|table| &table.apps);
        // Visitors of another app would reach this one.
        if apps().any(|(other, target)| other != subdomain && sends(target)) {
            return false;
        }
        let own = apps().any(|(app, target)| app == subdomain && sends(target));
        // What served is started where it was; anything else must be where its visitors go.
        if operation.lane == Lane::Roll && !own {
            return false;
        }
        starts = true;
    }
    starts || operation.lane == Lane::Serve
}

/// Whether the older table, too, sends no visitor to the workload: it matters to none of them.
/// Where no older one is known, a crashed workload is started again all the same.
fn is_internal_in(operation: &Operation, older: Option<&LiveTable>) -> bool {
    let Some(older) = older else {
        // As for a public one, what served is started where it was.
        return operation.lane == Lane::Serve && !operation.steps.iter().any(Step::takes_away);
    };
    let sends = |target| operation.addresses.iter().flatten().any(|a| sends_to(target, *a));
    !older.apps.values().any(sends)
}

fn sends_to(target: &Target, address: SocketAddrV4) -> bool {
    match target {
        Target::Live { addresses } => addresses.contains(address.ip()),
        Target::Hold | Target::Stopped | Target::Suspended => false,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use buddo_shared::host_wire::manifest::{DeploymentSpec, ServiceSpec};
    use buddo_shared::model::id::Revision;
    use buddo_shared::model::name::Subdomain;
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::model::spec::WorkloadSpec;
    use crate::model::workload::{Identity, Slot, WorkloadId, container_name};
    use crate::testing::{desired, service};

    const A: &str = "127.64.0.1:8000";
    const B: &str = "127.96.0.1:8000";

    fn workload() -> WorkloadId {
        WorkloadId::app(mine().id)
    }

    fn mine() -> Arc<DeploymentSpec> {
        let subdomain = Subdomain::parse("mine").unwrap();
        Arc::new(DeploymentSpec { subdomain, ..desired(1, "ghcr.io/a/b:1") })
    }

    fn operation(lane: Lane, steps: Vec<Step>) -> Operation {
        Operation {
            workload: workload(),
            revision: Revision::new(1),
            lane,
            steps,
            desired: WorkloadSpec::of(&mine()).next(),
            digest: None,
            addresses: Some([A, B].map(|address| address.parse().unwrap())),
            limited: true,
            stop_grace: Duration::ZERO,
            permit: CancellationToken::new(),
        }
    }

    fn name(slot: Slot) -> String {
        container_name(&Identity { workload: workload(), revision: Revision::new(1), slot })
    }

    fn table(app: &str, address: &str) -> LiveTable {
        let address: SocketAddrV4 = address.parse().unwrap();
        let target = Target::Live { addresses: smallvec::smallvec![*address.ip()] };
        LiveTable { apps: [(app.to_owned(), target)].into(), ..LiveTable::default() }
    }

    fn may(lane: Lane, steps: Vec<Step>, older: Option<&LiveTable>) -> bool {
        needs_no_new_table(&operation(lane, steps), older)
    }

    #[test]
    fn fm_59_a_crashed_app_is_restarted_where_its_traffic_goes_or_is_held() {
        let steps = || {
            let name = name(Slot::A);
            vec![
                Step::PutSecrets,
                Step::InspectExit(name.clone()),
                Step::Start(name.clone()),
                Step::Watch(name),
            ]
        };
        let held = LiveTable { apps: [("mine".to_owned(), Target::Hold)].into(), ..table("x", B) };
        for older in [None, Some(&table("mine", A)), Some(&held), Some(&table("mine", B))] {
            assert!(may(Lane::Serve, steps(), older), "{older:?}");
        }
        assert!(!may(Lane::Serve, steps(), Some(&table("another", A))), "its visitors come here");
        let removed = Operation { desired: None, ..operation(Lane::Serve, steps()) };
        assert!(!needs_no_new_table(&removed, None));
    }

    #[test]
    fn fm_59_a_container_is_recreated_only_where_its_traffic_goes() {
        let steps = |slot| {
            let name = name(slot);
            let start = [Step::Start(name.clone()), Step::Watch(name)];
            [Step::Image, Step::Create(slot)].into_iter().chain(start).collect::<Vec<_>>()
        };
        let older = table("mine", A);
        assert!(may(Lane::Roll, steps(Slot::A), Some(&older)));
        assert!(!may(Lane::Roll, steps(Slot::B), Some(&older)), "nobody could be sent there");
        assert!(!may(Lane::Roll, steps(Slot::A), None));
        assert!(!may(Lane::Roll, vec![Step::Image], Some(&older)), "a full disk needs no image");
    }

    #[test]
    fn fm_59_nothing_is_stopped_or_removed_under_an_older_table() {
        for step in [
            Step::Stop(name(Slot::A)),
            Step::Remove(name(Slot::A)),
            Step::EndOrphans(Slot::A),
            Step::FreeAddress(Slot::A),
            Step::RemoveSecrets(Revision::new(1)),
        ] {
            for lane in [Lane::Serve, Lane::Roll] {
                let steps = vec![Step::Start(name(Slot::A)), step.clone()];
                assert!(!may(lane, steps, Some(&table("mine", A))), "{step}");
            }
        }
    }

    /// A container of its own would get them only with a newer table.
    #[test]
    fn no_container_is_created_while_traffic_is_held() {
        let steps = vec![Step::Create(Slot::A), Step::Start(name(Slot::A))];
        let apps = [("mine".to_owned(), Target::Hold)].into();
        let held = LiveTable { apps, ..LiveTable::default() };
        assert!(!may(Lane::Roll, steps, Some(&held)));
    }

    /// Visitors reach no service but the public one, so the table has no say in the others.
    #[test]
    fn fm_59_what_visitors_do_not_reach_needs_no_table() {
        let worker = ServiceSpec { public: false, ..service("worker", "ghcr.io/a/b:1") };
        let services = vec![service("app", "ghcr.io/a/b:1"), worker].try_into().unwrap();
        let both = Arc::new(DeploymentSpec { services, ..desired(1, "ghcr.io/a/b:1") });
        let desired = WorkloadSpec::of(&both).find(|spec| !spec.public());
        let steps = vec![Step::Create(Slot::B), Step::Remove(name(Slot::A))];
        let operation = Operation { desired, ..operation(Lane::Roll, steps) };
        assert!(needs_no_new_table(&operation, Some(&table("mine", "127.64.0.9:8000"))));
        // It was the public one until now.
        assert!(!needs_no_new_table(&operation, Some(&table("mine", A))));
        assert!(!needs_no_new_table(&operation, None), "nobody knows");
        let again = Operation {
            lane: Lane::Serve,
            steps: vec![Step::Start(name(Slot::A)), Step::Watch(name(Slot::A))],
            ..operation
        };
        assert!(needs_no_new_table(&again, None), "it crashed");
        let ends = Operation { steps: vec![Step::Stop(name(Slot::A))], ..again };
        assert!(!needs_no_new_table(&ends, None));
    }
}
