use buddo_shared::host_wire::manifest::{AutoRollback, Fallback, ServiceSpec};
use buddo_shared::model::workload::ReplicaIndex;

use super::*;
use crate::testing::{desired, service};

const OLD: Revision = Revision::new(1);
const NEW: Revision = Revision::new(2);

fn of(name: &str, revision: Revision) -> ServiceSpec {
    let digest = Digest::parse(&format!("sha256:{}", "a".repeat(64))).unwrap();
    ServiceSpec {
        revision,
        public: name == "app",
        digest: Some(digest),
        ..service(name, "ghcr.io/a/b:1")
    }
}

/// Revision 2 of a deployment: its services now, and those of revision 1.
fn deployment(now: Vec<ServiceSpec>, before: Vec<ServiceSpec>) -> Arc<DeploymentSpec> {
    let fallback = Fallback { revision: OLD, services: before.try_into().unwrap() };
    Arc::new(DeploymentSpec {
        revision: NEW,
        services: now.try_into().unwrap(),
        auto_rollback: Some(Box::new(AutoRollback { seconds: 300, fallback })),
        ..desired(1, "ghcr.io/a/b:1")
    })
}

fn why(code: &str) -> Failure {
    Failure { code: code.to_owned(), cause: "it broke".to_owned(), fix: "mend it".to_owned() }
}

fn id(deployment: &DeploymentSpec, name: &str, replica: u16) -> WorkloadId {
    let (service, replica) = (name.parse().unwrap(), ReplicaIndex::new(replica));
    WorkloadId { deployment: deployment.id, service, replica }
}

fn states(deployment: &Arc<DeploymentSpec>) -> BTreeMap<WorkloadId, WorkloadState> {
    WorkloadSpec::of(deployment).map(|spec| (spec.id(), WorkloadState::default())).collect()
}

#[test]
fn a_revision_goes_back_as_a_whole_and_leaves_alone_what_it_did_not_change() {
    let two = |name, revision| ServiceSpec { replicas: 2, ..of(name, revision) };
    let both = deployment(
        vec![two("app", NEW), of("worker", NEW), of("queue", OLD), of("extra", NEW)],
        vec![of("app", OLD), of("worker", OLD), of("queue", OLD)],
    );
    let mut states = states(&both);
    assert!(!roll_back_together(&both, &mut states), "nothing was given up");
    let culprit = states.get_mut(&id(&both, "worker", 0)).unwrap();
    culprit.roll_back(NEW, why("guard_crash_loop"));
    assert!(roll_back_together(&both, &mut states));
    for (workload, goes_back) in [
        (id(&both, "app", 0), true),
        (id(&both, "app", 1), true),
        (id(&both, "queue", 0), false),
        // The revision before did not have it, so there is nothing to go back to.
        (id(&both, "extra", 0), false),
    ] {
        let state = &states[&workload];
        assert_eq!(state.was_rolled_back_too(NEW), goes_back, "{workload}");
        assert_eq!(state.persisted.failures.contains_key(&NEW), goes_back, "{workload}");
    }
    let failure = &states[&id(&both, "app", 0)].persisted.failures[&NEW];
    assert_eq!(failure.code, "guard_crash_loop");
    assert!(failure.cause.contains("the service worker, which was given up: it broke"));
    assert!(!roll_back_together(&both, &mut states), "once");
}

/// A further replica of a service that did not change fails on a host that has no room for it.
#[test]
fn what_a_revision_did_not_change_does_not_take_it_back() {
    let two = |revision| ServiceSpec { replicas: 2, ..of("worker", revision) };
    let before = || vec![of("app", OLD), of("worker", OLD)];
    let both = deployment(vec![of("app", NEW), two(OLD), of("extra", NEW)], before());
    let mut states = states(&both);
    let mut fails = |name, replica, revision| {
        let state = states.get_mut(&id(&both, name, replica)).unwrap();
        state.persisted.failures.insert(revision, why("never_healthy"));
        roll_back_together(&both, &mut states)
    };
    assert!(!fails("worker", 1, OLD), "the revision before has it, too");
    assert!(fails("extra", 0, NEW), "only this revision has it");
    assert!(states[&id(&both, "app", 0)].was_rolled_back_too(NEW));
}

