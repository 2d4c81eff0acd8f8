//! Auto rollback in plans: what rolls a revision back, what does not, and how it is reported.

use buddo_shared::host_wire::manifest::{AutoRollback, Fallback};

use super::model::service;
use super::*;
use crate::model::container::{KILLED, Process};
use crate::model::oom_kills::OomKills;
use crate::model::persisted::RollbackWatch;

/// The new revision has just gone live in slot B; the old one's container drains.
pub(super) fn watched(app: App) -> Model {
    let mut model = Model::new(Some(RunState::Running), App::Answers);
    let desired = model.desired.as_mut().unwrap();
    desired.auto_rollback = Some(Box::new(AutoRollback {
        seconds: 300,
        fallback: Fallback {
            revision: OLD,
            services: vec![service(OLD, "ghcr.io/a/b:0", Some(digest()))].try_into().unwrap(),
        },
    }));
    model.put(OLD, Slot::A, ContainerState::Running);
    model.serves(OLD, Slot::A);
    while model.state.persisted.live.map(|live| live.revision) != Some(NEW) {
        model.turn();
    }
    model.app = app;
    model.stride = Duration::from_secs(2);
    model
}

fn live(model: &Model) -> Option<Revision> {
    model.state.persisted.live.map(|live| live.revision)
}

/// What serves ends, and is started again.
fn crash(model: &mut Model, code: i32) {
    let serving = model.state.persisted.live.unwrap();
    let name = model.name(serving.revision, serving.slot);
    model.containers.get_mut(&name).unwrap().state = ContainerState::Exited(code);
    for _ in 0..20 {
        model.turn();
        let up = model.containers.get(&name).is_none_or(is_running);
        if up || live(model) != Some(serving.revision) {
            break;
        }
    }
    model.turn();
}

fn code(plan: &Plan) -> &str {
    plan.failure.as_ref().map_or("", |failure| failure.code.as_str())
}

fn assert_rolled_back(model: &mut Model, expected: &str) {
    let plan = model.settle();
    assert_eq!((plan.phase, code(&plan)), (Phase::Failed, expected), "{plan:?}");
    assert_eq!(plan.fallback, Some(OLD));
    assert_eq!(model.running(), [OLD], "the bad one is gone");
    assert!(matches!(plan.target, Some(Target::Live { .. })));
    let cause = plan.failure.unwrap().cause;
    assert!(
        cause.starts_with("revision 2 ") && cause.ends_with("rolled back to revision 1"),
        "{cause}"
    );
}

#[test]
fn a_crash_loop_rolls_back_and_says_how_often_and_why() {
    let mut model = watched(App::Answers);
    let plan = model.turn();
    assert!(plan.watched_until.is_some() && plan.phase == Phase::Live);
    for _ in 0..2 {
        crash(&mut model, 3);
        assert_eq!((live(&model), model.plan().fallback), (Some(NEW), None));
    }
    crash(&mut model, 3);
    let decided = model.plan();
    let cause = decided.failure.unwrap().cause;
    assert!(
        cause.contains("ended 3 times within") && cause.contains("last with code 3: boom"),
        "{cause}"
    );
    assert_rolled_back(&mut model, "guard_crash_loop");

    // The document follows: nothing is started, stopped or created.
    let started = model.done.len();
    let fallback = model.desired.as_ref().unwrap().auto_rollback.as_ref().unwrap().fallback.clone();
    let desired = model.desired.as_mut().unwrap();
    (desired.revision, desired.services, desired.auto_rollback) = (OLD, fallback.services, None);
    let plan = model.settle();
    assert_eq!((plan.phase, plan.failure, plan.fallback), (Phase::Live, None, None));
    assert_eq!(model.done[started..], []);
}

#[test]
fn two_unexplained_kills_roll_back_as_out_of_memory() {
    let mut model = watched(App::Answers);
    crash(&mut model, KILLED);
    assert_eq!(live(&model), Some(NEW));
    crash(&mut model, KILLED);
    assert_rolled_back(&mut model, "guard_oom");
    assert!(model.state.persisted.failures[&NEW].cause.contains("its 256 MB"));
}

