//! Single faults in a chosen order, each named after its row in the list of failure modes. The
//! seeds meet all of them in mixtures; here each stands alone, so that it is easy to follow.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use buddo_agent::model::container::ContainerState;
use buddo_agent::model::live_table::Target;
use buddo_agent::ports::{DesiredStateSink as _, Refusal};
use buddo_shared::host_wire::manifest::{DeploymentSpec, RunState, Strategy};
use buddo_shared::host_wire::report::{Phase, ReportBody};
use buddo_shared::model::id::Revision;
use buddo_shared::model::image::ImageReference;

use crate::clock::{BEGIN, DAYS, YEAR, true_time};
use crate::coordinator::Keys;
use crate::disk::Database;
use crate::faults::{Fault, Swarm};
use crate::podman::short;
use crate::run::Run;
use crate::story::app::{App, Registry};
use crate::story::documents::{deployment, edited, with_strategy};
use crate::story::rng::Rng;
use crate::world::{State, World};

/// Runs a scenario as a seed is run.
fn play<F: Future<Output = ()>>(scenario: impl FnOnce(Run) -> F) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(async {
        let world = World::new(1, Swarm::none(), true);
        let keys = Arc::new(Keys::generate());
        scenario(Run::new(&world, &keys, Rng::new(1))).await;
    });
}

impl Run {
    /// Revision `revision` of app `n` is wanted from the next document on.
    fn want(&self, n: u64, revision: u32) {
        let desired = self.keys.desired(n, n, revision, revision);
        self.world.act(|state| state.books.documents.enter(n, desired, Revision::new(revision)));
    }

    async fn wait(&mut self, seconds: u64) {
        let passed = self.pass(Duration::from_secs(seconds)).await;
        self.fails_with_its_story(passed);
    }

    /// Signs what is wanted and waits until all of it is in place.
    async fn settle(&mut self) {
        self.sign();
        let converged = self.converge(true).await;
        self.fails_with_its_story(converged);
    }

    fn fails_with_its_story(&self, result: Result<(), String>) {
        if let Err(words) = result {
            let (story, _) = self.world.with(|state| state.story());
            panic!("{words}\n{}", story.join("\n"));
        }
    }

    /// Names, states and starts of all containers.
    fn containers(&self) -> Vec<(String, ContainerState, u32)> {
        self.world.with(|state| {
            let all = state.engine.containers.iter();
            all.map(|(name, c)| (name.clone(), c.state, c.starts)).collect()
        })
    }

    fn phase(&self, n: u64) -> Option<Phase> {
        self.world.with(|state| match state.books.levels.get(&deployment(n)) {
            Some(ReportBody::Deployment(status)) => Some(status.phase),
            _ => None,
        })
    }

    fn warnings(&self) -> String {
        let snapshot = self.agent.as_ref().and_then(|agent| agent.snapshot.borrow().clone());
        snapshot.map(|snapshot| snapshot.host.warnings.join("\n")).unwrap_or_default()
    }
}

/// Killed before or after each call on the way from nothing to a second revision: no duplicate,
/// nothing that is right is restarted, and no visitor lost (the rules check that).
#[test]
fn fm_01_an_agent_killed_at_any_call_converges_and_starts_nothing_twice() {
    for strategy in [Strategy::Rolling, Strategy::Recreate] {
        for last_has_effect in [false, true] {
            for calls in 1..40 {
                play(|mut run| async move {
                    run.want(2, 1);
                    run.world.with(|state| state.calls_left = Some((calls, last_has_effect)));
                    run.settle().await;
                    let before = run.containers();
                    run.want(2, 2);
                    run.world.act(|state| {
                        let desired = state.books.documents.wanted.get_mut(&2).unwrap();
                        desired.services = with_strategy(&desired.services, strategy);
                    });
                    run.settle().await;
                    let after = run.containers();
                    let about = format!("{strategy:?}, {calls} calls: {before:?} → {after:?}");
                    assert!(before.len() == 1 && before[0].2 == 1, "{about}");
                    assert!(after.len() == 1 && after[0].2 == 1, "{about}");
                });
            }
        }
    }
}

/// A day without the coordinator, and past the document's end: everything keeps running, is
/// restarted when it crashes, and is only reported as stale.
#[test]
fn fm_06_a_day_without_the_coordinator_stops_nothing() {
    play(|mut run| async move {
        (1..4).for_each(|n| run.want(n, 1));
        run.settle().await;
        run.befall(Fault::Partition);
        run.world.act(|state| {
            let day = Duration::from_hours(24);
            state.books.away_until = Some(tokio::time::Instant::now() + day);
        });
        let starts: u32 = run.containers().iter().map(|(.., starts)| starts).sum();
        for _ in 0..12 {
            run.wait(3_600).await;
            run.befall(Fault::Crash);
            run.befall(Fault::Kill);
            run.wait(3_600).await;
            let containers = run.containers();
            assert!(containers.len() == 3, "{containers:?}");
            assert!(containers.iter().all(|(_, state, _)| *state == ContainerState::Running));
        }
        let again: u32 = run.containers().iter().map(|(.., starts)| starts).sum();
        assert_eq!(again, starts + 12, "one start for each crash");
        let stale = run.agent.as_ref().unwrap().snapshot.borrow().as_ref().unwrap().host.stale;
        assert!(stale, "the document has ended");
        run.want(1, 2);
        run.settle().await;
    });
}

