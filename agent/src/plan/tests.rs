//! Plans against a model: steps are applied to a small Podman in memory. From any mixture of
//! containers and deployment states it must end in the desired state, and never pass through a
//! state that hurts visitors.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use buddo_shared::host_wire::manifest::{DeploymentSpec, Strategy as Replacing};
use buddo_shared::model::probe::Probe;
use jiff::Timestamp;
use proptest::prelude::*;

use super::*;
use crate::model::address::Index;
use crate::model::health::{Level, ProbeOutcome};
use crate::model::persisted::Persisted;
use crate::plan::state::StepOutcome;

mod auto_rollback;
mod limits;
mod model;
mod secrets;
mod serving;
mod shortage;

use model::{App, Model, NEW, OLD, Refusal, digest, hangs, network};

#[test]
fn a_first_deploy_runs_all_steps_in_one_operation() {
    let mut model = Model::new(Some(RunState::Running), App::Answers);
    let first = model.turn();
    assert_eq!(first.target, None, "no such app until its container runs");
    let name = model.name(NEW, Slot::A);
    assert_eq!(
        model.done,
        [Step::Image, Step::Create(Slot::A), Step::Start(name.clone()), Step::Watch(name)]
    );
    let second = model.turn();
    assert_eq!(second.phase, Phase::Live, "healthy, so live in the next pass");
    assert!(matches!(second.target, Some(Target::Live { .. })));
    model.done.clear();
    model.settle();
    assert!(model.done.is_empty(), "nothing to do is nothing done: {:?}", model.done);
}

/// Its operator stops it, and starts it again before Podman has carried the stop out.
#[test]
fn a_container_being_stopped_does_not_count_as_serving() {
    let mut model = Model::new(Some(RunState::Running), App::Answers);
    model.put(NEW, Slot::A, ContainerState::Running);
    let name = model.name(NEW, Slot::A);
    model.health.insert(name.clone(), Tracker::new(Level::Starting));
    model.probe();
    model.busy.roll = Some(Step::Stop(name.clone()));
    assert_eq!(model.plan().target, Some(Target::Hold));
    // Another one first, and then this one.
    model.busy.roll = Some(Step::Remove(model.name(OLD, Slot::B)));
    model.busy.roll_next = vec![Step::Stop(name.clone()), Step::Remove(name)];
    assert_eq!(model.plan().target, Some(Target::Hold));
    model.busy = Busy::default();
    assert!(matches!(model.plan().target, Some(Target::Live { .. })));
}

#[test]
fn requests_are_held_while_the_first_container_starts() {
    let mut model = Model::new(Some(RunState::Running), App::Silent);
    model.turn();
    assert_eq!(model.turn().target, Some(Target::Hold));
}

#[test]
fn an_update_switches_first_and_stops_the_old_one_after_the_drain() {
    let mut model = Model::new(Some(RunState::Running), App::Answers);
    model.put(OLD, Slot::A, ContainerState::Running);
    model.serves(OLD, Slot::A);
    model.turn();
    let switched = model.now;
    let switch = model.turn();
    let new = network().address(Index::new(0).unwrap(), Slot::B);
    assert_eq!(switch.target, Some(Target::Live { addresses: smallvec::smallvec![*new.ip()] }));
    let stop = Step::Stop(model.name(OLD, Slot::A));
    let mut stopped = model.now;
    while !model.done.contains(&stop) {
        stopped = model.now;
        model.turn();
    }
    assert!(stopped.duration_since(switched) >= Duration::from_secs(10));
    model.settle();
    assert_eq!(model.running(), [NEW]);
}

