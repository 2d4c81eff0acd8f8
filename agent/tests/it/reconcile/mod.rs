//! The whole loop against a world in memory: Podman, probes, Caddy and the table are fakes with
//! faults; store, desired state, plan, executor and reports are the real ones.

mod host;
mod machine;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use buddo_agent::adapters::store::{Entry, Store};
use buddo_agent::host::disk::ImageLeases;
use buddo_agent::model::container::{ContainerState, Identity, Slot};
use buddo_agent::model::live_table::Target;
use buddo_agent::model::snapshot::{DeploymentSnapshot, HostSnapshot};
use buddo_agent::model::spec::WorkloadSpec;
use buddo_agent::model::step::{Lane, Step};
use buddo_agent::model::workload::container_name;
use buddo_agent::plan::EDGE_LAG;
use buddo_agent::plan::state::StepOutcome;
use buddo_agent::ports::Outbox as _;
use buddo_agent::reconcile::executor::{Executor, ExecutorObserver, Operation};
use buddo_runtime::clock::{Clock as _, SystemClock};
use buddo_shared::host_wire::manifest::{
    AutoRollback, DeploymentSpec, Fallback, RunState, ServiceSpec, Strategy,
};
use buddo_shared::host_wire::report::{DeploymentStatus, Health, Phase, ReportBody};
use buddo_shared::model::id::Revision;
use buddo_shared::model::image::ImageReference;
use buddo_shared::model::name::HostName;
use buddo_shared::model::probe::Probe;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use self::host::{Agent, FOREVER, Host, app, edited};
use self::machine::{Life, digest, digest_of};

#[tokio::test(flavor = "multi_thread")]
async fn an_app_is_deployed_updated_stopped_and_removed() {
    let mut host = Host::new();
    let agent = host.agent(FOREVER, true).await;
    host.push(&agent, vec![host.desired(1, 1, RunState::Running)]).await;
    agent.until_live(1).await;
    let published = host.machine.published.lock().unwrap().unwrap();
    assert!(published.elapsed() >= EDGE_LAG, "live before the edge asked again");
    let values =
        |host: &Host| host.machine.secrets.lock().unwrap().values().cloned().collect::<Vec<_>>();
    assert_eq!(values(&host), ["v1"]);

    host.push(&agent, vec![host.desired(1, 2, RunState::Running)]).await;
    agent.until_live(2).await;
    assert!(host.running()[0].ends_with("-r2-b"), "{:?}", host.running());

    host.push(&agent, vec![host.desired(1, 2, RunState::Stopped)]).await;
    agent
        .until("stopped", |apps| apps[0].status.phase == Phase::Stopped && apps[0].doing.is_empty())
        .await;
    assert!(host.running().is_empty());
    let target = host.machine.table.lock().unwrap().apps["blog-1"].clone();
    assert_eq!(target, Target::Stopped);

    host.push(&agent, vec![]).await;
    agent.until("gone", <[_]>::is_empty).await;
    assert!(values(&host).is_empty(), "secrets go with their app");
    agent.until_reported(|body| *body == ReportBody::Removed { id: app(1) }).await;
}

/// The agent died after forgetting an app and before reporting that it is gone.
#[tokio::test(flavor = "multi_thread")]
async fn an_unreported_removal_is_reported_after_a_restart() {
    let mut host = Host::new();
    let agent = host.agent(FOREVER, true).await;
    host.push(&agent, vec![host.desired(1, 1, RunState::Running)]).await;
    agent.until_live(1).await;
    let said = agent.until_reported(|body| matches!(body, ReportBody::Deployment(_))).await;
    drop(agent);
    let ReportBody::Deployment(mut status) = said else { panic!("{said:?}") };
    status.id = app(2);
    let (subject, body) = (status.id.to_string(), ReportBody::Deployment(status));
    let store = Store::open(&host.dir.path().join("agent.db"), 0).unwrap();
    let entry = Entry { subject, body, last: false };
    // The last write of the agent that was dropped may still be under way.
    let reported = async {
        while store.report(vec![entry.clone()], SystemClock.now()).await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), reported).await.unwrap();
    drop(store);
    let agent = host.agent(FOREVER, true).await;
    agent.until_reported(|body| *body == ReportBody::Removed { id: app(2) }).await;
    agent.until_live(1).await;
}