/// Documents in any order, each several times: the newest wins, and what was acknowledged never
/// goes back.
#[test]
fn fm_09_documents_in_any_order_end_with_the_newest() {
    for seed in 0..30 {
        play(|mut run| async move {
            let mut rng = Rng::new(seed);
            let mut envelopes = Vec::new();
            for revision in 1..9 {
                run.want(2, revision);
                run.sign();
                envelopes.extend(run.world.with(|state| state.books.newest_document()));
            }
            run.world.act(|state| {
                let ever = Duration::from_hours(1);
                state.books.away_until = Some(tokio::time::Instant::now() + ever);
            });
            run.wait(1).await;
            let desired_state = Arc::clone(&run.agent.as_ref().unwrap().line.desired_state);
            let mut highest = 0;
            for _ in 0..40 {
                let (generation, envelope) = rng.pick(&envelopes).unwrap();
                match desired_state.offer(envelope).await {
                    Ok(accepted) => {
                        assert!(generation >= highest, "{generation} after {highest}");
                        assert_eq!(accepted.generation.generation, generation);
                        highest = generation;
                    }
                    Err(Refusal::Stale { .. }) => assert!(generation < highest),
                    Err(refusal) => panic!("{generation} after {highest}: {refusal}"),
                }
                if rng.per_mille(200) {
                    run.wait(rng.below(3)).await;
                }
            }
            run.world.act(|state| state.books.away_until = None);
            let converged = run.converge(true).await;
            run.fails_with_its_story(converged);
            assert_eq!(run.containers().len(), 1);
        });
    }
}

/// A year ahead, a year back: nothing is stopped or started; a document that seems to have expired
/// is refused and reported, and accepted once the clock is right again.
#[test]
fn fm_10_a_clock_that_jumps_a_year_changes_nothing() {
    play(|mut run| async move {
        run.want(2, 1);
        run.settle().await;
        let before = run.containers();
        for offset in [YEAR, -YEAR, 0, YEAR] {
            run.world.act(|state| state.clock_offset = offset);
            run.wait(600).await;
            assert_eq!(run.containers(), before, "offset {offset} s");
        }
        run.want(2, 2);
        run.sign();
        run.wait(60).await;
        assert_eq!(run.containers(), before, "a document of today is not believed a year ahead");
        assert!(run.warnings().contains("expired"), "{}", run.warnings());
        run.world.act(|state| state.clock_offset = 0);
        let converged = run.converge(true).await;
        run.fails_with_its_story(converged);
        assert!(run.containers()[0].0.contains("-r2-"));
    });
}

/// Boot in 1970, before the clock is set: what ran comes back, today's documents are accepted, and
/// an expired one is not, because time is never earlier than the newest signature.
#[test]
fn fm_12_a_boot_in_1970_restores_apps_and_refuses_expired_documents() {
    play(|mut run| async move {
        run.want(2, 1);
        run.settle().await;
        run.befall(Fault::Reboot);
        run.world.act(|state| state.clock_offset = -BEGIN);
        run.wait(30).await;
        assert_eq!(run.phase(2), Some(Phase::Live));
        let expired = run.world.with(|state| {
            let mut manifest = state.books.manifest(1_000, Duration::ZERO);
            manifest.deployments.clear();
            manifest.expires_at = true_time(Duration::ZERO, -1);
            run.keys.signer.sign(&manifest).unwrap().bytes
        });
        let desired_state = Arc::clone(&run.agent.as_ref().unwrap().line.desired_state);
        let refusal = desired_state.offer(expired.into()).await.unwrap_err();
        assert!(matches!(refusal, Refusal::Expired { .. }), "{refusal}");
        run.want(2, 2);
        run.settle().await;
    });
}

/// The coordinator's clock is days ahead, and so are its signatures: nothing changes, both clocks
/// are named, and the first document with the right time is accepted.
#[test]
fn fm_62_documents_from_the_future_change_nothing_and_leave_no_trace() {
    play(|mut run| async move {
        run.want(2, 1);
        run.settle().await;
        let before = run.containers();
        let elapsed = run.world.begun.elapsed();
        let ahead = run.world.with(|state| {
            let mut manifest = state.books.manifest(1_000, elapsed);
            manifest.deployments.clear();
            manifest.issued_at = true_time(elapsed, DAYS);
            manifest.expires_at = true_time(elapsed, DAYS + 24 * 3_600);
            run.keys.signer.sign(&manifest).unwrap().bytes
        });
        let desired_state = Arc::clone(&run.agent.as_ref().unwrap().line.desired_state);
        let refusal = desired_state.offer(ahead.into()).await.unwrap_err();
        assert!(matches!(refusal, Refusal::IssuedInFuture { .. }), "{refusal}");
        run.wait(600).await;
        assert_eq!(run.containers(), before);
        assert!(run.warnings().contains("the clock of the coordinator or of this host is wrong"));
        run.want(2, 2);
        run.settle().await;
        assert!(run.containers()[0].0.contains("-r2-"));
    });
}

