//! A host that does not hold containers to their limits, whatever Podman says.

use super::auto_rollback::watched;
use super::*;
use crate::model::cgroup::Breach;
use crate::model::host_facts::{LIMITS_NOT_ENFORCED, LimitGap};

const BROKEN: LimitCheck = LimitCheck::Broken(Breach::Shared);

fn code(plan: &Plan) -> Option<&str> {
    plan.failure.as_ref().map(|failure| &*failure.code)
}

fn is_live(plan: &Plan) -> bool {
    matches!(plan.target, Some(Target::Live { .. }))
}

#[test]
fn fm_78_without_enforced_limits_a_rollout_waits_and_nothing_is_started() {
    let mut model = Model::new(Some(RunState::Running), App::Answers);
    model.rules.limits = LimitRule::Missing(LimitGap::Manager);
    let plan = model.settle();
    assert_eq!(code(&plan), Some(LIMITS_NOT_ENFORCED));
    assert!(plan.failure.unwrap().fix.contains("dbus-user-session"));
    assert_ne!(plan.phase, Phase::Failed, "the host is at fault, not the revision");
    model.rules.limits = LimitRule::Unknown;
    model.settle();
    assert!(model.done.is_empty(), "it is not known yet, so it waits");
    for rule in [LimitRule::Enforced, LimitRule::Waived] {
        let mut model = Model::new(Some(RunState::Running), App::Answers);
        model.rules.limits = LimitRule::Missing(LimitGap::Version);
        model.settle();
        model.rules.limits = rule;
        assert_eq!(model.settle().phase, Phase::Live);
    }
}

#[test]
fn fm_78_a_container_without_limits_is_removed_and_made_again_without_blame() {
    let mut model = Model::new(Some(RunState::Running), App::Answers);
    model.put(OLD, Slot::A, ContainerState::Running);
    model.serves(OLD, Slot::A);
    model.started_with = BROKEN;
    let old = model.name(OLD, Slot::A);
    let begun = model.now;
    while model.now.duration_since(begun) < Duration::from_hours(2) {
        let plan = model.turn();
        assert!(is_live(&plan) && plan.container.as_ref() == Some(&old), "the old one serves");
        assert_ne!(plan.phase, Phase::Failed, "{plan:?}");
    }
    let tries = model.done.iter().filter(|step| matches!(step, Step::Start(_))).count();
    assert!((30..150).contains(&tries), "it is tried again with growing pauses: {tries}");
    assert_eq!(code(&model.plan()), Some(LIMITS_NOT_ENFORCED), "it is told why it waits");
    assert!(model.state.persisted.failures.is_empty());
    model.started_with = LimitCheck::Held;
    let plan = model.settle();
    assert_eq!((plan.phase, plan.failure, model.running()), (Phase::Live, None, vec![NEW]));
}

/// It was started before the host's trouble was known.
#[test]
fn fm_78_what_runs_without_limits_is_removed_even_if_nothing_is_started() {
    let mut model = Model::new(Some(RunState::Running), App::Answers);
    model.put(NEW, Slot::A, ContainerState::Running);
    let name = model.name(NEW, Slot::A);
    model.limits.insert(name.clone(), BROKEN);
    model.rules.limits = LimitRule::Missing(LimitGap::Manager);
    let plan = model.settle();
    assert_eq!(
        (code(&plan), &model.done[..]),
        (Some(LIMITS_NOT_ENFORCED), &[Step::Remove(name)][..])
    );
}

/// Until they are read it gets no visitors, however well it answers; and it is not given up for that.
#[test]
fn fm_78_visitors_wait_until_the_limits_are_known() {
    let mut model = Model::new(Some(RunState::Running), App::Answers);
    model.started_with = LimitCheck::Unread;
    model.stride = Duration::from_secs(5);
    let begun = model.now;
    while model.now.duration_since(begun) < Duration::from_mins(20) {
        let plan = model.turn();
        assert!(!is_live(&plan) && plan.phase != Phase::Failed, "{plan:?}");
    }
    assert_eq!(code(&model.plan()), Some(LIMITS_NOT_ENFORCED));
    let name = model.name(NEW, Slot::A);
    model.limits.insert(name, LimitCheck::Held);
    let plan = model.settle();
    assert_eq!((plan.phase, plan.failure), (Phase::Live, None));
}