/// While Podman was away, the new container answered once and then hung.
#[test]
fn visitors_are_not_switched_to_what_no_longer_answers() {
    let mut model = Model::new(Some(RunState::Running), App::Answers);
    model.put(OLD, Slot::A, ContainerState::Running);
    model.serves(OLD, Slot::A);
    model.turn();
    let new = model.name(NEW, Slot::B);
    let probe = Probe { healthy_after: 1, unhealthy_after: 3, ..Probe::default() };
    let tracker = model.health.get_mut(&new).unwrap();
    tracker.record(&probe, ProbeOutcome::Healthy, Timestamp::UNIX_EPOCH);
    let hung = ProbeOutcome::TimedOut("no answer within 1000 ms".to_owned());
    tracker.record(&probe, hung, Timestamp::UNIX_EPOCH);
    assert_eq!(tracker.level(), Level::Healthy);
    let old = network().address(Index::new(0).unwrap(), Slot::A);
    let stays = Some(Target::Live { addresses: smallvec::smallvec![*old.ip()] });
    assert_eq!(model.plan().target, stays);
    let tracker = model.health.get_mut(&new).unwrap();
    tracker.record(&probe, ProbeOutcome::Healthy, Timestamp::UNIX_EPOCH);
    let new = network().address(Index::new(0).unwrap(), Slot::B);
    let switched = Some(Target::Live { addresses: smallvec::smallvec![*new.ip()] });
    assert_eq!(model.plan().target, switched, "it answers again");
}

/// Its deadline passes while Podman is away, and the probe before the next pass is missed.
#[test]
fn what_answered_before_its_deadline_has_as_long_again_to_answer_reliably() {
    let probe = Probe { healthy_after: 1, unhealthy_after: 3, ..Probe::default() };
    let hung = || ProbeOutcome::TimedOut("no answer within 1000 ms".to_owned());
    let mut model = Model::new(Some(RunState::Running), App::Silent);
    model.turn();
    let name = model.name(NEW, Slot::A);
    let outcome = |model: &mut Model, outcome| {
        let tracker = model.health.get_mut(&name).unwrap();
        tracker.record(&probe, outcome, Timestamp::UNIX_EPOCH);
    };
    outcome(&mut model, ProbeOutcome::Healthy);
    outcome(&mut model, hung());
    model.plan();
    let begun = model.now;
    model.now += deadline(&probe);
    let plan = model.plan();
    assert_eq!((plan.phase, plan.failure), (Phase::Probing, None));
    assert!(plan.wake.is_some_and(|wake| wake > model.now), "the pass would spin");
    // One that goes on like this is given up all the same.
    model.now = begun + deadline(&probe) * 2;
    let failure = model.plan().failure.unwrap();
    assert_eq!(failure.code, "never_healthy");
    assert!(failure.cause.contains("answered on port"), "{}", failure.cause);
}

#[test]
fn an_app_that_exits_is_given_up_after_three_starts_quoting_its_log() {
    let mut model = Model::new(Some(RunState::Running), App::Exits);
    let plan = model.settle();
    let failure = plan.failure.unwrap();
    assert_eq!(failure.code, "exited_at_start");
    assert!(failure.cause.contains("boom"), "{}", failure.cause);
    let starts = model.done.iter().filter(|step| matches!(step, Step::Start(_))).count();
    assert_eq!(starts, 3);
    assert!(model.containers.is_empty());
    assert_eq!(plan.target, Some(Target::Stopped));

    // The coordinator then wants it stopped, and the reason is still known.
    model.desired =
        model.desired.map(|desired| DeploymentSpec { run: RunState::Stopped, ..desired });
    let plan = model.settle();
    assert_eq!(plan.phase, Phase::Stopped);
    assert_eq!(plan.given_up.map(|failure| failure.code).as_deref(), Some("exited_at_start"));
}

#[test]
fn an_app_that_never_answers_is_given_up_at_its_deadline() {
    let mut model = Model::new(Some(RunState::Running), App::Silent);
    let begun = model.now;
    let plan = model.settle();
    assert_eq!(plan.phase, Phase::Failed);
    assert_eq!(plan.failure.unwrap().code, "never_healthy");
    assert!(model.now.duration_since(begun) >= Duration::from_mins(1));
    assert!(model.containers.is_empty());
}