#[test]
fn lasting_unhealthiness_rolls_back() {
    let mut model = watched(App::Silent);
    let begun = model.now;
    model.turn();
    while live(&model) == Some(NEW) {
        let plan = model.turn();
        assert!(matches!(plan.target, Some(Target::Live { .. })), "it may still answer some");
        assert!(model.now.duration_since(begun) < Duration::from_mins(4), "{:?}", model.state);
    }
    assert_rolled_back(&mut model, "guard_unhealthy");
}

#[test]
fn only_a_rise_in_failed_requests_rolls_back() {
    for (before, rolled_back_to) in [(0, true), (100, false)] {
        let mut model = watched(App::Answers);
        let switched = model.wall();
        model.failed = (1..=before).map(|n| switched - Duration::from_secs(3 * n)).collect();
        // The log is read once the revision is watched.
        model.state.failure_history().before = None;
        let begun = model.now;
        while model.now.duration_since(begun) < Duration::from_secs(40) && live(&model) == Some(NEW)
        {
            model.turn();
            let wall = model.wall();
            model.failed.extend([wall, wall - Duration::from_millis(1)]);
        }
        assert_eq!(live(&model) == Some(OLD), rolled_back_to, "{before}: {:?}", model.state);
        if rolled_back_to {
            assert_rolled_back(&mut model, "guard_errors");
        }
    }
}

#[test]
fn requests_that_failed_during_a_crash_do_not_roll_back() {
    let mut model = watched(App::Answers);
    model.turn();
    crash(&mut model, 1);
    // Held requests time out while it is back: they began before.
    let crashed = model.wall();
    model.failed = (0..50).map(|n| crashed - Duration::from_secs(n % 20)).collect();
    for _ in 0..30 {
        model.turn();
    }
    assert_eq!(live(&model), Some(NEW));
}

#[test]
fn a_crash_loop_after_the_window_does_not_roll_back() {
    let mut model = watched(App::Answers);
    while model.state.persisted.rollback_watch.is_some() {
        model.turn();
    }
    for _ in 0..5 {
        crash(&mut model, 1);
    }
    assert_eq!(live(&model), Some(NEW));
    assert_eq!(model.settle().phase, Phase::Live);
}

/// The window continues by the wall clock; a jump of a year rolls nothing back.
#[test]
fn fm_10_a_rollback_watch_survives_restarts_and_clock_jumps() {
    for jump in [-31_536_000_i64, 0, 200, 31_536_000] {
        let mut model = watched(App::Answers);
        let durable = model.state.persisted.clone();
        model.state = WorkloadState::restore(durable);
        let Some(RollbackWatch::Watching { since, .. }) = &mut model.state.persisted.rollback_watch
        else {
            panic!("it is not watched: {:?}", model.state)
        };
        *since = since.checked_sub(jiff::SignedDuration::from_secs(jump)).unwrap();
        let plan = model.turn();
        let left = plan.watched_until.map(|at| at.duration_since(model.now).as_secs());
        match jump {
            31_536_000 => assert_eq!(left, None),
            200 => assert!(left.is_some_and(|left| (80..=100).contains(&left)), "{left:?}"),
            _ => assert!(left.is_some_and(|left| (280..=300).contains(&left)), "{left:?}"),
        }
        assert_eq!(live(&model), Some(NEW));
    }
}

/// What happened while the agent was away, what hit many apps, and what came with Podman's absence
/// do not count.
#[test]
fn host_trouble_does_not_roll_back() {
    let mut model = watched(App::Answers);
    for _ in 0..4 {
        let durable = model.state.persisted.clone();
        model.state = WorkloadState::restore(durable);
        crash(&mut model, 255);
    }
    assert_eq!(live(&model), Some(NEW), "it ended while nobody looked");

    let mut model = watched(App::Answers);
    for _ in 0..4 {
        model.rules.troubled_until = Some(model.now + Duration::from_mins(10));
        crash(&mut model, 137);
    }
    model.rules.troubled_until = None;
    model.turn();
    assert_eq!(live(&model), Some(NEW), "the host was in trouble");

    let mut model = watched(App::Silent);
    model.rules.many_sick = true;
    let begun = model.now;
    while model.now.duration_since(begun) < Duration::from_secs(250) {
        model.turn();
    }
    assert!(!model.state.was_rolled_back(NEW), "all apps are sick");
}