/// A disk that cannot sync: nothing is acknowledged, what runs keeps running, and it is reported.
#[test]
fn fm_14_a_document_that_cannot_be_synced_is_not_acknowledged() {
    play(|mut run| async move {
        run.want(2, 1);
        run.settle().await;
        let (before, acked) = (run.containers(), run.world.with(|state| state.books.acked));
        run.world.with(|state| state.swarm.fail_write = 1_000);
        run.want(2, 2);
        run.sign();
        run.wait(60).await;
        assert_eq!(run.world.with(|state| state.books.acked), acked);
        assert_eq!(run.containers(), before);
        assert!(run.warnings().contains("could not be stored"), "{}", run.warnings());
        run.world.with(|state| state.swarm.fail_write = 0);
        let converged = run.converge(true).await;
        run.fails_with_its_story(converged);
    });
}

/// Power fails right after an acknowledgement, and everything that SQLite had not synced is lost.
#[test]
fn fm_16_acknowledged_documents_survive_a_power_loss() {
    play(|mut run| async move {
        let folder = tempfile::tempdir().unwrap();
        run.database = Database::in_file(folder.path());
        for revision in 1..4 {
            run.want(2, revision);
            run.sign();
            let newest = run.world.with(|state| state.books.generation);
            while run.world.with(|state| state.books.acked) < newest {
                let passed = run.pass(Duration::from_millis(20)).await;
                run.fails_with_its_story(passed);
            }
            run.befall(Fault::Reboot);
            run.bury();
            let database = std::mem::replace(&mut run.database, Database::in_memory());
            run.database = database.lose_power();
            // The agent's start compares what it finds with what it had acknowledged.
            run.wait(1).await;
        }
        let converged = run.converge(true).await;
        run.fails_with_its_story(converged);
        assert!(run.containers()[0].0.contains("-r3-"));
    });
}

/// Each event comes twice: everything is done once.
#[test]
fn fm_22_repeated_events_change_nothing() {
    play(|mut run| async move {
        run.world.with(|state| state.swarm.repeat_event = 1_000);
        run.want(2, 1);
        run.settle().await;
        run.want(2, 2);
        run.settle().await;
        let containers = run.containers();
        assert!(containers.len() == 1 && containers[0].2 == 1, "{containers:?}");
        run.befall(Fault::Crash);
        run.wait(5).await;
        assert_eq!(run.containers()[0].2, 2, "one start for one crash");
        let idle = run.idle().await;
        run.fails_with_its_story(idle);
    });
}

/// Podman's secrets are torn, and for a while there is no space to repair them: what runs keeps
/// serving, no revision is given up for it, new apps come up once they are repaired, and what ends
/// is then restarted as it was, with its environment.
#[test]
fn fm_19_torn_secrets_do_not_stop_running_apps_and_are_restored() {
    for ends in [false, true] {
        play(|mut run| async move {
            run.want(2, 1);
            run.settle().await;
            run.befall(Fault::TearSecrets);
            run.world.act(|state| state.engine.crammed = true);
            run.want(4, 1);
            run.sign();
            run.wait(20).await;
            assert_eq!((run.phase(2), run.phase(4)), (Some(Phase::Live), Some(Phase::Accepted)));
            assert!(run.warnings().contains("secrets on the app's host cannot be repaired"));
            if ends {
                run.world.act(|state| {
                    state.excuse_all("its container is killed");
                    let world = Arc::clone(&run.world);
                    let name = state.engine.containers.keys().next().unwrap().clone();
                    state.end(&world, &name, 1);
                });
                run.wait(2).await;
            }
            run.world.act(|state| state.engine.crammed = false);
            run.settle().await;
            assert!(!run.warnings().contains("secrets"), "{}", run.warnings());
            let starts = run.containers().iter().map(|(.., starts)| *starts).sum::<u32>();
            assert_eq!(starts, if ends { 3 } else { 2 }, "{:?}", run.containers());
        });
    }
}

/// Something else tears them, unnoticed until a container has to be restarted.
#[test]
fn fm_19_externally_torn_secrets_are_repaired_when_needed() {
    play(|mut run| async move {
        run.want(2, 1);
        run.settle().await;
        run.world.act(|state| {
            state.engine.torn = true;
            state.excuse_all("its container is killed");
            let name = state.engine.containers.keys().next().unwrap().clone();
            state.end(&run.world, &name, 1);
        });
        run.settle().await;
        let containers = run.containers();
        assert!(containers.len() == 1 && containers[0].2 == 2, "{containers:?}");
    });
}