/// Its database has been lost since then, and no table can be written.
#[tokio::test(flavor = "multi_thread")]
async fn what_an_earlier_agent_reported_is_no_service_of_its_own() {
    let mut host = Host::new();
    let body = ReportBody::Deployment(DeploymentStatus {
        id: app(1),
        revision: Revision::FIRST,
        phase: Phase::Live,
        serving: None,
        health: Health::Unknown,
        checked_at: None,
        failure: None,
        rolled_back_to: None,
        restarts: 0,
        services: Vec::new(),
    });
    let store = Store::open(&host.dir.path().join("agent.db"), 0).unwrap();
    let entry = Entry { subject: app(1).to_string(), body, last: false };
    store.report(vec![entry], SystemClock.now()).await.unwrap();
    drop(store);
    host.machine.table_broken.store(true, Ordering::SeqCst);
    let agent = host.agent(FOREVER, true).await;
    let web = edited(host.desired(1, 1, RunState::Running), |service| {
        service.name = "web".parse().unwrap();
    });
    host.push(&agent, vec![web]).await;
    let snapshot = agent.until("seen", |apps| apps.len() == 1).await;
    let services = &snapshot.deployments[0].status.services;
    let names: Vec<_> = services.iter().map(|service| service.name.to_string()).collect();
    assert_eq!(names, ["web"]);
}

/// Longer than a starting agent puts off a list.
const RESTS: Duration = Duration::from_millis(1_100);

