//! Environments that Podman's secrets do not hold, or cannot take.

use buddo_shared::host_wire::sealed::Sealed;

use super::*;

fn sealed() -> Sealed {
    serde_json::from_value(serde_json::json!({ "enc": "", "ct": "" })).unwrap()
}

/// An app with an environment that Podman's secrets do not hold; its container is in this state.
fn without_secrets(state: ContainerState) -> (Model, String) {
    let mut model = Model::new(Some(RunState::Running), App::Answers);
    model.edit(|service| service.env = Some(sealed()));
    model.put(NEW, Slot::A, state);
    model.serves(NEW, Slot::A);
    let name = model.name(NEW, Slot::A);
    (model, name)
}

fn turns_for(model: &mut Model, minutes: u64) {
    let begun = model.now;
    while model.now.duration_since(begun) < Duration::from_mins(minutes) {
        model.turn();
    }
}

#[test]
fn fm_19_lost_secrets_are_restored_without_a_restart() {
    let (mut model, _) = without_secrets(ContainerState::Running);
    assert_eq!(model.settle().phase, Phase::Live);
    assert_eq!(model.done, [Step::PutSecrets]);
    assert_eq!(model.state.secrets.get(&NEW), Some(&Stock::Whole));
    // Before they were listed, nothing is known to be missing.
    let (mut model, _) = without_secrets(ContainerState::Running);
    model.rules.secrets_known = false;
    model.settle();
    assert!(model.done.is_empty(), "{:?}", model.done);
}

#[test]
fn fm_19_restoring_secrets_backs_off_and_leaves_the_app_running() {
    for refusal in [Refusal::Podman, Refusal::Unreadable] {
        let (mut model, _) = without_secrets(ContainerState::Running);
        model.refuses_secrets = Some(refusal);
        turns_for(&mut model, 5);
        assert!(model.done.iter().all(|step| *step == Step::PutSecrets), "{:?}", model.done);
        assert!((5..30).contains(&model.done.len()), "{} times", model.done.len());
        assert_eq!(model.running(), [NEW]);
        model.refuses_secrets = None;
        assert_eq!(model.settle().phase, Phase::Live);
    }
}

#[test]
fn fm_19_a_crashed_app_is_restarted_in_place_once_its_secrets_are_restored() {
    let (mut model, name) = without_secrets(ContainerState::Exited(1));
    model.refuses_secrets = Some(Refusal::Podman);
    turns_for(&mut model, 2);
    assert!(model.done.iter().all(|step| *step == Step::PutSecrets), "{:?}", model.done);
    model.refuses_secrets = None;
    model.done.clear();
    assert_eq!(model.settle().phase, Phase::Live);
    assert_eq!(model.done, [Step::PutSecrets, Step::Start(name.clone()), Step::Watch(name)]);
}

/// Its container was created, and the secrets were lost before it was started.
#[test]
fn fm_19_lost_secrets_are_restored_before_a_start() {
    let (mut model, name) = without_secrets(ContainerState::Created);
    model.state.persisted = Persisted { index: Index::new(0), ..Persisted::default() };
    assert_eq!(model.settle().phase, Phase::Live);
    assert_eq!(model.done, [Step::PutSecrets, Step::Start(name.clone()), Step::Watch(name)]);
}

#[test]
fn fm_19_a_revision_is_not_given_up_while_podman_refuses_secrets() {
    let mut model = Model::new(Some(RunState::Running), App::Answers);
    model.edit(|service| service.env = Some(sealed()));
    model.refuses_secrets = Some(Refusal::Podman);
    turns_for(&mut model, 2);
    let plan = model.plan();
    assert_eq!(plan.failure.unwrap().code, "podman_secrets_refused");
    model.refuses_secrets = None;
    assert_eq!(model.settle().phase, Phase::Live);
}

#[test]
fn fm_19_an_app_is_not_reported_gone_until_its_secrets_are_listed() {
    let mut model = Model::new(None, App::Answers);
    model.rules.secrets_known = false;
    assert!(!model.plan().gone);
    model.state.holds_secrets_of(&BTreeSet::from([OLD]));
    model.rules.secrets_known = true;
    let plan = model.settle();
    assert!(plan.gone && model.done == [Step::RemoveSecrets(OLD)], "{:?}", model.done);
}

#[test]
fn secrets_of_uncertain_state_stay_tracked_until_removed() {
    let mut state = WorkloadState::default();
    state.record(Lane::Roll, &Step::PutSecrets, NEW, hangs(), Instant::now(), 0.5);
    state.record(Lane::Roll, &Step::PutSecrets, OLD, StepOutcome::Done, Instant::now(), 0.5);
    state.holds_secrets_of(&BTreeSet::new());
    assert_eq!(state.secrets, BTreeMap::from([(NEW, Stock::Part)]));
}