/// Podman's records are lost while two apps run, and one of them is destroyed meanwhile. The other
/// gets a container that Podman knows; orphans are shown and ended.
#[test]
fn fm_19_orphans_are_shown_and_ended_for_any_app() {
    play(|mut run| async move {
        run.want(2, 1);
        run.want(4, 1);
        run.settle().await;
        run.world.act(|state| {
            state.excuse_all("Podman lost all containers");
            let lost = std::mem::take(&mut state.engine.containers);
            state.engine.orphans.extend(lost.into_iter().map(|(name, c)| (name, Some(c.address))));
            state.edge.left.clear();
            state.books.documents.wanted.remove(&4);
            // So slow that what is under way can be seen.
            state.swarm.slow = 4_000;
        });
        run.sign();
        let mut shown = false;
        for _ in 0..120 {
            run.wait(1).await;
            let apps = run.agent.as_ref().unwrap().shown();
            let mut containers = apps.values().flat_map(|app| &app.containers);
            shown |= containers.any(|container| container.state == "orphaned");
        }
        assert!(shown, "they run, and nobody is told");
        assert!(run.world.with(|state| state.engine.orphans.is_empty()));
        run.world.act(|state| state.swarm.slow = 5);
        run.settle().await;
        assert_eq!(run.containers().len(), 1);
    });
}

/// Podman was away, and no longer knows some of what ran before.
#[test]
fn fm_19_orphans_are_searched_for_once_podman_is_back() {
    play(|mut run| async move {
        run.want(2, 1);
        run.settle().await;
        run.wait(120).await;
        run.world.act(|state| {
            let (name, live) = state.engine.containers.first_key_value().unwrap();
            let other = name.strip_suffix("-a").expect("the first slot").to_owned() + "-b";
            let address = live.address;
            state.engine.orphans.insert(other, Some(address));
            state.engine.away_until = Some(tokio::time::Instant::now() + Duration::from_secs(70));
        });
        run.wait(200).await;
        assert!(run.world.with(|state| state.engine.orphans.is_empty()));
        let containers = run.containers();
        assert!(containers.len() == 1 && containers[0].2 == 1, "{containers:?}");
    });
}

/// A document that is replaced while Podman hangs is never acted on: its 'stopped' has no effect.
#[test]
fn work_delayed_by_podman_follows_the_newest_document() {
    play(|mut run| async move {
        run.want(2, 1);
        run.settle().await;
        let hung_until = tokio::time::Instant::now() + Duration::from_secs(8);
        run.world.act(|state| {
            state.engine.hung_until = Some(hung_until);
            // Something happened, it is not known to what: a pass lists, and waits for that.
            let feed = state.feed.as_ref().unwrap();
            feed.hints.send_modify(|hints| *hints += 1);
        });
        run.wait(1).await;
        for (state, seconds) in [(RunState::Stopped, 1), (RunState::Running, 5)] {
            run.world.act(|world| {
                world.books.documents.wanted.get_mut(&2).unwrap().run = state;
            });
            run.sign();
            run.wait(seconds).await;
        }
        // Visitors are answered all the while.
        run.world.act(|_| ());
        run.wait(3).await;
        run.settle().await;
        let containers = run.containers();
        assert!(containers.len() == 1 && containers[0].2 == 1, "{containers:?}");
    });
}

/// On a host with many apps a list takes long: an event of one app must not cause one.
#[test]
fn a_crash_named_by_an_event_is_handled_without_a_full_list() {
    play(|mut run| async move {
        (1..4).for_each(|n| run.want(n, 1));
        run.settle().await;
        // Late calls left over from the start have been carried out.
        run.wait(40).await;
        let mut quiet = 0;
        for round in 2..6 {
            let before = run.world.with(|state| state.engine.lists);
            let world = Arc::clone(&run.world);
            run.world.act(|state| {
                let name = state.engine.containers.keys().next().unwrap().clone();
                state.end(&world, &name, 1);
            });
            run.wait(5).await;
            let containers = run.containers();
            assert_eq!(containers[0].2, round, "it was not started again: {containers:?}");
            quiet += usize::from(run.world.with(|state| state.engine.lists) == before);
            run.wait(15).await;
        }
        // One round may meet the regular list.
        assert!(quiet >= 3, "all containers were listed for {} of 4 crashes", 4 - quiet);
    });
}