#[test]
fn a_missing_image_fails_at_once_and_the_old_revision_keeps_serving() {
    let mut model = Model::new(Some(RunState::Running), App::Answers);
    model.put(OLD, Slot::A, ContainerState::Running);
    model.serves(OLD, Slot::A);
    model.image = Err("image_not_found");
    let plan = model.settle();
    assert_eq!((plan.phase, model.running()), (Phase::Failed, vec![OLD]));
    assert!(matches!(plan.target, Some(Target::Live { .. })));
    assert_eq!(model.done, [Step::Image]);
}

#[test]
fn fm_32_a_rate_limited_pull_is_retried_for_minutes_then_given_up() {
    let mut model = Model::new(Some(RunState::Running), App::Answers);
    model.image = Err("registry_rate_limited");
    let begun = model.now;
    let plan = model.settle();
    assert_eq!(plan.failure.unwrap().code, "registry_rate_limited");
    let tried = model.now.duration_since(begun);
    assert!((300..420).contains(&tried.as_secs()), "{tried:?}");
    assert!(model.done.len() > 10);

    let mut model = Model::new(Some(RunState::Running), App::Answers);
    model.image = Err("registry_rate_limited");
    model.turn();
    model.image = Ok(());
    assert_eq!(model.settle().phase, Phase::Live);
}

#[test]
fn fm_05_a_crashing_app_is_restarted_at_once_and_then_with_back_off() {
    let mut model = Model::new(Some(RunState::Running), App::Answers);
    model.put(NEW, Slot::A, ContainerState::Running);
    model.serves(NEW, Slot::A);
    model.settle();
    let mut waits = Vec::new();
    for _ in 0..9 {
        let name = model.name(NEW, Slot::A);
        model.containers.get_mut(&name).unwrap().state = ContainerState::Exited(1);
        let down = model.now;
        model.done.clear();
        while !model.done.contains(&Step::Start(name.clone())) {
            let plan = model.turn();
            assert_eq!(plan.target, Some(Target::Hold), "a dead container gets no requests");
        }
        waits.push(model.now.duration_since(down).as_secs());
        model.turn();
    }
    assert!(waits[0] <= 1, "{waits:?}");
    assert!(waits.is_sorted() && *waits.last().unwrap() >= 30, "{waits:?}");
    assert_eq!(model.running(), [NEW]);
}

/// With eight seconds of health between two crashes, a check in between finds it healthy.
#[test]
fn restarts_are_counted_until_ten_minutes_pass_without_one() {
    let mut model = Model::new(Some(RunState::Running), App::Answers);
    model.put(NEW, Slot::A, ContainerState::Running);
    model.serves(NEW, Slot::A);
    model.settle();
    let told = |model: &Model| model.state.restarts.lately(NEW, model.now);
    assert_eq!(told(&model), 0);
    for times in 1..=3 {
        let name = model.name(NEW, Slot::A);
        model.containers.get_mut(&name).unwrap().state = ContainerState::Exited(1);
        model.turn();
        assert_eq!(told(&model), times, "before it is started again");
        assert_eq!(model.settle().phase, Phase::Live);
        assert_eq!(told(&model), times, "each end counts once");
    }
    assert_eq!(model.state.restarts.lately(OLD, model.now), 0, "another revision did not");
    let quiet = model.state.restarts.forgotten_at(model.now).unwrap();
    model.now = quiet - Duration::from_millis(1);
    assert_eq!(told(&model), 3);
    model.now = quiet;
    assert_eq!((told(&model), model.state.restarts.forgotten_at(quiet)), (0, None));
}