#[tokio::test(flavor = "multi_thread")]
async fn a_pass_with_nothing_to_do_lists_once_and_does_nothing_else() {
    let mut host = Host::new();
    let agent = host.agent(FOREVER, true).await;
    host.push(&agent, vec![host.desired(1, 1, RunState::Running)]).await;
    agent.until_live(1).await;
    let machine = Arc::clone(&host.machine);
    let seen = || {
        (
            machine.publishes.load(Ordering::SeqCst),
            machine.routes.load(Ordering::SeqCst),
            machine.starts.load(Ordering::SeqCst),
        )
    };
    // Once the snapshot rests, the wake-ups of the last steps have been handled.
    let mut snapshot = agent.snapshot.clone();
    while tokio::time::timeout(RESTS, snapshot.changed()).await.is_ok() {}
    let (before, lists) = (seen(), machine.lists.load(Ordering::SeqCst));
    let calls = agent.life.calls_left.load(Ordering::SeqCst);
    agent.hints.send_modify(|hint| *hint += 1);
    snapshot.changed().await.unwrap();
    assert_eq!(machine.lists.load(Ordering::SeqCst), lists + 1);
    assert_eq!(agent.life.calls_left.load(Ordering::SeqCst), calls - 1, "no other call");
    assert_eq!(seen(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn fm_01_an_agent_killed_around_any_call_converges_to_one_container() {
    for last_has_effect in [false, true] {
        for calls in 0..24 {
            let mut host = Host::new();
            // Killed somewhere between the first revision's start and the second's switch.
            let agent = host.agent(calls, last_has_effect).await;
            host.push(&agent, vec![host.desired(1, 1, RunState::Running)]).await;
            let first_life = agent.life.clone();
            let survived = tokio::select! {
                () = first_life.killed.notified() => false,
                () = agent.until_live(1) => true,
            };
            if survived {
                host.push(&agent, vec![host.desired(1, 2, RunState::Running)]).await;
                tokio::select! {
                    () = first_life.killed.notified() => {}
                    () = agent.until_live(2) => {}
                }
            }
            drop(agent);
            let wanted = u32::try_from(host.generation).unwrap();
            let before: BTreeMap<String, u32> = {
                let containers = host.machine.containers.lock().unwrap();
                let running = containers
                    .iter()
                    .filter(|(_, (container, ..))| container.state == ContainerState::Running);
                running.map(|(name, (.., starts))| (name.clone(), *starts)).collect()
            };
            let agent = host.agent(FOREVER, true).await;
            agent.until_live(wanted).await;
            let running = host.running();
            assert_eq!(running.len(), 1, "killed after {calls} calls: {running:?}");
            if let Some(starts) = before.get(&running[0]) {
                let now = host.machine.containers.lock().unwrap()[&running[0]].2;
                assert_eq!(now, *starts, "what was right is not started again");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn fm_18_an_agent_without_its_database_keeps_traffic_flowing() {
    let mut host = Host::new();
    let agent = host.agent(FOREVER, true).await;
    host.push(&agent, vec![host.desired(1, 1, RunState::Running)]).await;
    agent.until_live(1).await;
    let before = host.machine.table.lock().unwrap().clone();
    drop(agent);
    host.dir = tempfile::tempdir().unwrap();
    let agent = host.agent(FOREVER, true).await;
    let publishes = host.machine.publishes.load(Ordering::SeqCst);
    host.push(&agent, vec![host.desired(1, 1, RunState::Running)]).await;
    agent.until_live(1).await;
    assert_eq!(*host.machine.table.lock().unwrap(), before);
    assert!(host.machine.publishes.load(Ordering::SeqCst) <= publishes + 1);
    assert_eq!(host.machine.starts.load(Ordering::SeqCst), 1, "it was not started again");
}

#[tokio::test(flavor = "multi_thread")]
async fn fm_19_lost_containers_are_recreated_from_the_document() {
    let mut host = Host::new();
    let agent = host.agent(FOREVER, true).await;
    host.push(&agent, vec![host.desired(1, 1, RunState::Running)]).await;
    agent.until_live(1).await;
    host.machine.containers.lock().unwrap().clear();
    agent.hints.send_modify(|hint| *hint += 1);
    // 'Not serving' is too brief to wait for; a second start stays visible.
    let starts = || host.machine.starts.load(Ordering::SeqCst);
    agent.until("started again", |_| starts() == 2).await;
    agent.until_live(1).await;
    assert_eq!(starts(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn fm_13_a_table_written_late_still_gives_the_full_drain() {
    for strategy in [Strategy::Rolling, Strategy::Recreate] {
        let mut host = Host::new();
        let agent = host.agent(FOREVER, true).await;
        host.push(&agent, vec![host.desired(1, 1, RunState::Running)]).await;
        agent.until_live(1).await;
        host.machine.table_broken.store(true, Ordering::SeqCst);
        let published = host.machine.publishes.load(Ordering::SeqCst);
        let update = host.desired(1, 2, RunState::Running);
        let update = edited(update, |service| service.strategy = strategy);
        host.push(&agent, vec![update]).await;
        // The switch was decided, and could not be published for longer than the drain.
        let mut snapshot = agent.snapshot.clone();
        while host.machine.publishes.load(Ordering::SeqCst) < published + 2 {
            snapshot.changed().await.unwrap();
        }
        let told = |p: &HostSnapshot| p.host.warnings.iter().any(|w| w.contains("live table"));
        assert!(agent.snapshot.borrow().as_deref().is_some_and(told));
        host.machine.table_broken.store(false, Ordering::SeqCst);
        agent.until_live(2).await;
        let stopped = host.machine.stopped_after.lock().unwrap().clone();
        assert!(!stopped.is_empty());
        for after in stopped {
            assert!(after >= Duration::from_millis(30), "{strategy:?}: stopped after {after:?}");
        }
    }
}

/// Only a newer table could send its first visitors to it.
#[tokio::test(flavor = "multi_thread")]
async fn a_rollout_waits_until_the_table_can_be_written() {
    let mut host = Host::new();
    let agent = host.agent(FOREVER, true).await;
    host.push(&agent, vec![host.desired(1, 1, RunState::Running)]).await;
    agent.until_live(1).await;
    host.machine.table_broken.store(true, Ordering::SeqCst);
    let published = host.machine.publishes.load(Ordering::SeqCst);
    // Its table has another name in it from the first pass on.
    let domains = vec![HostName::parse("www.example.org").unwrap()];
    let update = DeploymentSpec { domains, ..host.desired(1, 2, RunState::Running) };
    host.push(&agent, vec![update]).await;
    // It is retried automatically.
    let tried =
        |_: &[DeploymentSnapshot]| host.machine.publishes.load(Ordering::SeqCst) >= published + 3;
    agent.until("tried again", tried).await;
    assert!(host.running()[0].contains("-r1-") && host.running().len() == 1);
    host.machine.table_broken.store(false, Ordering::SeqCst);
    agent.until_live(2).await;
}

/// An earlier agent wrote the table, and this one cannot write any.
#[tokio::test(flavor = "multi_thread")]
async fn a_container_that_the_table_routes_to_is_recreated_without_a_new_table() {
    let mut host = Host::new();
    let agent = host.agent(FOREVER, true).await;
    host.push(&agent, vec![host.desired(1, 1, RunState::Running)]).await;
    agent.until_live(1).await;
    drop(agent);
    host.machine.table_broken.store(true, Ordering::SeqCst);
    host.machine.containers.lock().unwrap().clear();
    let agent = host.agent(FOREVER, true).await;
    let runs = |apps: &[DeploymentSnapshot]| {
        apps.first().is_some_and(|app| app.containers.iter().any(|c| c.state == "running"))
    };
    agent.until("made again", runs).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fm_15_a_removed_table_is_published_again() {
    let mut host = Host::new();
    let agent = host.agent(FOREVER, true).await;
    host.push(&agent, vec![host.desired(1, 1, RunState::Running)]).await;
    agent.until_live(1).await;
    host.machine.table_gone.store(true, Ordering::SeqCst);
    let mut snapshot = agent.snapshot.clone();
    agent.hints.send_modify(|hint| *hint += 1);
    let again = async {
        while host.machine.table_gone.load(Ordering::SeqCst) {
            snapshot.changed().await.unwrap();
        }
    };
    tokio::time::timeout(Duration::from_secs(20), again).await.expect("it is published again");
}

#[tokio::test(flavor = "multi_thread")]
async fn fm_21_a_hanging_event_stream_is_detected_by_the_agents_own_actions() {
    let mut host = Host::new();
    let agent = host.agent(FOREVER, true).await;
    host.machine.events_hang.store(true, Ordering::SeqCst);
    host.push(&agent, vec![host.desired(1, 1, RunState::Running)]).await;
    let asked = agent.renew.notified();
    tokio::time::timeout(Duration::from_secs(20), asked).await.expect("a new stream is asked for");
    // Until a line comes, containers are listed often: a death is noticed without its event.
    let mut snapshot = agent.snapshot.clone();
    let deaf =
        |p: &HostSnapshot| p.host.warnings.iter().any(|w| w.contains("events do not arrive"));
    let told = snapshot.wait_for(|p| p.as_deref().is_some_and(deaf));
    tokio::time::timeout(Duration::from_secs(20), told).await.unwrap().unwrap();
    let starts = host.machine.starts.load(Ordering::SeqCst);
    host.machine.containers.lock().unwrap().clear();
    let begun = Instant::now();
    agent.until("started again", |_| host.machine.starts.load(Ordering::SeqCst) > starts).await;
    assert!(begun.elapsed() < Duration::from_secs(6), "{:?}", begun.elapsed());
}

/// Podman sends no event, and learns of the end a little later than the kernel.
#[tokio::test(flavor = "multi_thread")]
async fn an_exit_reported_only_by_the_kernel_is_handled_once_podman_lists_it() {
    let mut host = Host::new();
    let agent = host.agent(FOREVER, true).await;
    host.push(&agent, vec![host.desired(1, 1, RunState::Running)]).await;
    agent.until_live(1).await;
    let starts = || host.machine.starts.load(Ordering::SeqCst);
    let looks = || {
        let machine = &host.machine;
        machine.lists.load(Ordering::SeqCst) + machine.inspections.load(Ordering::SeqCst)
    };
    let (started, before) = (starts(), looks());
    host.machine.ended.notify_one();
    let looked = async {
        while looks() < before + 3 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let mut containers = host.machine.containers.lock().unwrap();
        containers.values_mut().for_each(|(c, ..)| c.state = ContainerState::Exited(137));
    };
    tokio::time::timeout(Duration::from_secs(20), looked).await.expect("nobody lists again");
    let revived = async {
        while starts() == started {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    // Without the hint it would be listed in a minute.
    tokio::time::timeout(Duration::from_secs(20), revived).await.expect("nobody starts it again");
}

#[tokio::test(flavor = "multi_thread")]
async fn hanging_pulls_do_not_block_other_operations() {
    let mut host = Host::new();
    let agent = host.agent(FOREVER, true).await;
    host.push(&agent, vec![host.desired(1, 1, RunState::Running)]).await;
    agent.until_live(1).await;
    host.machine.pulls_hang.store(true, Ordering::SeqCst);
    let slow = |host: &Host| (2..40).map(|n| host.desired(n, 1, RunState::Running)).collect();
    let mut deployments: Vec<DeploymentSpec> = slow(&host);
    deployments.push(host.desired(1, 1, RunState::Running));
    host.push(&agent, deployments).await;
    agent
        .until("pulling", |apps| apps.iter().filter(|app| !app.doing.is_empty()).count() > 30)
        .await;
    host.push(&agent, slow(&host)).await;
    agent.until("gone", |apps| apps.iter().all(|found| found.status.id != app(1))).await;
    assert!(host.running().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_that_never_answers_fails_with_a_cause_and_leaves_nothing_behind() {
    let mut host = Host::new();
    host.machine.silent.store(true, Ordering::SeqCst);
    let agent = host.agent(FOREVER, true).await;
    host.push(&agent, vec![host.desired(1, 1, RunState::Running)]).await;
    let snapshot = agent
        .until("failed", |apps| {
            apps.len() == 1
                && apps[0].status.phase == Phase::Failed
                && apps[0].containers.is_empty()
                && apps[0].doing.is_empty()
                && apps[0].planned.is_empty()
        })
        .await;
    let failure = snapshot.deployments[0].status.failure.clone().unwrap();
    assert_eq!(failure.code, "never_healthy");
    assert!(failure.cause.contains("connection closed"));
    assert!(host.machine.secrets.lock().unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn fm_02_a_container_whose_create_was_not_answered_is_adopted() {
    let mut host = Host::new();
    host.machine.lost_answers.store(1, Ordering::SeqCst);
    let agent = host.agent(FOREVER, true).await;
    host.push(&agent, vec![host.desired(1, 1, RunState::Running)]).await;
    agent.until_live(1).await;
    assert_eq!(host.machine.lost_answers.load(Ordering::SeqCst), 0, "an answer was lost");
    assert_eq!(host.machine.made_from.lock().unwrap().len(), 1, "and no second one made");
    assert_eq!(host.machine.starts.load(Ordering::SeqCst), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn fm_22_a_flood_of_events_causes_only_lists() {
    let mut host = Host::new();
    let agent = host.agent(FOREVER, true).await;
    host.push(&agent, vec![host.desired(1, 1, RunState::Running)]).await;
    agent.until_live(1).await;
    let mut snapshot = agent.snapshot.clone();
    while tokio::time::timeout(RESTS, snapshot.changed()).await.is_ok() {}
    let lists = || host.machine.lists.load(Ordering::SeqCst);
    let others = || FOREVER - agent.life.calls_left.load(Ordering::SeqCst);
    let (listed, called) = (lists(), others());
    for _ in 0..500 {
        agent.life.event();
        agent.hints.send_modify(|hint| *hint += 1);
        tokio::task::yield_now().await;
    }
    while tokio::time::timeout(RESTS, snapshot.changed()).await.is_ok() {}
    let fresh = lists() - listed;
    assert!((1..100).contains(&fresh), "{fresh} lists for 500 events");
    assert_eq!(others() - called, i64::try_from(fresh).unwrap(), "no call but lists");
}

#[tokio::test(flavor = "multi_thread")]
async fn fm_33_a_revision_keeps_its_digest_when_its_tag_moves() {
    let mut host = Host::new();
    let agent = host.agent(FOREVER, true).await;
    host.push(&agent, vec![host.desired(1, 1, RunState::Running)]).await;
    agent.until_live(1).await;
    host.machine.tag_moved.store(true, Ordering::SeqCst);
    // It is written after the pass, which does not wait for it.
    let store = Store::open(&host.dir.path().join("agent.db"), 0).unwrap();
    let known = async || store.workloads().await.unwrap().values().any(|d| !d.digests.is_empty());
    while !known().await {
        tokio::task::yield_now().await;
    }
    drop((store, agent));
    // Even an agent that has only its database to learn it from.
    let agent = host.agent(FOREVER, true).await;
    host.machine.containers.lock().unwrap().clear();
    agent.hints.send_modify(|hint| *hint += 1);
    let starts = || host.machine.starts.load(Ordering::SeqCst);
    agent.until("started again", |_| starts() == 2).await;
    agent.until_live(1).await;
    host.push(&agent, vec![host.desired(1, 2, RunState::Running)]).await;
    agent.until_live(2).await;
    let made = host.machine.made_from.lock().unwrap().clone();
    let digests: Vec<_> = made.iter().map(|image| image.digest().cloned().unwrap()).collect();
    assert_eq!(digests, [digest_of('a'), digest_of('a'), digest_of('b')]);
}

fn auto_rollback(old: DeploymentSpec) -> AutoRollback {
    let old = edited(old, |service| service.digest = Some(digest()));
    let fallback = Fallback { revision: old.revision, services: old.services };
    AutoRollback { seconds: 300, fallback }
}

/// Revision 2 has just gone live over revision 1, and is watched.
async fn watched(host: &mut Host) -> Agent {
    let agent = host.agent(FOREVER, true).await;
    let old = host.desired(1, 1, RunState::Running);
    host.push(&agent, vec![old.clone()]).await;
    agent.until_live(1).await;
    let new = DeploymentSpec {
        auto_rollback: Some(Box::new(auto_rollback(old))),
        ..host.desired(1, 2, RunState::Running)
    };
    host.push(&agent, vec![new]).await;
    agent.until_live(2).await;
    agent
}

/// The serving container ends, as often as it was started.
async fn crash_loop(host: &Host, agent: &Agent, times: usize) {
    for _ in 0..times {
        let starts = host.machine.starts.load(Ordering::SeqCst);
        for (container, ..) in host.machine.containers.lock().unwrap().values_mut() {
            container.state = ContainerState::Exited(3);
        }
        agent.hints.send_modify(|hint| *hint += 1);
        agent.until("up again", |_| host.machine.starts.load(Ordering::SeqCst) > starts).await;
        let live = |apps: &[DeploymentSnapshot]| apps[0].status.phase == Phase::Live;
        agent.until("live again", live).await;
    }
}

fn is_rolled_back(apps: &[DeploymentSnapshot]) -> bool {
    let [app] = apps else { return false };
    let status = &app.status;
    let old = Some(Revision::new(1));
    status.phase == Phase::Failed
        && (status.serving, status.rolled_back_to) == (old, old)
        && app.containers.len() == 1
        && app.doing.is_empty()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollback_needs_no_coordinator_and_is_adopted_by_the_next_document() {
    let mut host = Host::new();
    let agent = watched(&mut host).await;
    crash_loop(&host, &agent, 2).await;
    for (container, ..) in host.machine.containers.lock().unwrap().values_mut() {
        container.state = ContainerState::Exited(3);
    }
    agent.hints.send_modify(|hint| *hint += 1);
    let snapshot = agent.until("rolled back", is_rolled_back).await;
    let failure = snapshot.deployments[0].status.failure.clone().unwrap();
    assert_eq!(failure.code, "guard_crash_loop");
    assert!(failure.cause.contains("ended 3 times"), "{}", failure.cause);
    let secrets = || host.machine.secrets.lock().unwrap().values().cloned().collect::<Vec<_>>();
    agent.until("tidied", |_| secrets() == ["v1"]).await;
    let mut changed = agent.status.changed();
    loop {
        let reports = agent.status.after(0, 100).await.unwrap();
        let told = reports.iter().any(|report| {
            matches!(&report.body, ReportBody::Deployment(status)
                if status.rolled_back_to == Some(Revision::new(1)) && status.phase == Phase::Failed)
        });
        if told {
            break;
        }
        changed.changed().await.unwrap();
    }

    // Another life of the agent keeps to the decision; then the document follows. Nothing is
    // started.
    let starts = host.machine.starts.load(Ordering::SeqCst);
    drop(agent);
    let agent = host.agent(FOREVER, true).await;
    agent.until("still rolled back", is_rolled_back).await;
    host.push(&agent, vec![host.desired(1, 1, RunState::Running)]).await;
    agent.until_live(1).await;
    assert_eq!(host.machine.starts.load(Ordering::SeqCst), starts);
}

/// The decision is on disk before it is acted on.
#[tokio::test(flavor = "multi_thread")]
async fn fm_01_an_agent_killed_during_a_rollback_resumes_it() {
    let lives = (1..5).map(|calls| async move {
        let mut host = Host::new();
        let agent = watched(&mut host).await;
        crash_loop(&host, &agent, 2).await;
        for (container, ..) in host.machine.containers.lock().unwrap().values_mut() {
            container.state = ContainerState::Exited(3);
        }
        // The list that shows the third end, and then this many calls more.
        agent.life.calls_left.store(calls, Ordering::SeqCst);
        agent.hints.send_modify(|hint| *hint += 1);
        agent.life.killed.notified().await;
        drop(agent);
        let agent = host.agent(FOREVER, true).await;
        agent.until("rolled back", is_rolled_back).await;
        assert_eq!(host.running().len(), 1);
    });
    futures_util::future::join_all(lives).await;
}

/// Its main process lives, answers every probe and fails no visitor: only the kernel reports it.
#[tokio::test(flavor = "multi_thread")]
async fn oom_kills_of_child_processes_roll_back() {
    let mut host = Host::new();
    // By its number of starts: the second one is revision 2.
    host.machine.kills.lock().unwrap().insert(2, 0);
    let agent = watched(&mut host).await;
    // Later looks are compared with the first one.
    let mut looks = host.machine.looks.subscribe();
    let looked = tokio::time::timeout(Duration::from_secs(20), looks.wait_for(|n| *n > 0));
    assert!(looked.await.is_ok(), "nobody asks the kernel");
    host.machine.kills.lock().unwrap().insert(2, 1);
    agent.until("seen", |apps| apps[0].kills == 1 && apps[0].status.phase == Phase::Live).await;
    host.machine.kills.lock().unwrap().insert(2, 2);
    let snapshot = agent.until("rolled back", is_rolled_back).await;
    let failure = snapshot.deployments[0].status.failure.clone().unwrap();
    assert_eq!(failure.code, "guard_oom");
    assert!(failure.cause.contains("ran out of its 256 MB of memory 2 times"), "{failure:?}");
}

/// Podman restarted three times and took all containers with it.
#[tokio::test(flavor = "multi_thread")]
async fn a_failure_of_all_apps_together_does_not_roll_back() {
    let mut host = Host::new();
    let agent = host.agent(FOREVER, true).await;
    let all = |host: &Host, revision| -> Vec<DeploymentSpec> {
        (1..=4).map(|n| host.desired(n, revision, RunState::Running)).collect()
    };
    let live = |apps: &[DeploymentSnapshot], revision| {
        apps.len() == 4
            && apps.iter().all(|app| {
                app.status.phase == Phase::Live
                    && app.status.serving == Some(Revision::new(revision))
                    && app.containers.len() == 1
            })
    };
    host.push(&agent, all(&host, 1)).await;
    agent.until("live", |apps| live(apps, 1)).await;
    let pairs = all(&host, 2).into_iter().zip(all(&host, 1));
    let watched = pairs
        .map(|(new, old)| DeploymentSpec {
            auto_rollback: Some(Box::new(auto_rollback(old))),
            ..new
        })
        .collect();
    host.push(&agent, watched).await;
    agent.until("live", |apps| live(apps, 2)).await;
    for _ in 0..3 {
        let starts = host.machine.starts.load(Ordering::SeqCst);
        for (container, ..) in host.machine.containers.lock().unwrap().values_mut() {
            container.state = ContainerState::Exited(255);
        }
        agent.hints.send_modify(|hint| *hint += 1);
        agent.until("up again", |_| host.machine.starts.load(Ordering::SeqCst) == starts + 4).await;
        agent.until("live again", |apps| live(apps, 2)).await;
    }
}

/// Revision `revision` of a deployment with a worker beside what visitors reach.
fn with_worker(host: &Host, revision: u32, app: &str, worker: &str) -> DeploymentSpec {
    let desired = host.desired(1, revision, RunState::Running);
    let app = ServiceSpec {
        image: ImageReference::parse(app).unwrap(),
        env: None,
        ..desired.services.public().clone()
    };
    let worker = ServiceSpec {
        name: "worker".parse().unwrap(),
        public: false,
        image: ImageReference::parse(worker).unwrap(),
        ..app.clone()
    };
    DeploymentSpec { services: vec![app, worker].try_into().unwrap(), ..desired }
}

/// The worker is given up in the very pass that could begin the public service's rollout.
#[tokio::test(flavor = "multi_thread")]
async fn what_goes_back_after_it_was_planned_is_not_begun() {
    let mut host = Host::new();
    let agent = host.agent(FOREVER, true).await;
    let mut old = with_worker(&host, 1, "ghcr.io/a/b:1", "ghcr.io/a/w:1");
    host.push(&agent, vec![old.clone()]).await;
    let live = |apps: &[DeploymentSnapshot]| {
        apps.len() == 1
            && apps[0].status.phase == Phase::Live
            && apps[0].containers.len() == 2
            && apps[0].doing.is_empty()
    };
    agent.until("live", live).await;
    host.machine.table_broken.store(true, Ordering::SeqCst);
    let gone = ImageReference::parse("ghcr.io/a/w:2").unwrap();
    *host.machine.missing.lock().unwrap() = Some(gone);
    let services =
        old.services.iter().cloned().map(|s| ServiceSpec { digest: Some(digest()), ..s });
    old.services = services.collect::<Vec<_>>().try_into().unwrap();
    let fallback = Fallback { revision: old.revision, services: old.services };
    let new = DeploymentSpec {
        auto_rollback: Some(Box::new(AutoRollback { seconds: 300, fallback })),
        // Its table has another name in it, so that none is in force.
        domains: vec![HostName::parse("www.example.org").unwrap()],
        ..with_worker(&host, 2, "ghcr.io/a/b:2", "ghcr.io/a/w:2")
    };
    host.push(&agent, vec![new]).await;
    let back = |apps: &[DeploymentSnapshot]| {
        apps[0].status.phase == Phase::Failed
            && apps[0].status.serving == Some(Revision::new(1))
            && apps[0].containers.len() == 2
            && apps[0].doing.is_empty()
            && apps[0].planned.is_empty()
    };
    agent.until("back", back).await;
    assert_eq!(host.machine.made_from.lock().unwrap().len(), 2, "nothing of revision 2");
}

/// Withdraws an operation as soon as its first step is done.
struct Withdraws {
    permit: CancellationToken,
    begun: Mutex<Vec<Step>>,
}

impl ExecutorObserver for Withdraws {
    fn begins(&self, _: &Operation, step: &Step) {
        self.begun.lock().unwrap().push(step.clone());
    }

    fn ended(&self, _: &Operation, _: &Step, _: StepOutcome) {
        self.permit.cancel();
    }

    fn progress(&self, _: &Operation, _: &Step, _: u8) {}

    fn watch(&self, _: &Operation, _: &str, _: SocketAddrV4, _: &Probe) {}
}

/// A document that comes between two steps ends what was begun for the previous one.
#[tokio::test]
async fn a_withdrawn_operation_starts_no_further_step() {
    let host = Host::new();
    let life = Arc::new(Life {
        machine: Arc::clone(&host.machine),
        calls_left: AtomicI64::new(FOREVER),
        last_has_effect: true,
        killed: Notify::new(),
        lines: watch::Sender::new(0),
    });
    let desired = edited(host.desired(1, 1, RunState::Running), |service| service.env = None);
    let desired = WorkloadSpec::of(&Arc::new(desired)).next().unwrap();
    let (workload, revision) = (desired.id(), desired.revision());
    let identity = Identity { workload, revision, slot: Slot::A };
    let address = |octet| SocketAddrV4::new(Ipv4Addr::new(127, octet, 0, 1), 8000);
    let permit = CancellationToken::new();
    let observer = Withdraws { permit: permit.clone(), begun: Mutex::default() };
    let operation = Operation {
        workload,
        revision,
        lane: Lane::Roll,
        steps: vec![Step::Create(Slot::A), Step::Start(container_name(&identity))],
        desired: Some(desired),
        digest: Some(digest()),
        addresses: Some([address(64), address(96)]),
        limited: true,
        stop_grace: Duration::from_secs(1),
        permit,
    };
    Executor::new(life, None, ImageLeases::default()).run(&operation, &observer).await;
    assert_eq!(*observer.begun.lock().unwrap(), [Step::Create(Slot::A)]);
    assert_eq!(host.machine.starts.load(Ordering::SeqCst), 0);
}