/// An image that is gone after each pull, as when something else cleans up the host: it is pulled
/// ever more rarely, and the revision is given up in the end.
#[test]
fn an_image_that_keeps_vanishing_is_pulled_with_back_off_and_given_up() {
    play(|mut run| async move {
        run.want(2, 1);
        let key = (deployment(2), Revision::FIRST);
        let app = App::Good(Duration::from_millis(5));
        run.world.act(|state| {
            state.apps.insert(key, (app, Registry::Vanishes));
            // Or the coordinator stops it once it is given up.
            state.books.documents.deaf = true;
        });
        run.settle().await;
        assert_eq!(run.phase(2), Some(Phase::Failed));
        let calls = run.world.with(|state| state.calls - state.engine.looks);
        assert!(calls < 100, "{calls} calls of Podman for nothing");
    });
}

/// Stopped, started, destroyed: the host ends up as the operator asked.
#[test]
fn an_app_is_stopped_started_and_destroyed_without_a_trace() {
    play(|mut run| async move {
        run.want(2, 1);
        run.settle().await;
        for state in [RunState::Stopped, RunState::Running, RunState::Suspended] {
            run.world.act(|world| {
                world.excuse(deployment(2), "its operator");
                world.books.documents.wanted.get_mut(&2).unwrap().run = state;
            });
            run.settle().await;
        }
        run.world.act(|world| world.books.documents.wanted.clear());
        run.settle().await;
        let left = run.world.with(|state| state.engine.secrets.len());
        assert!(left == 0 && run.containers().is_empty());
    });
}

/// The host lacks something for an hour. What runs keeps serving, crashed and new apps wait for
/// their start, nothing is given up, and the host reports that it should get no more.
#[test]
fn fm_56_no_app_is_given_up_during_an_hours_shortage() {
    play(|mut run| async move {
        run.want(2, 1);
        run.want(3, 1);
        run.settle().await;
        run.world.act(|state| {
            state.engine.short = true;
            state.excuse_all("the host is short");
            let world = Arc::clone(&run.world);
            let name = state.engine.containers.keys().next().unwrap().clone();
            state.end(&world, &name, 1);
        });
        run.want(4, 1);
        run.sign();
        run.wait(3_600).await;
        let phases = [2, 3, 4].map(|n| run.phase(n));
        assert!(!phases.contains(&Some(Phase::Failed)), "{phases:?}");
        assert_eq!(run.containers().len(), 2, "what ended is kept, what is new waits");
        assert!(run.warnings().contains("should get no new apps for now"), "{}", run.warnings());
        run.world.act(|state| state.engine.short = false);
        run.settle().await;
        assert!(!run.warnings().contains("should get no new apps"), "{}", run.warnings());
    });
}

/// All probes time out for minutes, as on a host whose processors are all busy. What serves keeps
/// serving, and no wave of second containers makes it worse; afterwards everything is as before.
#[test]
fn fm_58_a_starved_host_gets_no_replacement_containers() {
    play(|mut run| async move {
        (1..25).for_each(|n| run.want(n, 1));
        run.settle().await;
        let before = run.containers();
        run.befall(Fault::Starve);
        run.world.act(|state| {
            let until = tokio::time::Instant::now() + Duration::from_secs(100);
            state.starved_until = Some(until);
        });
        run.wait(60).await;
        assert_eq!(run.containers(), before, "nothing is replaced");
        let shown = run.agent.as_ref().unwrap().shown();
        let told = shown.values().filter_map(|app| app.status.failure.as_ref());
        let told: Vec<_> = told.map(|failure| failure.cause.as_str()).collect();
        assert_eq!(told.len(), 24, "each says that it is not well");
        assert!(told.iter().all(|cause| cause.contains("its host is in trouble")), "{told:?}");
        run.wait(60).await;
        run.settle().await;
        assert_eq!(run.containers(), before);
    });
}

/// A third of all apps is sick, too few to blame the host: they are replaced, but not all at once.
#[test]
fn fm_58_unhealthy_apps_are_replaced_gradually_and_all_eventually() {
    play(|mut run| async move {
        (1..61).for_each(|n| run.want(n, 1));
        run.settle().await;
        run.wait(120).await;
        let sick: Vec<_> = run.containers().into_iter().map(|(name, ..)| name).step_by(3).collect();
        run.world.act(|state| {
            let ever = tokio::time::Instant::now() + Duration::from_hours(1);
            for name in &sick {
                state.sicken(name, ever);
            }
        });
        run.wait(30).await;
        let shown = run.agent.as_ref().unwrap().shown();
        let told = shown.values().filter_map(|app| app.status.failure.as_ref());
        let waiting = told.filter(|failure| failure.cause.contains("waits its turn")).count();
        assert!(waiting > 5, "{waiting} wait and say so");
        run.wait(240).await;
        let left = run.containers();
        assert!(left.len() == 60 && !left.iter().any(|(name, ..)| sick.contains(name)));
        run.settle().await;
    });
}