#[test]
fn fm_26_an_unhealthy_container_serves_until_it_is_replaced() {
    let mut model = Model::new(Some(RunState::Running), App::Answers);
    model.put(NEW, Slot::A, ContainerState::Running);
    model.serves(NEW, Slot::A);
    model.settle();
    let sick = model.name(NEW, Slot::A);
    let unhealthy = ProbeOutcome::Unhealthy("status 500".to_owned());
    let probe = Probe { unhealthy_after: 1, ..Probe::default() };
    model.health.get_mut(&sick).unwrap().record(&probe, unhealthy, Timestamp::UNIX_EPOCH);
    let plan = model.turn();
    let address = |slot| *network().address(Index::new(0).unwrap(), slot).ip();
    assert_eq!(
        plan.target,
        Some(Target::Live { addresses: smallvec::smallvec![address(Slot::A)] })
    );
    assert!(model.done.contains(&Step::Create(Slot::B)));
    model.health.get_mut(&sick).unwrap().record(
        &probe,
        ProbeOutcome::Unhealthy("status 500".to_owned()),
        Timestamp::UNIX_EPOCH,
    );
    let plan = model.turn();
    assert_eq!(
        plan.target,
        Some(Target::Live { addresses: smallvec::smallvec![address(Slot::B)] })
    );
    model.settle();
    assert_eq!(model.containers.len(), 1);
}

#[test]
fn a_restarted_container_that_never_answers_is_replaced() {
    let mut model = Model::new(Some(RunState::Running), App::Answers);
    model.put(NEW, Slot::A, ContainerState::Running);
    model.serves(NEW, Slot::A);
    model.settle();
    let name = model.name(NEW, Slot::A);
    model.containers.get_mut(&name).unwrap().state = ContainerState::Exited(1);
    model.app = App::Silent;
    let down = model.now;
    while !model.done.contains(&Step::Create(Slot::B)) {
        model.turn();
        let waited = model.now.duration_since(down);
        assert!(waited < Duration::from_mins(2), "it is held for ever");
    }
    model.app = App::Answers;
    assert_eq!(model.settle().phase, Phase::Live);
    assert_eq!(model.containers.len(), 1);
}

#[test]
fn fm_24_a_failing_removal_is_retried_with_back_off() {
    for (state, desired) in [
        (ContainerState::Broken, Some(RunState::Running)),
        (ContainerState::Running, Some(RunState::Stopped)),
        (ContainerState::Running, None),
    ] {
        let mut model = Model::new(desired, App::Answers);
        model.put(NEW, Slot::A, state);
        model.stubborn = true;
        let begun = model.now;
        while model.now.duration_since(begun) < Duration::from_mins(5) {
            model.turn();
        }
        let tried = model.done.len();
        assert!(tried < 30, "{state:?}: {tried} steps in five minutes");
    }
}

#[test]
fn fm_24_a_container_that_cannot_be_stopped_is_removed_by_force() {
    let mut model = Model::new(None, App::Answers);
    model.put(NEW, Slot::A, ContainerState::Running);
    model.stubborn = true;
    let remove = Step::Remove(model.name(NEW, Slot::A));
    for _ in 0..40 {
        model.turn();
    }
    assert!(model.done.contains(&remove), "{:?}", model.done);
}

#[test]
fn a_recreate_that_cannot_stop_the_old_container_backs_off() {
    let mut model = Model::new(Some(RunState::Running), App::Answers);
    model.edit(|service| service.strategy = Replacing::Recreate);
    model.put(OLD, Slot::A, ContainerState::Running);
    model.serves(OLD, Slot::A);
    model.stubborn = true;
    let begun = model.now;
    while model.now.duration_since(begun) < Duration::from_mins(5) {
        model.turn();
    }
    assert!(model.done.len() < 30, "{} steps in five minutes", model.done.len());
}

#[test]
fn partly_stored_secrets_are_tracked_for_removal() {
    let mut state = WorkloadState::default();
    state.record(Lane::Roll, &Step::PutSecrets, NEW, hangs(), Instant::now(), 0.5);
    assert!(state.secrets.contains_key(&NEW));
}