/// It is decided from what is in the database.
#[test]
fn an_agent_that_comes_back_decides_the_same() {
    let both = deployment(
        vec![of("app", NEW), of("worker", NEW)],
        vec![of("app", OLD), of("worker", OLD)],
    );
    let mut states = states(&both);
    states.get_mut(&id(&both, "app", 0)).unwrap().roll_back(NEW, why("guard_oom"));
    let persisted = states.into_iter().map(|(id, state)| (id, state.persisted));
    let mut states = persisted.map(|(id, kept)| (id, WorkloadState::restore(kept))).collect();
    assert!(roll_back_together(&both, &mut states));
    assert!(states[&id(&both, "worker", 0)].was_rolled_back_too(NEW));
    // A part that only goes along is no reason for others to go.
    states.insert(id(&both, "app", 0), WorkloadState::default());
    assert!(!roll_back_together(&both, &mut states));
}

#[test]
fn without_a_revision_to_go_back_to_each_part_is_by_itself() {
    let alone = desired(1, "ghcr.io/a/b:1");
    let both = Arc::new(DeploymentSpec {
        services: vec![of("app", OLD), of("worker", OLD)].try_into().unwrap(),
        ..alone
    });
    let mut states = states(&both);
    states.get_mut(&id(&both, "worker", 0)).unwrap().roll_back(OLD, why("never_healthy"));
    assert!(!roll_back_together(&both, &mut states));
}

/// What a pass knows of a workload that serves what is desired of it.
fn serves(spec: WorkloadSpec) -> WorkloadFacts {
    WorkloadFacts {
        id: spec.id(),
        revision: spec.revision(),
        phase: Phase::Live,
        serving: Some(spec.revision()),
        health: Health::Healthy,
        checked_at: Some(Timestamp::UNIX_EPOCH),
        digest: spec.service().digest.clone(),
        failure: None,
        container: Some(format!("c-{}", spec.id())),
        restarts: 0,
        rolled_back: false,
        rolled_back_too: false,
        desired: Some(spec),
    }
}

fn facts(deployment: &Arc<DeploymentSpec>) -> Vec<WorkloadFacts> {
    let mut facts: Vec<_> = WorkloadSpec::of(deployment).map(serves).collect();
    facts.sort_by_key(|facts| facts.id);
    facts
}

#[test]
fn an_app_of_one_container_is_summed_up_as_itself() {
    let one = deployment(vec![of("app", NEW)], vec![of("app", OLD)]);
    let mut facts = facts(&one);
    facts[0].failure = Some(why("restarting"));
    facts[0].restarts = 2;
    let status = status(one.id, Some(&one), &facts);
    assert_eq!((status.revision, status.serving), (NEW, Some(NEW)));
    assert_eq!((status.phase, status.health), (Phase::Live, Health::Healthy));
    assert_eq!(
        (status.failure, status.restarts, status.rolled_back_to),
        (Some(why("restarting")), 2, None)
    );
    assert_eq!(status.checked_at, Some(Timestamp::UNIX_EPOCH));
    assert!(status.services.len() == 1 && status.services[0].replicas.len() == 1);
}

#[test]
fn a_deployment_is_as_far_as_its_part_that_is_furthest_behind() {
    let both = deployment(
        vec![of("app", OLD), of("worker", NEW)],
        vec![of("app", OLD), of("worker", OLD)],
    );
    let with = |phase| {
        let mut facts = facts(&both);
        facts[1].phase = phase;
        facts[1].failure = Some(why("busy"));
        status(both.id, Some(&both), &facts)
    };
    for phase in [Phase::Accepted, Phase::Pulling, Phase::Starting, Phase::Probing, Phase::Live] {
        let status = with(phase);
        assert_eq!(status.phase, phase);
        assert_eq!(status.serving, Some(NEW), "its public service belongs to both revisions");
        assert_eq!(status.failure.unwrap().cause, "service worker: it broke");
    }
    let failed = with(Phase::Failed);
    assert_eq!((failed.phase, failed.serving), (Phase::Failed, Some(OLD)), "the revision did not");
    assert_eq!(failed.services[0].phase, Phase::Live);
}