/// Half of all apps answer their probes with errors, and promptly: that is not a starved host, and
/// replacements do not wait.
#[test]
fn fm_58_apps_that_answer_with_errors_do_not_delay_replacements() {
    play(|mut run| async move {
        (1..9).for_each(|n| run.want(n, 1));
        run.settle().await;
        // The agent has all its tokens.
        run.wait(120).await;
        let sick: Vec<_> = run.containers().into_iter().map(|(name, ..)| name).step_by(2).collect();
        run.world.act(|state| {
            let ever = tokio::time::Instant::now() + Duration::from_hours(1);
            for name in &sick {
                state.sicken(name, ever);
            }
        });
        run.wait(45).await;
        let left = run.containers();
        assert!(left.len() == 8 && !left.iter().any(|(name, ..)| sick.contains(name)), "{left:?}");
        run.settle().await;
    });
}

/// The first one that is sick waits for nothing.
#[test]
fn fm_58_a_single_unhealthy_app_is_replaced_at_once() {
    play(|mut run| async move {
        (1..5).for_each(|n| run.want(n, 1));
        run.settle().await;
        let name = run.containers()[0].0.clone();
        run.world.act(|state| {
            state.sicken(&name, tokio::time::Instant::now() + Duration::from_hours(1));
        });
        // Three probes, one each three seconds, and the way in.
        run.wait(15).await;
        let names: Vec<_> = run.containers().into_iter().map(|(name, ..)| name).collect();
        assert!(names.len() == 4 && !names.contains(&name), "{names:?}");
    });
}

/// What is sick for longer is replaced first, whatever its name is.
#[test]
fn the_longest_unhealthy_apps_are_replaced_first() {
    play(|mut run| async move {
        (1..61).for_each(|n| run.want(n, 1));
        run.settle().await;
        run.wait(120).await;
        let mut names: Vec<_> = run.containers().into_iter().map(|(name, ..)| name).collect();
        let first = names.split_off(44);
        for sick in [&first, &names[..10].to_vec()] {
            run.world.act(|state| {
                let ever = tokio::time::Instant::now() + Duration::from_hours(1);
                for name in sick {
                    state.sicken(name, ever);
                }
            });
            run.wait(30).await;
        }
        run.wait(80).await;
        let left: Vec<_> = run.containers().into_iter().map(|(name, ..)| name).collect();
        assert!(!left.iter().any(|name| first.contains(name)), "{left:?}");
        assert!(names[..10].iter().filter(|name| left.contains(name)).count() > 3, "{left:?}");
    });
}

/// Podman's absence may be why it is sick, and a second container would not help.
#[test]
fn an_unhealthy_app_is_not_replaced_right_after_podman_was_away() {
    play(|mut run| async move {
        (1..5).for_each(|n| run.want(n, 1));
        run.settle().await;
        let before = run.containers();
        let sick = before[0].0.clone();
        run.world.act(|state| {
            let now = tokio::time::Instant::now();
            state.engine.away_until = Some(now + Duration::from_secs(8));
            // So that it is noticed.
            state.feed.as_ref().expect("an agent lives").hints.send_modify(|hints| *hints += 1);
            state.sicken(&sick, now + Duration::from_hours(1));
        });
        run.wait(25).await;
        assert_eq!(run.containers(), before);
        run.wait(60).await;
        assert!(!run.containers().iter().any(|(name, ..)| *name == sick));
    });
}

/// No table can be written, and an app crashes: it is restarted where its visitors go anyway.
/// Switches and removals wait for disk space.
#[test]
fn fm_59_a_crashed_app_is_restarted_while_no_table_can_be_written() {
    play(|mut run| async move {
        (1..4).for_each(|n| run.want(n, 1));
        run.settle().await;
        let before = run.containers();
        run.world.act(|state| state.disk_full = true);
        for crash in 1..3 {
            run.befall(Fault::Crash);
            run.wait(20).await;
            let after = run.containers();
            assert!(
                after.iter().all(|(_, state, _)| *state == ContainerState::Running),
                "{after:?}"
            );
            let starts: u32 = after.iter().map(|(.., starts)| starts).sum();
            assert_eq!((after.len(), starts), (before.len(), 3 + crash), "{after:?}");
            // All is as the older table says.
            assert!(!run.warnings().contains("live table"), "{}", run.warnings());
        }
        run.world.act(|state| state.disk_full = false);
        run.settle().await;
    });
}

/// A revision goes live as the disk fills up: the previous one keeps its visitors, and is not
/// ended.
#[test]
fn fm_59_the_old_revision_stays_until_a_new_table_is_written() {
    play(|mut run| async move {
        run.want(2, 1);
        run.settle().await;
        run.want(2, 2);
        run.sign();
        let newest = run.world.with(|state| state.books.generation);
        while run.world.with(|state| state.books.acked) < newest {
            let passed = run.pass(Duration::from_millis(1)).await;
            run.fails_with_its_story(passed);
        }
        run.world.act(|state| state.disk_full = true);
        run.wait(60).await;
        let names: Vec<_> = run.containers().into_iter().map(|(name, ..)| name).collect();
        assert!(names.iter().any(|name| name.contains("-r1-")), "{names:?}");
        assert!(run.warnings().contains("live table"), "{}", run.warnings());
        run.world.act(|state| state.disk_full = false);
        run.settle().await;
        assert_eq!(run.containers().len(), 1);
    });
}