/// Visitors are held meanwhile, and the edge holds them for only ten seconds.
#[test]
fn recreate_holds_requests_only_briefly_whatever_the_drain_time() {
    let mut model = Model::new(Some(RunState::Running), App::Answers);
    model.edit(|service| service.strategy = Replacing::Recreate);
    model.rules.drain.before_stop = Duration::from_mins(5);
    model.put(OLD, Slot::A, ContainerState::Running);
    model.serves(OLD, Slot::A);
    let mut held = None;
    while !model.done.iter().any(|step| matches!(step, Step::Start(_))) {
        let now = model.now;
        if model.turn().target == Some(Target::Hold) {
            held.get_or_insert(now);
        }
    }
    let held = model.now.duration_since(held.expect("requests are held"));
    assert!(held <= Duration::from_secs(3), "{held:?}");
}

/// Podman did not answer for a long time, and the stop came late.
#[test]
fn a_recreate_keeps_the_old_container_on_record_while_it_stops_late() {
    let mut model = Model::new(Some(RunState::Running), App::Answers);
    model.edit(|service| service.strategy = Replacing::Recreate);
    model.put(OLD, Slot::A, ContainerState::Running);
    model.serves(OLD, Slot::A);
    let old = model.name(OLD, Slot::A);
    while model.turn().target != Some(Target::Hold) {}
    model.now += Duration::from_mins(1);
    let plan = model.plan();
    assert_eq!(plan.steps(Lane::Roll), [Step::Stop(old.clone())]);
    let live = model.state.persisted.live;
    model.put(OLD, Slot::A, ContainerState::Stopping);
    // While it stops, and in a later pass that still sees it stopping.
    for busy in [Some(Step::Stop(old)), None] {
        model.busy.roll = busy;
        model.now += Duration::from_secs(1);
        model.plan();
        assert_eq!(model.state.persisted.live, live);
    }
}

#[test]
fn recreate_stops_the_old_container_first_and_restores_it_on_failure() {
    for (app, survivor) in [(App::Answers, NEW), (App::Exits, OLD)] {
        let mut model = Model::new(Some(RunState::Running), app);
        model.edit(|service| service.strategy = Replacing::Recreate);
        model.put(OLD, Slot::A, ContainerState::Running);
        model.serves(OLD, Slot::A);
        let old = model.name(OLD, Slot::A);
        while !model.done.iter().any(|step| matches!(step, Step::Create(_))) {
            model.turn();
        }
        let position = |step: &Step| model.done.iter().position(|done| done == step);
        assert!(position(&Step::Stop(old)) < position(&Step::Create(Slot::B)));
        let plan = model.settle();
        assert_eq!(model.running(), [survivor]);
        assert!(matches!(plan.target, Some(Target::Live { .. })));
    }
}

#[test]
fn fm_03_after_a_reboot_requests_are_held_until_the_app_answers() {
    let mut model = Model::new(Some(RunState::Running), App::Answers);
    model.put(NEW, Slot::B, ContainerState::Created);
    model.serves(NEW, Slot::B);
    model.state.target =
        Some(Target::Live { addresses: smallvec::smallvec![[127, 96, 0, 1].into()] });
    assert_eq!(model.turn().target, Some(Target::Hold));
    assert_eq!(model.settle().phase, Phase::Live);
    assert!(!model.done.iter().any(|step| matches!(step, Step::Create(_))));
}

