//! What serves, where a list or a deployment state proves less than it seems to.

use super::*;

fn serving() -> (Model, String) {
    let mut model = Model::new(Some(RunState::Running), App::Answers);
    model.put(NEW, Slot::A, ContainerState::Running);
    model.serves(NEW, Slot::A);
    model.settle();
    let name = model.name(NEW, Slot::A);
    (model, name)
}

#[test]
fn a_container_podman_refuses_to_restart_is_recreated() {
    let (mut model, name) = serving();
    model.containers.get_mut(&name).unwrap().state = ContainerState::Exited(1);
    model.unstartable = Some(name.clone());
    let down = model.now;
    while !model.done.iter().any(|step| matches!(step, Step::Create(_))) {
        model.turn();
        let waited = model.now.duration_since(down);
        assert!(waited < Duration::from_mins(5), "it is tried for ever");
    }
    assert_eq!(model.settle().phase, Phase::Live);
    assert_eq!(model.running(), [NEW]);
}

#[test]
fn recreate_keeps_the_old_container_serving_until_the_image_is_pulled() {
    let mut model = Model::new(Some(RunState::Running), App::Answers);
    model.edit(|service| service.strategy = Replacing::Recreate);
    model.put(OLD, Slot::A, ContainerState::Running);
    model.serves(OLD, Slot::A);
    model.image = Err("registry_rate_limited");
    let begun = model.now;
    while model.now.duration_since(begun) < Duration::from_mins(2) {
        let plan = model.turn();
        assert!(matches!(plan.target, Some(Target::Live { .. })), "{plan:?}");
    }
    assert!(model.done.iter().all(|step| *step == Step::Image), "{:?}", model.done);
    model.image = Ok(());
    model.settle();
    assert_eq!(model.running(), [NEW]);
}

/// The list was made before the start under way took effect.
#[test]
fn a_broken_state_is_ignored_while_a_start_is_under_way() {
    let (mut model, name) = serving();
    model.containers.get_mut(&name).unwrap().state = ContainerState::Broken;
    model.busy.serve = Some(Step::Start(name.clone()));
    model.plan();
    assert!(model.state.persisted.live.is_some());
    model.busy.serve = None;
    let plan = model.plan();
    assert!(model.state.persisted.live.is_none(), "{plan:?}");
}

#[test]
fn a_held_container_must_answer_before_it_gets_traffic() {
    let address = network().address(Index::new(0).unwrap(), Slot::A);
    for (before, assumed) in [
        (Target::Hold, false),
        (Target::Live { addresses: smallvec::smallvec![*address.ip()] }, true),
    ] {
        let (mut model, name) = serving();
        model.health.clear();
        model.state.target = Some(before);
        let plan = model.plan();
        let watched = plan.probes.iter().find(|probed| probed.name == name).unwrap();
        assert_eq!(watched.assumed, assumed, "{plan:?}");
    }
}

/// Podman was killed while starting it. Its process runs, and nothing forwards its port.
#[test]
fn fm_23_a_container_whose_start_was_cut_short_is_recreated_promptly() {
    let first = Model::new(Some(RunState::Running), App::Answers);
    let mut update = Model::new(Some(RunState::Running), App::Answers);
    update.put(OLD, Slot::A, ContainerState::Running);
    update.serves(OLD, Slot::A);
    let (mut crashed, name) = serving();
    crashed.containers.get_mut(&name).unwrap().state = ContainerState::Exited(1);
    for mut model in [first, update, crashed] {
        model.torn_starts = 2;
        model.stride = Duration::from_secs(1);
        let begun = model.now;
        while model.torn_starts > 0 || model.turn().phase != Phase::Live {
            model.turn();
            let waited = model.now.duration_since(begun);
            assert!(waited < Duration::from_secs(30), "{:?}", model.done);
        }
        model.settle();
        assert_eq!(model.running(), [NEW]);
        assert!(model.deaf.is_empty());
    }
}

/// The agent was killed together with Podman: it is not known that the start was cut short.
#[test]
fn fm_23_an_agent_recreates_an_unforwarded_container_it_did_not_start() {
    // The shortest deadline would be over if such a container were recreated.
    let shortest = 5_000;
    for (serves, deadline) in [(false, None), (true, None), (false, Some(shortest))] {
        let mut model = Model::new(Some(RunState::Running), App::Answers);
        if let Some(deadline) = deadline {
            model.edit(|service| service.probe.start_deadline_ms = deadline);
        }
        model.put(NEW, Slot::A, ContainerState::Running);
        model.deaf.insert(model.name(NEW, Slot::A));
        if serves {
            model.serves(NEW, Slot::A);
            model.state.target = Some(Target::Hold);
        }
        model.stride = Duration::from_secs(1);
        let begun = model.now;
        while model.turn().phase != Phase::Live {
            let waited = model.now.duration_since(begun);
            assert!(waited < Duration::from_secs(15), "{:?}", model.done);
        }
        model.settle();
        assert_eq!(model.running(), [NEW]);
        assert!(model.deaf.is_empty());
    }
}

