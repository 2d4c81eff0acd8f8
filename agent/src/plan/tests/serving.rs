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
fn what_podman_refuses_to_start_again_is_made_anew() {
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
fn recreate_keeps_the_old_one_serving_until_the_new_image_is_here() {
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
fn what_is_just_being_started_is_not_believed_to_be_lost() {
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
fn what_was_held_has_to_answer_before_visitors_are_sent_to_it() {
    let address = network().address(Index::new(0).unwrap(), Slot::A);
    for (before, assumed) in
        [(Target::Hold, false), (Target::Live { addresses: vec![*address.ip()] }, true)]
    {
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
fn fm_23_a_start_that_podman_did_not_end_is_made_anew_and_not_waited_for() {
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
fn fm_23_what_nothing_forwards_to_is_made_anew_by_an_agent_that_knows_nothing_of_its_start() {
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
fn fm_23_what_nothing_forwards_to_and_nobody_can_make_anew_is_started_again() {
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
fn on_a_host_that_forwards_nothing_a_revision_is_given_up_in_the_end() {
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
fn an_app_of_which_only_a_stopped_container_is_known_is_no_first_deploy() {
    let mut model = Model::new(Some(RunState::Running), App::Answers);
    model.edit(|service| service.strategy = Replacing::Recreate);
    assert_eq!(model.plan().target, None);
    model.put(OLD, Slot::A, ContainerState::Exited(143));
    assert_eq!(model.plan().target, Some(Target::Hold));
    assert_eq!(model.settle().phase, Phase::Live);
}

/// Visitors are sent to it until a new container answers, as after damage to Podman's database.
#[test]
fn fm_19_what_podman_has_lost_is_ended_once_visitors_were_sent_elsewhere_for_the_drain_time() {
    let mut model = Model::new(Some(RunState::Running), App::Answers);
    model.serves(NEW, Slot::A);
    model.squatted.insert(Slot::A);
    model.state.lost.insert(Slot::A, NEW);
    let mut switched = None;
    while !model.done.contains(&Step::EndLost(Slot::A)) {
        let now = model.now;
        if matches!(model.turn().target, Some(Target::Live { .. })) {
            switched.get_or_insert(now);
        }
    }
    let since = switched.expect("another one serves");
    assert!(model.now.duration_since(since) >= Duration::from_secs(10));
    assert_eq!(model.settle().phase, Phase::Live);
    assert!(model.state.lost.is_empty() && model.containers.len() == 1);
}

/// The table that sends nobody to it is not written yet.
#[test]
fn what_podman_has_lost_stays_while_visitors_are_sent_to_it() {
    let mut model = Model::new(Some(RunState::Running), App::Answers);
    // So that nothing else is planned.
    model.rules.limits = LimitRule::Unknown;
    model.state.lost.insert(Slot::A, OLD);
    let address = network().address(Index::new(0).unwrap(), Slot::A);
    model.state.target = Some(Target::Live { addresses: vec![*address.ip()] });
    model.state.in_force = Some(model.now);
    model.now += Duration::from_hours(1);
    let plan = model.plan();
    assert_eq!((&plan.target, plan.steps(Lane::Roll)), (&Some(Target::Hold), &[][..]));
}

#[test]
fn fm_19_an_app_that_shall_not_run_does_not_even_where_podman_has_lost_it() {
    for run in [Some(RunState::Stopped), Some(RunState::Suspended), None] {
        let mut model = Model::new(run, App::Answers);
        model.state.lost.insert(Slot::B, OLD);
        let first = model.turn();
        assert_eq!((first.phase, first.gone), (Phase::Stopping, false));
        assert_eq!(model.done, [Step::EndLost(Slot::B)]);
        let last = model.settle();
        assert_eq!((last.phase, last.gone), (Phase::Stopped, run.is_none()));
    }
}

#[test]
fn fm_24_what_podman_has_lost_and_does_not_end_is_tried_ever_slower() {
    for run in [Some(RunState::Running), Some(RunState::Stopped), None] {
        let mut model = Model::new(run, App::Answers);
        if run == Some(RunState::Running) {
            model.put(NEW, Slot::B, ContainerState::Running);
            model.serves(NEW, Slot::B);
        }
        model.state.lost.insert(Slot::A, OLD);
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
fn fm_26_what_podman_has_lost_is_ended_where_it_keeps_a_new_revision_out() {
    let mut model = Model::new(Some(RunState::Running), App::Answers);
    model.put(OLD, Slot::B, ContainerState::Running);
    model.serves(OLD, Slot::B);
    model.squatted.insert(Slot::A);
    assert_eq!(model.settle().phase, Phase::Live);
    assert_eq!(model.running(), [NEW]);
    assert!(model.done.contains(&Step::EndLost(Slot::A)));
    assert!(model.done.contains(&Step::FreeAddress(Slot::A)));
}

/// It may still answer visitors, until the other slot does.
#[test]
fn what_podman_has_lost_is_left_alone_while_there_is_another_slot() {
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
fn fm_58_what_is_sick_while_its_host_is_waits_serves_on_and_says_why() {
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
fn fm_58_what_nothing_forwards_to_is_replaced_without_a_permit() {
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
fn what_nothing_forwards_to_takes_no_permit_from_others() {
    let (mut model, name) = serving();
    model.deaf.insert(name);
    while !model.done.contains(&Step::Create(Slot::B)) {
        assert_eq!(model.turn().replacing, None);
    }
}