/// 'Failed, and nothing serves' is final for a coordinator.
#[test]
fn failed_is_not_said_while_visitors_are_about_to_be_answered_again() {
    let both = deployment(
        vec![of("app", NEW), of("worker", NEW)],
        vec![of("app", OLD), of("worker", OLD)],
    );
    let mut facts = facts(&both);
    (facts[0].phase, facts[0].serving, facts[0].rolled_back_too) = (Phase::Starting, None, true);
    facts[1].phase = Phase::Failed;
    let before = status(both.id, Some(&both), &facts);
    assert_eq!((before.phase, before.serving), (Phase::Starting, None));
    (facts[0].phase, facts[0].serving) = (Phase::Failed, Some(OLD));
    let after = status(both.id, Some(&both), &facts);
    assert_eq!(
        (after.phase, after.serving, after.rolled_back_to),
        (Phase::Failed, Some(OLD), None)
    );
    facts[1].rolled_back = true;
    let by_itself = status(both.id, Some(&both), &facts);
    assert_eq!(by_itself.rolled_back_to, Some(OLD));
}

#[test]
fn visitors_are_sent_to_all_replicas_that_answer() {
    let at = |octet| Target::Live { addresses: smallvec::smallvec![[127, 64, 0, octet].into()] };
    let all = Target::Live {
        addresses: smallvec::smallvec![[127, 64, 0, 1].into(), [127, 64, 0, 2].into()],
    };
    assert_eq!(target([Some(&at(1)), Some(&at(2))]), Some(all));
    assert_eq!(target([Some(&Target::Hold), Some(&at(2))]), Some(at(2)));
    assert_eq!(target([Some(&Target::Stopped), Some(&Target::Hold)]), Some(Target::Hold));
    assert_eq!(target([None, Some(&Target::Stopped)]), Some(Target::Stopped));
    assert_eq!(target([None]), None);
}

/// What is left of a service that the revision does not have is shown, and holds nothing up.
#[test]
fn leftovers_are_shown_and_do_not_count() {
    let one = deployment(vec![of("app", NEW)], vec![of("app", OLD), of("worker", OLD)]);
    let mut facts = facts(&one);
    let leaving = WorkloadFacts {
        id: id(&one, "worker", 0),
        desired: None,
        revision: OLD,
        phase: Phase::Stopping,
        serving: None,
        ..facts[0].clone()
    };
    facts.push(leaving);
    let status = status(one.id, Some(&one), &facts);
    assert_eq!((status.phase, status.revision), (Phase::Live, NEW));
    assert_eq!(
        status.services.iter().map(|s| s.phase).collect::<Vec<_>>(),
        [Phase::Live, Phase::Stopping]
    );
}

/// The next revision changes something else, and keeps what only went along.
#[test]
fn what_only_went_along_is_tried_again_in_the_next_revision() {
    let both = deployment(
        vec![of("app", NEW), of("worker", NEW)],
        vec![of("app", OLD), of("worker", OLD)],
    );
    let mut states = states(&both);
    states.get_mut(&id(&both, "app", 0)).unwrap().roll_back(NEW, why("guard_oom"));
    assert!(roll_back_together(&both, &mut states));
    let worker = states.get_mut(&id(&both, "worker", 0)).unwrap();
    let spec = |deployment: &Arc<DeploymentSpec>| {
        WorkloadSpec::of(deployment).find(|spec| !spec.public()).unwrap()
    };
    worker.prune(&spec(&both));
    assert!(worker.was_rolled_back_too(NEW));
    let next = Arc::new(DeploymentSpec { revision: Revision::new(3), ..both.as_ref().clone() });
    worker.prune(&spec(&next));
    assert!(!worker.was_rolled_back_too(NEW) && worker.persisted.failures.is_empty());
}

/// The replica that is left over answers with the old content.
#[test]
fn what_stands_in_is_what_serves() {
    let new = DeploymentSpec {
        auto_rollback: None,
        ..(*deployment(vec![of("app", NEW)], vec![of("app", OLD)])).clone()
    };
    let new = Arc::new(new);
    let mut facts = facts(&new);
    let left = WorkloadFacts {
        id: id(&new, "app", 1),
        desired: None,
        revision: OLD,
        phase: Phase::Stopping,
        serving: Some(OLD),
        ..facts[0].clone()
    };
    (facts[0].phase, facts[0].serving) = (Phase::Failed, None);
    facts.push(left);
    let status = status(new.id, Some(&new), &facts);
    assert_eq!((status.phase, status.revision, status.serving), (Phase::Failed, NEW, Some(OLD)));
}