#[test]
fn stopping_the_app_ends_the_watch() {
    let mut model = watched(App::Answers);
    crash(&mut model, 1);
    crash(&mut model, 1);
    model.desired.as_mut().unwrap().run = RunState::Stopped;
    assert_eq!(model.settle().phase, Phase::Stopped);
    assert_eq!(model.state.persisted.rollback_watch, None);
    model.desired.as_mut().unwrap().run = RunState::Running;
    assert_eq!(model.settle().phase, Phase::Live);
    crash(&mut model, 1);
    assert_eq!(live(&model), Some(NEW));
}

#[test]
fn a_failed_rollback_leaves_the_new_revision_serving() {
    let mut model = watched(App::Answers);
    // The old version's image is gone from the host and from the registry.
    model.image = Err("image_not_found");
    let begun = model.wall();
    while !model.state.was_rolled_back(NEW) {
        model.turn();
        model.failed.extend([model.wall(), model.wall()]);
        assert!(model.wall().duration_since(begun).as_secs() < 60);
    }
    // It was draining and still there when the rollback was decided: remove it.
    model.containers.retain(|_, container| container.identity.unwrap().revision == NEW);
    let plan = model.settle();
    assert_eq!((model.running(), live(&model)), (vec![NEW], Some(NEW)));
    assert!(matches!(plan.target, Some(Target::Live { .. })), "errors are better than nothing");
    assert_eq!((plan.phase, plan.fallback), (Phase::Failed, None));
    let cause = plan.failure.unwrap().cause;
    assert!(cause.contains("revision 1 could not be brought back: image_not_found"), "{cause}");
}

#[test]
fn a_recreate_is_rolled_back_by_a_recreate() {
    let mut model = watched(App::Answers);
    model.settle();
    model.edit(|service| service.strategy = Replacing::Recreate);
    // The watch began before; only the strategy matters here.
    for _ in 0..3 {
        model.state.persisted.rollback_watch =
            Some(RollbackWatch::Watching { revision: NEW, since: model.wall() });
        crash(&mut model, 1);
    }
    assert_rolled_back(&mut model, "guard_crash_loop");
}

/// 'Failed, and nothing serves' makes the coordinator stop the app.
#[test]
fn a_failure_is_not_reported_until_the_old_revision_serves_again() {
    for strategy in [Replacing::Rolling, Replacing::Recreate] {
        for app in [App::Exits, App::Silent] {
            for old in [ContainerState::Running, ContainerState::Exited(1)] {
                let mut model = watched(App::Answers);
                model.state.persisted = Persisted { index: Index::new(0), ..Persisted::default() };
                model.containers.clear();
                model.put(OLD, Slot::A, old);
                model.serves(OLD, Slot::A);
                model.app = app;
                model.edit(|service| service.strategy = strategy);
                for _ in 0..400 {
                    let plan = model.turn();
                    let answers = matches!(plan.target, Some(Target::Live { .. }));
                    assert!(
                        plan.phase != Phase::Failed || answers,
                        "{strategy:?} {app:?}: {plan:?}"
                    );
                }
                let plan = model.settle();
                assert_eq!((plan.phase, model.running()), (Phase::Failed, vec![OLD]));
                assert_eq!(plan.fallback, None, "it never served");
            }
        }
    }
}

/// Its container is gone, too: the fallback is recreated from the document.
#[test]
fn a_failed_deploy_starts_the_fallback_if_nothing_serves() {
    let mut model = watched(App::Answers);
    model.state =
        WorkloadState::restore(Persisted { index: Index::new(0), ..Persisted::default() });
    model.containers.clear();
    model.app = App::Exits;
    let plan = model.settle();
    assert_eq!((plan.phase, code(&plan)), (Phase::Failed, "exited_at_start"));
    assert_eq!(model.running(), [OLD]);
    assert!(matches!(plan.target, Some(Target::Live { .. })));
}