/// The newer revision was given up. No document describes the one that serves, so it cannot be
/// recreated.
#[test]
fn fm_23_an_unforwarded_container_without_a_document_is_restarted() {
    for target in [None, Some(Target::Hold)] {
        let mut model = Model::new(Some(RunState::Running), App::Answers);
        model.state.persisted.failures.insert(NEW, messages::host_full());
        model.put(OLD, Slot::A, ContainerState::Running);
        model.serves(OLD, Slot::A);
        let name = model.name(OLD, Slot::A);
        model.deaf.insert(name.clone());
        if target.is_some() {
            model.state.target = target;
        }
        model.stride = Duration::from_secs(1);
        let (begun, mut held) = (model.now, None);
        loop {
            let now = model.now;
            let target = model.turn().target;
            if matches!(target, Some(Target::Live { .. })) && !model.deaf.contains(&name) {
                break;
            }
            if target == Some(Target::Hold) {
                held.get_or_insert(now);
            }
            if model.done.contains(&Step::Stop(name.clone())) {
                let drained = model.now.duration_since(held.expect("nobody is sent to it"));
                assert!(drained >= Duration::from_millis(1_500), "{drained:?}");
            }
            let waited = model.now.duration_since(begun);
            assert!(waited < Duration::from_mins(1), "{:?}", model.done);
        }
        assert_eq!(model.running(), [OLD]);
        let makes = |step: &Step| matches!(step, Step::Create(_) | Step::Remove(_));
        assert!(!model.done.iter().any(makes), "{:?}", model.done);
    }
}

#[test]
fn a_revision_is_given_up_if_its_ports_are_never_forwarded() {
    let mut model = Model::new(Some(RunState::Running), App::Answers);
    model.unforwarded = true;
    let failure = model.settle().failure.expect("it is given up");
    assert_eq!(failure.code, "never_healthy");
    assert!(failure.cause.contains("connection refused"), "{}", failure.cause);
    let created = model.done.iter().filter(|step| matches!(step, Step::Create(_))).count();
    assert_eq!(created, 4);
}

/// Database and table are lost while the old container makes room for the new one.
#[test]
fn an_app_with_only_a_stopped_container_is_not_a_first_deploy() {
    let mut model = Model::new(Some(RunState::Running), App::Answers);
    model.edit(|service| service.strategy = Replacing::Recreate);
    assert_eq!(model.plan().target, None);
    model.put(OLD, Slot::A, ContainerState::Exited(143));
    assert_eq!(model.plan().target, Some(Target::Hold));
    assert_eq!(model.settle().phase, Phase::Live);
}

/// Visitors are sent to it until a new container answers, as after damage to Podman's database.
#[test]
fn fm_19_an_orphan_is_ended_only_after_its_traffic_has_drained() {
    let mut model = Model::new(Some(RunState::Running), App::Answers);
    model.serves(NEW, Slot::A);
    model.squatted.insert(Slot::A);
    model.state.orphans.insert(Slot::A, NEW);
    let mut switched = None;
    while !model.done.contains(&Step::EndOrphans(Slot::A)) {
        let now = model.now;
        if matches!(model.turn().target, Some(Target::Live { .. })) {
            switched.get_or_insert(now);
        }
    }
    let since = switched.expect("another one serves");
    assert!(model.now.duration_since(since) >= Duration::from_secs(10));
    assert_eq!(model.settle().phase, Phase::Live);
    assert!(model.state.orphans.is_empty() && model.containers.len() == 1);
}

/// The table that sends nobody to it is not written yet.
#[test]
fn an_orphan_stays_while_the_table_sends_it_traffic() {
    let mut model = Model::new(Some(RunState::Running), App::Answers);
    // So that nothing else is planned.
    model.rules.limits = LimitRule::Unknown;
    model.state.orphans.insert(Slot::A, OLD);
    let address = network().address(Index::new(0).unwrap(), Slot::A);
    model.state.target = Some(Target::Live { addresses: smallvec::smallvec![*address.ip()] });
    model.state.in_force = Some(model.now);
    model.now += Duration::from_hours(1);
    let plan = model.plan();
    assert_eq!((&plan.target, plan.steps(Lane::Roll)), (&Some(Target::Hold), &[][..]));
}