fn states() -> impl Strategy<Value = ContainerState> {
    prop_oneof![
        3 => Just(ContainerState::Running),
        1 => Just(ContainerState::Created),
        1 => Just(ContainerState::Exited(1)),
        1 => Just(ContainerState::Broken),
        1 => Just(ContainerState::Stopping),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    /// From any start it ends in the desired state; every plan on the way passes `check`, no
    /// container is made twice, and no two share an address.
    #[test]
    fn any_starting_state_converges(
        a in proptest::option::of((any::<bool>(), states())),
        b in proptest::option::of((any::<bool>(), states())),
        remembered in proptest::option::of((any::<bool>(), any::<bool>())),
        run in prop_oneof![
            3 => Just(Some(RunState::Running)),
            1 => Just(Some(RunState::Stopped)),
            1 => Just(Some(RunState::Suspended)),
            1 => Just(None),
        ],
        app in prop_oneof![Just(App::Answers), Just(App::Silent), Just(App::Exits)],
    ) {
        let mut model = Model::new(run, app);
        let revision = |new| if new { NEW } else { OLD };
        for (slot, container) in [(Slot::A, a), (Slot::B, b)] {
            if let Some((new, state)) = container {
                model.put(revision(new), slot, state);
            }
        }
        if let Some((new, in_b)) = remembered {
            // A revision that served once answers, or it would not have.
            prop_assume!(!new || app == App::Answers);
            model.serves(revision(new), if in_b { Slot::B } else { Slot::A });
        }
        let plan = model.settle();
        let running = model.running();
        prop_assert_eq!(running.len(), model.containers.len(), "no dead container is left");
        match run {
            Some(RunState::Running) if app == App::Answers => {
                prop_assert_eq!(running, vec![NEW]);
                prop_assert_eq!(plan.phase, Phase::Live);
            }
            Some(RunState::Running) => {
                prop_assert_eq!(plan.phase, Phase::Failed);
                prop_assert!(running.is_empty() || running == vec![OLD]);
                prop_assert_eq!(
                    matches!(plan.target, Some(Target::Live { .. })),
                    !running.is_empty()
                );
            }
            Some(_) => {
                prop_assert!(running.is_empty());
                prop_assert_eq!(plan.phase, Phase::Stopped);
            }
            None => prop_assert!(plan.gone),
        }
    }

    /// A container that answers and is known to serve is never interrupted during an update.
    #[test]
    fn an_update_never_interrupts_a_serving_container(
        other in proptest::option::of(states()),
        app in prop_oneof![Just(App::Answers), Just(App::Silent), Just(App::Exits)],
    ) {
        let mut model = Model::new(Some(RunState::Running), app);
        model.put(OLD, Slot::A, ContainerState::Running);
        model.serves(OLD, Slot::A);
        if let Some(state) = other {
            model.put(NEW, Slot::B, state);
        }
        for _ in 0..60 {
            let plan = model.turn();
            let live = matches!(plan.target, Some(Target::Live { .. }));
            prop_assert!(live, "{:?}", plan);
        }
    }
}

#[test]
fn a_settled_deployment_plans_no_steps() {
    let mut model = Model::new(Some(RunState::Running), App::Answers);
    model.put(NEW, Slot::A, ContainerState::Running);
    model.serves(NEW, Slot::A);
    model.settle();
    for _ in 0..10_000 {
        let plan = model.plan();
        assert!(plan.operations.is_empty() && plan.wake.is_none());
    }
}

/// A replica that is added later, on a bad day of its host.
#[test]
fn content_that_another_replica_has_proven_is_tried_again() {
    let mut model = Model::new(Some(RunState::Running), App::Exits);
    model.replicas.proven.insert(NEW);
    let starts = |model: &Model| model.done.iter().filter(|s| matches!(s, Step::Start(_))).count();
    for _ in 0..400 {
        model.turn();
    }
    assert!(starts(&model) > 3 && model.state.persisted.failures.is_empty());
}

/// It is a replica too many, and all that answers.
#[test]
fn what_is_no_longer_wanted_stays_while_it_stands_in_and_runs() {
    for ends in [false, true] {
        let mut model = Model::new(None, App::Answers);
        model.put(OLD, Slot::A, ContainerState::Running);
        model.serves(OLD, Slot::A);
        model.stands_in = true;
        for _ in 0..5 {
            let plan = model.turn();
            assert!(matches!(plan.target, Some(Target::Live { .. })) && plan.operations.is_empty());
        }
        if ends {
            model.put(OLD, Slot::A, ContainerState::Exited(1));
        } else {
            model.stands_in = false;
        }
        assert_eq!(model.turn().target, None);
        for _ in 0..5 {
            model.turn();
        }
        assert!(model.containers.is_empty() && model.plan().gone, "{ends}");
        let name = model.name(OLD, Slot::A);
        assert_eq!(model.done.contains(&Step::Stop(name)), !ends);
    }
}