#[test]
fn fm_78_what_serves_already_is_not_taken_from_its_visitors() {
    let mut model = Model::new(Some(RunState::Running), App::Answers);
    model.put(NEW, Slot::A, ContainerState::Running);
    model.serves(NEW, Slot::A);
    model.limits.insert(model.name(NEW, Slot::A), BROKEN);
    for _ in 0..5 {
        assert!(is_live(&model.turn()));
    }
    let plan = model.settle();
    assert_eq!((plan.phase, code(&plan)), (Phase::Live, Some(LIMITS_NOT_ENFORCED)));
    assert!(model.done.is_empty(), "{:?}", model.done);
}

/// What this agent starts again has to be limited, and is made again otherwise: nobody would notice
/// one that ends itself to get rid of its limits. Auto rollback does not blame its revision.
#[test]
fn fm_78_what_is_restarted_without_limits_gets_no_visitors() {
    let mut model = watched(App::Answers);
    let name = model.name(NEW, Slot::B);
    model.containers.get_mut(&name).unwrap().state = ContainerState::Exited(1);
    model.started_with = BROKEN;
    let begun = model.now;
    while model.now.duration_since(begun) < Duration::from_mins(4) {
        let plan = model.turn();
        assert!(!is_live(&plan) && plan.phase != Phase::Failed, "{plan:?}");
    }
    assert_eq!(code(&model.plan()), Some(LIMITS_NOT_ENFORCED));
    assert!(model.done.contains(&Step::Remove(name)), "{:?}", model.done);
    assert!(model.state.watches(NEW) && model.state.persisted.failures.is_empty());
    model.started_with = LimitCheck::Held;
    let plan = model.settle();
    assert_eq!((plan.phase, plan.failure, model.running()), (Phase::Live, None, vec![NEW]));
}

/// No document says how to make another one: it is better than nothing.
#[test]
fn fm_78_what_cannot_be_made_again_serves_without_limits() {
    let mut model = Model::new(Some(RunState::Running), App::Answers);
    model.put(OLD, Slot::A, ContainerState::Exited(1));
    model.serves(OLD, Slot::A);
    let failure = messages::host_full();
    model.state.persisted.failures.insert(NEW, failure);
    model.started_with = BROKEN;
    for _ in 0..5 {
        model.turn();
    }
    assert!(is_live(&model.turn()), "{:?}", model.done);
}

/// A `recreate` makes room first. If the new one has no limits, the old one serves again meanwhile.
#[test]
fn fm_78_a_recreate_without_limits_keeps_the_old_revision_serving() {
    let mut model = Model::new(Some(RunState::Running), App::Answers);
    model.edit(|service| service.strategy = Replacing::Recreate);
    model.put(OLD, Slot::A, ContainerState::Running);
    model.serves(OLD, Slot::A);
    model.stride = Duration::from_secs(1);
    let begun = model.now;
    let (mut passed, mut served) = (0, 0);
    while model.now.duration_since(begun) < Duration::from_hours(1) {
        // Only the new one is affected: the old one was made before.
        let old = model.name(OLD, Slot::A);
        model.started_with = BROKEN;
        let before = model.now;
        let plan = model.turn();
        model.limits.insert(old, LimitCheck::Held);
        let took = model.now.duration_since(before).as_millis();
        passed += took;
        served += if is_live(&plan) { took } else { 0 };
        assert_ne!(plan.phase, Phase::Failed, "{plan:?}");
    }
    assert!(served * 100 > passed * 85, "it served {served} of {passed} ms");
    model.stride = Duration::from_hours(1);
    model.started_with = LimitCheck::Held;
    let plan = model.settle();
    assert_eq!((plan.phase, model.running()), (Phase::Live, vec![NEW]));
}