/// Deployment 1, of a public service and a worker, at this revision; the worker's content is from
/// that one.
fn app_and_worker(run: &Run, revision: u32, worker: u32) -> DeploymentSpec {
    let desired = run.keys.desired_of_several(1, 1, revision, revision);
    let services = edited(&desired.services, |service| {
        if !service.public {
            service.revision = Revision::new(worker);
        }
    });
    DeploymentSpec { services, ..desired }
}

impl Run {
    fn want_this(&self, desired: DeploymentSpec) {
        let revision = desired.revision;
        self.world.act(|state| state.books.documents.enter(1, desired, revision));
    }
}

/// The worker keeps its container, whatever its deployment's revision.
#[test]
fn a_revision_touches_only_the_services_that_it_changes() {
    play(|mut run| async move {
        run.want_this(app_and_worker(&run, 1, 1));
        run.settle().await;
        run.want_this(app_and_worker(&run, 2, 1));
        run.settle().await;
        let containers = run.containers();
        let names: Vec<_> =
            containers.iter().map(|(name, _, starts)| (short(name), *starts)).collect();
        let expected = ["c000000000001-app-0-r2-b", "c000000000001-worker-0-r1-a"];
        assert_eq!(names, expected.map(|name| (name.to_owned(), 1)));
        let desired = app_and_worker(&run, 3, 3);
        let services = edited(&desired.services, |service| {
            if service.public {
                service.revision = Revision::new(2);
                service.image = ImageReference::parse("ghcr.io/a/b:1r2").unwrap();
            }
        });
        run.want_this(DeploymentSpec { services, ..desired });
        run.settle().await;
        let containers = run.containers();
        assert_eq!(short(&containers[0].0), "c000000000001-app-0-r2-b");
        assert_eq!(short(&containers[1].0), "c000000000001-worker-0-r3-b");
    });
}

/// Its public service crashes, so the worker that came with it goes back, too; the next life of the
/// agent keeps to that.
#[test]
fn fm_01_a_revision_of_several_services_goes_back_as_a_whole() {
    play(|mut run| async move {
        run.world.act(|state| state.books.documents.rollback_window_s = 120);
        run.want_this(app_and_worker(&run, 1, 1));
        run.settle().await;
        run.world.act(|state| {
            state.books.documents.deaf = true;
            let crashes = App::Crashes(Duration::from_secs(2));
            state.apps.insert((deployment(1), Revision::new(2)), (crashes, Registry::Has));
        });
        run.want_this(app_and_worker(&run, 2, 2));
        run.sign();
        let back = ["c000000000001-app-0-r1", "c000000000001-worker-0-r1"];
        let is_back = |run: &Run| {
            let names: Vec<_> = run.containers().iter().map(|(name, ..)| short(name)).collect();
            names.len() == 2 && back.iter().zip(&names).all(|(r, name)| name.starts_with(r))
        };
        let mut seconds = 0;
        while run.phase(1) != Some(Phase::Failed) || !is_back(&run) {
            run.wait(1).await;
            seconds += 1;
            assert!(seconds < 120, "{:?}", run.containers());
        }
        run.world.act(State::kill);
        run.wait(60).await;
        assert!(is_back(&run), "{:?}", run.containers());
        let status =
            run.agent.as_ref().unwrap().shown().remove(&deployment(1).to_string()).unwrap();
        let (serving, rolled_back_to) = (status.status.serving, status.status.rolled_back_to);
        assert_eq!((serving, rolled_back_to), (Some(Revision::FIRST), Some(Revision::FIRST)));
    });
}

/// As many of its visitors met errors before: the new revision is not to blame for them.
#[test]
fn an_app_that_always_failed_as_often_is_not_rolled_back_for_it() {
    play(|mut run| async move {
        run.world.act(|state| {
            state.books.documents.rollback_window_s = 120;
            for revision in [1, 2] {
                let key = (deployment(1), Revision::new(revision));
                state.apps.insert(key, (App::Fails, Registry::Has));
            }
        });
        run.want(1, 1);
        run.want(2, 1);
        run.settle().await;
        run.wait(60).await;
        // Caddy's log is read already when the revision goes live, because another app is watched.
        run.want(2, 2);
        run.settle().await;
        run.wait(5).await;
        run.want(1, 2);
        run.settle().await;
        run.wait(60).await;
        assert_eq!(run.phase(1), Some(Phase::Live));
        assert_eq!(run.containers().len(), 2);
    });
}

