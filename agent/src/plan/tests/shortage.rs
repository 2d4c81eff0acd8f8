//! A host that lacks a resource to create or start a container.

use super::*;

/// Whatever is lacking, and for however long: the app is told why it waits, and continues by
/// itself.
#[test]
fn fm_56_a_host_shortage_never_counts_as_a_failed_start() {
    for lacking in ["create", "start"] {
        let mut model = Model::new(Some(RunState::Running), App::Answers);
        model.lacking.insert(lacking);
        let begun = model.now;
        while model.now.duration_since(begun) < Duration::from_hours(2) {
            let plan = model.turn();
            assert_ne!(plan.phase, Phase::Failed, "{plan:?}");
            let told = plan.failure.is_none_or(|failure| failure.code == "host_out_of_keys");
            assert!(told, "{lacking}: {:?}", model.state.attempt);
        }
        let tries = model.done.iter().filter(|step| step.word() == lacking).count();
        assert!((30..150).contains(&tries), "it is asked for with growing pauses: {tries}");
        assert!(model.plan().failure.is_some(), "it is told why it waits");
        model.lacking.clear();
        let plan = model.settle();
        assert_eq!((plan.phase, plan.failure, model.running()), (Phase::Live, None, vec![NEW]));
    }
}

/// Afterwards the revision's own failures get the full patience, and no more.
#[test]
fn after_a_shortage_the_apps_own_failures_get_full_patience() {
    let mut model = Model::new(Some(RunState::Running), App::Exits);
    model.lacking.insert("start");
    let begun = model.now;
    while model.now.duration_since(begun) < Duration::from_hours(1) {
        model.turn();
    }
    model.lacking.clear();
    let plan = model.settle();
    let failure = plan.failure.unwrap();
    assert_eq!((plan.phase, &*failure.code), (Phase::Failed, "exited_at_start"));
    assert!(failure.cause.contains("3 times"), "{failure:?}");

    let mut model = Model::new(Some(RunState::Running), App::Answers);
    model.lacking.insert("create");
    let begun = model.now;
    while model.now.duration_since(begun) < Duration::from_hours(1) {
        model.turn();
    }
    model.image = Err("registry_rate_limited");
    let begun = model.now;
    assert_eq!(model.settle().failure.unwrap().code, "registry_rate_limited");
    assert!(model.now.duration_since(begun) >= Duration::from_mins(5), "given up too soon");
}

/// A new container would lack the same: this one stays, and is started once the host can.
#[test]
fn fm_56_a_container_is_kept_while_the_host_cannot_restart_it() {
    let mut model = Model::new(Some(RunState::Running), App::Answers);
    model.put(NEW, Slot::A, ContainerState::Running);
    model.serves(NEW, Slot::A);
    model.settle();
    let name = model.name(NEW, Slot::A);
    model.containers.get_mut(&name).unwrap().state = ContainerState::Exited(1);
    model.lacking.insert("start");
    model.done.clear();
    let begun = model.now;
    while model.now.duration_since(begun) < Duration::from_hours(1) {
        let plan = model.turn();
        assert_eq!(plan.target, Some(Target::Hold));
    }
    assert_eq!(model.plan().failure.unwrap().code, "host_out_of_keys");
    assert!(model.done.iter().all(|step| *step == Step::Start(name.clone())), "{:?}", model.done);
    model.lacking.clear();
    let plan = model.settle();
    assert_eq!((plan.phase, plan.failure), (Phase::Live, None));
}

/// A `recreate` makes room first. If the host then refuses the new container, the old one serves
/// again meanwhile, at once each time: it did not crash.
#[test]
fn fm_56_a_recreate_refused_by_the_host_keeps_the_old_revision_serving() {
    let mut model = Model::new(Some(RunState::Running), App::Answers);
    model.edit(|service| service.strategy = Replacing::Recreate);
    model.put(OLD, Slot::A, ContainerState::Running);
    model.serves(OLD, Slot::A);
    model.lacking.insert("create");
    model.stride = Duration::from_secs(1);
    let begun = model.now;
    let (mut turns, mut serves) = (0, 0);
    while model.now.duration_since(begun) < Duration::from_hours(1) {
        let before = model.now;
        let plan = model.turn();
        let passed = model.now.duration_since(before).as_millis();
        turns += passed;
        serves += if matches!(plan.target, Some(Target::Live { .. })) { passed } else { 0 };
    }
    assert!(serves * 100 > turns * 90, "it served {serves} of {turns} ms");
    model.stride = Duration::from_hours(1);
    let name = model.name(OLD, Slot::A);
    assert!(model.done.contains(&Step::Start(name)), "{:?}", model.done);
    model.lacking.clear();
    let plan = model.settle();
    assert_eq!((plan.phase, model.running()), (Phase::Live, vec![NEW]));
}