/// The kernel's count for a run of the container that serves.
fn kernel_counts(model: &mut Model, pid: u32, count: u64) {
    let serving = model.state.persisted.live.unwrap();
    let process = Process { container: format!("r{}", serving.revision), pid };
    let name = model.name(serving.revision, serving.slot);
    model.containers.get_mut(&name).unwrap().process = Some(process.clone());
    model.kills = Some(OomKills { process, count });
}

/// Only its child processes are killed: it runs, answers its probes, and fails no visitor.
#[test]
fn oom_kills_of_child_processes_roll_back() {
    let mut model = watched(App::Answers);
    // The count of the old revision's container does not apply to the new one.
    model.kills =
        Some(OomKills { process: Process { container: "r1".to_owned(), pid: 1 }, count: 3 });
    model.turn();
    for count in [9, 9, 10] {
        kernel_counts(&mut model, 7, count);
        model.turn();
    }
    assert_eq!((live(&model), model.state.failure_history().kills()), (Some(NEW), 1));
    kernel_counts(&mut model, 7, 11);
    assert_rolled_back(&mut model, "guard_oom");
    let cause = &model.state.persisted.failures[&NEW].cause;
    assert!(cause.contains("ran out of its 256 MB of memory 2 times"), "{cause}");
}

/// The kernel counts it, and the container ends with 137.
#[test]
fn an_oom_kill_of_the_main_process_counts_once_and_the_next_rolls_back() {
    let mut model = watched(App::Answers);
    kernel_counts(&mut model, 7, 0);
    model.turn();
    kernel_counts(&mut model, 7, 1);
    model.turn();
    crash(&mut model, KILLED);
    kernel_counts(&mut model, 8, 0);
    model.turn();
    assert_eq!((live(&model), model.state.failure_history().kills()), (Some(NEW), 1));
    kernel_counts(&mut model, 8, 1);
    assert_rolled_back(&mut model, "guard_oom");
}

#[test]
fn oom_kills_in_host_trouble_or_after_the_window_do_not_roll_back() {
    let mut model = watched(App::Answers);
    kernel_counts(&mut model, 7, 0);
    model.turn();
    for count in 1..5 {
        model.rules.troubled_until = Some(model.now + Duration::from_mins(10));
        kernel_counts(&mut model, 7, count);
        model.turn();
    }
    model.rules.troubled_until = None;
    while model.state.persisted.rollback_watch.is_some() {
        model.turn();
    }
    for count in 5..9 {
        kernel_counts(&mut model, 7, count);
        model.turn();
    }
    assert_eq!(live(&model), Some(NEW));
}

/// Podman was killed while restarting it: the app runs, but nothing forwards to it.
#[test]
fn an_unforwarded_container_does_not_roll_back() {
    let mut model = watched(App::Answers);
    model.edit(|service| service.probe.start_deadline_ms = 3_000);
    model.stride = Duration::from_secs(1);
    model.torn_starts = 1;
    let serving = model.name(NEW, Slot::B);
    model.containers.get_mut(&serving).unwrap().state = ContainerState::Exited(1);
    let plan = model.settle();
    assert_eq!((plan.phase, plan.fallback), (Phase::Live, None), "{:?}", plan.failure);
    assert_eq!((model.torn_starts, model.running()), (0, vec![NEW]));
}

/// Only the port forwarder of a container dies, again and again.
#[test]
fn fm_26_replacing_unforwarded_containers_does_not_count_as_crashes() {
    let mut model = watched(App::Answers);
    for _ in 0..4 {
        let serving = model.state.persisted.live.unwrap();
        assert_eq!(serving.revision, NEW, "{:?}", model.state.persisted.failures);
        let name = model.name(NEW, serving.slot);
        model.deaf.insert(name.clone());
        while model.containers.contains_key(&name) {
            model.turn();
        }
    }
    let plan = model.plan();
    assert_eq!((plan.phase, plan.fallback, live(&model)), (Phase::Live, None, Some(NEW)));
}