/// The only replica that answers is one that the next revision does not have. Restarted meanwhile,
/// the agent knows it still.
#[test]
fn a_replica_that_is_no_longer_wanted_answers_until_a_wanted_one_does() {
    for restarts in [false, true] {
        play(|mut run| async move {
            let slow = |state: &mut State, revision| {
                let app = App::Good(Duration::from_secs(4));
                let key = (deployment(1), Revision::new(revision));
                state.apps.insert(key, (app, Registry::Has));
            };
            run.world.act(|state| {
                state.books.documents.deaf = true;
                slow(state, 1);
                slow(state, 2);
            });
            let desired = run.keys.desired(1, 1, 1, 1);
            let services = edited(&desired.services, |service| service.replicas = 2);
            run.want_this(DeploymentSpec { services, ..desired });
            run.sign();
            run.wait(1).await;
            let names: Vec<_> = run.containers().into_iter().map(|(name, ..)| name).collect();
            assert_eq!(names.len(), 2, "{names:?}");
            // The first is given up before the second answers.
            let world = Arc::clone(&run.world);
            for _ in 0..3 {
                run.world.act(|state| state.end(&world, &names[0], 1));
                run.wait(1).await;
            }
            let mut seconds = 0;
            while run.phase(1) != Some(Phase::Failed) {
                run.wait(1).await;
                seconds += 1;
                assert!(seconds < 20, "{:?}", run.containers());
            }
            run.want(1, 2);
            run.sign();
            run.wait(2).await;
            if restarts {
                run.world.act(State::kill);
            }
            run.wait(1).await;
            let answers = |state: &mut State| {
                matches!(state.edge.table.apps.get("app-1"), Some(Target::Live { .. }))
            };
            assert!(
                run.world.with(answers),
                "{}",
                run.world.with(|state| state.story()).0.join("\n")
            );
            run.settle().await;
            run.wait(10).await;
            let names: Vec<_> = run.containers().iter().map(|(name, ..)| short(name)).collect();
            assert_eq!(names.len(), 1, "{names:?}");
            assert!(names[0].contains("app-0-r2"), "{names:?}");
        });
    }
}

/// Podman says that all is well, and what it starts has no limits: as without a user bus.
#[test]
fn fm_78_what_has_no_limits_gets_no_visitors_and_the_host_says_so() {
    play(|mut run| async move {
        run.want(1, 1);
        run.want(3, 1);
        run.settle().await;
        run.world.act(|state| state.engine.unlimited = true);
        run.want(1, 2);
        run.want(2, 1);
        run.sign();
        run.wait(120).await;
        let serves = |state: &mut State, app: &str| {
            matches!(state.edge.table.apps.get(app), Some(Target::Live { .. }))
        };
        assert!(run.world.with(|state| serves(state, "app-1")), "the old revision serves on");
        assert!(!run.world.with(|state| serves(state, "app-2")), "it never had limits");
        let waits = |run: &Run, n| {
            run.world.with(|state| match state.books.levels.get(&deployment(n)) {
                Some(ReportBody::Deployment(status)) if status.phase != Phase::Failed => {
                    status.failure.as_ref().map(|failure| failure.code.clone())
                }
                _ => None,
            })
        };
        for n in [1, 2] {
            assert_eq!(waits(&run, n).as_deref(), Some("limits_not_enforced"), "app {n}");
        }
        let host = run.agent.as_ref().unwrap().snapshot.borrow().clone().unwrap().host.clone();
        let told = host.lacks.is_some_and(|lacks| lacks.code == "limits_not_enforced");
        let warned = host.warnings.iter().any(|warning| warning.contains("without its limits"));
        assert!(told && warned, "{:?}", host.warnings);
        // What serves crashes: started again without limits it gets no visitors either.
        let world = Arc::clone(&run.world);
        let of_third = |name: &str| name.contains(&deployment(3).to_string());
        let served = run.containers().into_iter().find(|(name, ..)| of_third(name));
        let (name, ..) = served.expect("app 3 runs");
        run.world.act(|state| state.end(&world, &name, 1));
        run.wait(60).await;
        assert!(!run.world.with(|state| serves(state, "app-3")));
        run.world.act(|state| state.engine.unlimited = false);
        run.settle().await;
        for n in [1, 2, 3] {
            assert_eq!((run.phase(n), waits(&run, n)), (Some(Phase::Live), None));
        }
    });
}

/// An agent that comes to a host whose containers have no limits, such as one of a version that did
/// not look, takes nobody away from their visitors.
#[test]
fn fm_78_what_served_before_the_agent_came_keeps_its_visitors() {
    play(|mut run| async move {
        run.want(1, 1);
        run.settle().await;
        let before = run.containers();
        run.world.act(|state| {
            for container in state.engine.containers.values_mut() {
                (container.unlimited, container.started_by) = (true, None);
            }
            state.kill();
        });
        run.wait(300).await;
        assert_eq!((run.containers(), run.phase(1)), (before, Some(Phase::Live)));
        let host = run.agent.as_ref().unwrap().snapshot.borrow().clone().unwrap().host.clone();
        assert!(host.warnings.iter().any(|w| w.contains("without its limits")), "{host:?}");
    });
}