#[test]
fn fm_19_an_orphan_of_a_stopped_app_is_ended() {
    for run in [Some(RunState::Stopped), Some(RunState::Suspended), None] {
        let mut model = Model::new(run, App::Answers);
        model.state.orphans.insert(Slot::B, OLD);
        let first = model.turn();
        assert_eq!((first.phase, first.gone), (Phase::Stopping, false));
        assert_eq!(model.done, [Step::EndOrphans(Slot::B)]);
        let last = model.settle();
        assert_eq!((last.phase, last.gone), (Phase::Stopped, run.is_none()));
    }
}

#[test]
fn fm_24_ending_a_stubborn_orphan_is_retried_with_back_off() {
    for run in [Some(RunState::Running), Some(RunState::Stopped), None] {
        let mut model = Model::new(run, App::Answers);
        if run == Some(RunState::Running) {
            model.put(NEW, Slot::B, ContainerState::Running);
            model.serves(NEW, Slot::B);
        }
        model.state.orphans.insert(Slot::A, OLD);
        model.stubborn = true;
        let begun = model.now;
        while model.now.duration_since(begun) < Duration::from_mins(5) {
            model.turn();
        }
        let tried = model.done.len();
        assert!((3..30).contains(&tried), "{run:?}: {tried} steps in five minutes");
    }
}

/// As left by a start during which Podman was killed: it holds the only free address.
#[test]
fn fm_26_an_orphan_blocking_the_only_free_slot_is_ended() {
    let mut model = Model::new(Some(RunState::Running), App::Answers);
    model.put(OLD, Slot::B, ContainerState::Running);
    model.serves(OLD, Slot::B);
    model.squatted.insert(Slot::A);
    assert_eq!(model.settle().phase, Phase::Live);
    assert_eq!(model.running(), [NEW]);
    assert!(model.done.contains(&Step::EndOrphans(Slot::A)));
    assert!(model.done.contains(&Step::FreeAddress(Slot::A)));
}

/// It may still answer visitors, until the other slot does.
#[test]
fn an_orphan_is_left_alone_while_another_slot_is_free() {
    let mut model = Model::new(Some(RunState::Running), App::Answers);
    model.squatted.insert(Slot::A);
    assert_eq!(model.settle().phase, Phase::Live);
    assert!(model.squatted.contains(&Slot::A) && model.containers.len() == 1);
    // Both are held: there is no other.
    let mut model = Model::new(Some(RunState::Running), App::Answers);
    model.squatted.extend([Slot::A, Slot::B]);
    assert_eq!(model.settle().phase, Phase::Live);
}

/// It keeps serving meanwhile: a sick container may still answer some visitors.
#[test]
fn fm_58_an_unhealthy_app_without_a_permit_serves_on_and_says_why() {
    for (permit, says) in
        [(Permit::HostTrouble, "its host is in trouble"), (Permit::Later, "waits its turn")]
    {
        let (mut model, _) = serving();
        model.app = App::Silent;
        model.permit = permit;
        model.stride = Duration::from_secs(5);
        model.turn();
        for _ in 0..100 {
            let plan = model.turn();
            assert!(matches!(plan.target, Some(Target::Live { .. })), "{plan:?}");
            assert_eq!(
                (plan.phase, plan.replacing),
                (Phase::Live, Some(crate::plan::Replacing::Waits))
            );
            let failure = plan.failure.unwrap();
            assert!(failure.code == "unhealthy" && failure.cause.contains(says), "{failure:?}");
        }
        assert!(!model.done.contains(&Step::Create(Slot::B)), "{:?}", model.done);
        model.permit = Permit::Granted;
        let plan = model.turn();
        assert_eq!(plan.replacing, Some(crate::plan::Replacing::Begins));
        assert!(model.done.contains(&Step::Create(Slot::B)), "one that may is replaced at once");
        // The rest of its rollout needs no further permit.
        model.permit = Permit::HostTrouble;
        model.app = App::Answers;
        assert_eq!(model.settle().phase, Phase::Live);
    }
}

/// It cannot answer anybody, whatever the state of the host.
#[test]
fn fm_58_an_unforwarded_container_is_replaced_without_a_permit() {
    let (mut model, name) = serving();
    model.deaf.insert(name);
    model.permit = Permit::HostTrouble;
    while !model.done.contains(&Step::Create(Slot::B)) {
        let plan = model.turn();
        assert_ne!(plan.replacing, Some(crate::plan::Replacing::Waits));
    }
    assert_eq!(model.settle().phase, Phase::Live);
}

/// Nor does it take the turn of one that waits.
#[test]
fn an_unforwarded_container_uses_no_permit() {
    let (mut model, name) = serving();
    model.deaf.insert(name);
    while !model.done.contains(&Step::Create(Slot::B)) {
        assert_eq!(model.turn().replacing, None);
    }
}
