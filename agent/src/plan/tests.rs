//! Plans against a model: steps are applied to a small Podman in memory, and whatever mixture
//! of containers and memories it begins with, it must end as the document wants it, and never
//! pass through a state that hurts visitors.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::time::Duration;

use buddo_shared::image::{Digest, ImageReference};
use buddo_shared::limits::Limits;
use buddo_shared::manifest::Strategy as Replacing;
use buddo_shared::name::Subdomain;
use buddo_shared::port::Port;
use buddo_shared::probe::Probe;
use jiff::Timestamp;
use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::address::Index;
use crate::health::{Level, Trackers};
use crate::memory::{Durable, Happened};
use crate::ports::{ContainersError, Ending, ProbeOutcome};

const OLD: Revision = Revision::new(1);
const NEW: Revision = Revision::new(2);

/// What the new revision's app does. The old one's always answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum App {
    Answers,
    Silent,
    Exits,
}

/// Why an environment is not stored.
#[derive(Debug, Clone, Copy)]
enum Refusal {
    Podman,
    Unreadable,
}

struct Model {
    id: DeploymentId,
    desired: Option<Desired>,
    containers: BTreeMap<String, Container>,
    health: Trackers,
    memory: Memory,
    rules: Rules,
    app: App,
    now: Instant,
    begun: Instant,
    /// The longest that one turn sleeps.
    stride: Duration,
    /// When requests to it began that failed.
    failed: Vec<Timestamp>,
    /// What the kernel counts.
    kills: Option<Kills>,
    image: Result<(), &'static str>,
    /// Podman does neither stop nor remove.
    stubborn: bool,
    /// The container that Podman does not start, until it is made anew.
    unstartable: Option<String>,
    /// Starts in which Podman goes away: what runs then has no port.
    torn_starts: u32,
    /// What runs without a port.
    deaf: BTreeSet<String>,
    /// Slots whose address is held by what Podman has lost.
    squatted: BTreeSet<Slot>,
    /// Why no secret can be put.
    refuses_secrets: Option<Refusal>,
    /// What is under way while it is planned.
    busy: Busy,
    /// Every step that was carried out.
    done: Vec<Step>,
}

fn digest() -> Digest {
    Digest::parse(&format!("sha256:{}", "a".repeat(64))).unwrap()
}

fn network() -> Network {
    Network {
        slot_a: Ipv4Addr::new(127, 64, 0, 0),
        slot_b: Ipv4Addr::new(127, 96, 0, 0),
        special: Ipv4Addr::new(127, 63, 0, 1),
        app_port: 8000,
    }
}

fn desired(id: DeploymentId, revision: Revision, run: RunState) -> Desired {
    Desired {
        id,
        revision,
        subdomain: Subdomain::parse("blog").unwrap(),
        run,
        image: ImageReference::parse("ghcr.io/a/b:1").unwrap(),
        digest: None,
        port: Port::DEFAULT,
        limits: Limits { memory_mb: 256, cpu_millicores: 250, pids: 100 },
        domains: Vec::new(),
        probe: Probe { unhealthy_after: 1, ..Probe::default() },
        strategy: Replacing::Rolling,
        env: None,
        registry_credentials: None,
        guard: None,
        kept_images: Vec::new(),
    }
}

fn hangs() -> Happened {
    let source = Box::from("it hangs");
    Happened::Failed(ContainersError::Unavailable { operation: "a test", source })
}

impl Model {
    fn new(run: Option<RunState>, app: App) -> Self {
        let id = DeploymentId::new(Uuid::from_u128(7));
        let durable = Durable { index: Index::new(0), ..Durable::default() };
        Self {
            id,
            desired: run.map(|run| desired(id, NEW, run)),
            containers: BTreeMap::new(),
            health: Trackers::new(),
            memory: Memory::restore(durable),
            rules: Rules {
                limits: LimitRule::Enforced,
                drain: Drain {
                    before_stop: Duration::from_secs(10),
                    stop_grace: Duration::from_secs(10),
                },
                network: network(),
                troubled_until: None,
                many_sick: false,
                secrets_known: true,
            },
            app,
            now: Instant::now(),
            begun: Instant::now(),
            stride: Duration::from_hours(1),
            failed: Vec::new(),
            kills: None,
            image: Ok(()),
            stubborn: false,
            unstartable: None,
            torn_starts: 0,
            deaf: BTreeSet::new(),
            squatted: BTreeSet::new(),
            refuses_secrets: None,
            busy: Busy::default(),
            done: Vec::new(),
        }
    }

    fn put(&mut self, revision: Revision, slot: Slot, state: ContainerState) {
        let identity = Identity { deployment: self.id, revision, slot };
        let name = container_name(&identity);
        let address = network().address(Index::new(0).unwrap(), slot);
        let container = Container {
            name: name.clone(),
            identity: Some(identity),
            state,
            address: Some(address),
            process: None,
        };
        self.containers.insert(name, container);
    }

    fn serves(&mut self, revision: Revision, slot: Slot) {
        self.memory.durable.live = Some(Serving { revision, slot });
        self.memory.durable.proven.insert(revision);
    }

    fn wall(&self) -> Timestamp {
        Timestamp::from_second(1_800_000_000).unwrap() + self.now.duration_since(self.begun)
    }

    fn name(&self, revision: Revision, slot: Slot) -> String {
        container_name(&Identity { deployment: self.id, revision, slot })
    }

    fn plan(&mut self) -> Plan {
        let seen = |container| Seen { container, tracker: self.health.get(&container.name) };
        let containers: Vec<Seen<'_>> = self.containers.values().map(seen).collect();
        let view = View {
            id: self.id,
            desired: self.desired.as_ref(),
            containers: &containers,
            busy: &self.busy,
            rules: &self.rules,
            failed: Failed { began: &self.failed, known_since: Some(Timestamp::UNIX_EPOCH) },
            kills: self.kills.as_ref(),
            now: self.now,
            wall: self.wall(),
            jitter: 0.5,
        };
        plan(&mut self.memory, &view)
    }

    /// Plans, checks the plan, carries it out, probes, and lets time pass.
    fn turn(&mut self) -> Plan {
        let mut plan = self.plan();
        self.check(&plan);
        let result = plan.clone();
        self.watch(&plan);
        let live = self.memory.durable.live.map(|live| live.revision);
        for lane in [Lane::Serve, Lane::Roll] {
            let revision = if lane == Lane::Serve { live } else { plan.revision };
            for step in plan.steps(lane) {
                if !self.carry_out(lane, &step, revision.unwrap_or(OLD)) {
                    break;
                }
            }
        }
        self.probe();
        self.memory.published(self.now, self.now);
        let soon = self.now + Duration::from_millis(500);
        self.now = result.wake.map_or(soon, |wake| wake.max(soon).min(self.now + self.stride));
        result
    }

    /// What holds in every plan.
    fn check(&self, plan: &Plan) {
        let Some(Target::Live { addresses }) = &plan.target else { return };
        let [address] = addresses[..] else { panic!("one address serves: {addresses:?}") };
        let target = self.containers.values().find(|container| {
            container.address.is_some_and(|a| *a.ip() == address) && is_running(container)
        });
        let target = target.expect("visitors are sent to a container that runs");
        for step in &plan.roll {
            let (Step::Stop(name) | Step::Remove(name)) = step else { continue };
            assert_ne!(*name, target.name, "what serves is taken away");
        }
    }

    fn watch(&mut self, plan: &Plan) {
        self.health.retain(|name, _| plan.watch.iter().any(|watched| watched.name == *name));
        for watched in &plan.watch {
            let level = if watched.assumed { Level::Assumed } else { Level::Starting };
            self.health.entry(watched.name.clone()).or_insert_with(|| Tracker::new(level));
        }
    }

    fn carry_out(&mut self, lane: Lane, step: &Step, revision: Revision) -> bool {
        self.done.push(step.clone());
        let mut happened = Happened::Done;
        match step {
            Step::Image => match self.image {
                Ok(()) => happened = Happened::Image(digest()),
                Err(code) => {
                    let failure = Failure {
                        code: code.to_owned(),
                        cause: code.to_owned(),
                        fix: String::new(),
                    };
                    happened = Happened::Failed(match code {
                        "image_not_found" => ContainersError::Image(failure),
                        _ => ContainersError::Registry(failure),
                    });
                }
            },
            Step::Create(slot) => {
                let name = self.name(revision, *slot);
                assert!(!self.containers.contains_key(&name), "created twice: {name}");
                self.put(revision, *slot, ContainerState::Created);
            }
            Step::Stop(_) | Step::Remove(_) if self.stubborn => happened = hangs(),
            Step::Start(name) if self.unstartable.as_ref() == Some(name) => happened = hangs(),
            Step::Start(name)
                if self.squatted.contains(&self.containers[name].identity.unwrap().slot) =>
            {
                let message = "listen tcp: bind: address already in use".to_owned();
                let (operation, status) = ("start", 500);
                happened =
                    Happened::Failed(ContainersError::Refused { operation, status, message });
            }
            Step::EndLost(slot) => {
                self.squatted.remove(slot);
            }
            Step::Start(name) => {
                let identity = self.containers[name].identity.unwrap();
                let rival = self.containers.values().any(|c| {
                    let gone =
                        matches!(c.state, ContainerState::Created | ContainerState::Exited(_));
                    c.name != *name && !gone && c.identity.unwrap().slot == identity.slot
                });
                assert!(!rival, "two containers on one address");
                let exits = identity.revision == NEW && self.app == App::Exits;
                let state = if exits { ContainerState::Exited(1) } else { ContainerState::Running };
                self.containers.get_mut(name).unwrap().state = state;
                self.deaf.remove(name);
                if self.torn_starts > 0 {
                    self.torn_starts -= 1;
                    self.deaf.insert(name.clone());
                    happened = hangs();
                }
            }
            Step::Watch(name) => {
                self.health.insert(name.clone(), Tracker::new(Level::Starting));
            }
            Step::Autopsy(_) => {
                let log_tail = "boom".to_owned();
                happened = Happened::Ending(Ending { exit_code: 1, oom_killed: false, log_tail });
            }
            Step::Stop(name) => {
                self.containers.get_mut(name).unwrap().state = ContainerState::Exited(143);
            }
            Step::Remove(name) => {
                self.containers.remove(name).expect("removed once");
                self.deaf.remove(name);
                self.unstartable.take_if(|unstartable| unstartable == name);
                self.health.remove(name);
            }
            Step::PutSecrets => match self.refuses_secrets {
                None => {}
                Some(Refusal::Podman) => {
                    let (operation, message) = ("store a secret", "no space left".to_owned());
                    let refused = ContainersError::Refused { operation, status: 500, message };
                    happened = Happened::Failed(refused);
                }
                Some(Refusal::Unreadable) => {
                    happened = Happened::Unreadable(words::unreadable("environment"));
                }
            },
            Step::RemoveSecrets(_) => {}
        }
        let goes_on = !matches!(happened, Happened::Failed(_) | Happened::Unreadable(_));
        self.memory.record(lane, step, revision, happened, self.now, 0.5);
        goes_on
    }

    fn probe(&mut self) {
        let probe = Probe { unhealthy_after: 1, ..Probe::default() };
        for (name, tracker) in &mut self.health {
            let Some(container) = self.containers.get(name).filter(|c| is_running(c)) else {
                continue;
            };
            let new = container.identity.unwrap().revision == NEW;
            let silent = new && self.app != App::Answers || self.deaf.contains(name);
            let outcome = if silent {
                ProbeOutcome::Unhealthy("connection closed".to_owned())
            } else {
                ProbeOutcome::Healthy
            };
            tracker.record(&probe, outcome, Timestamp::UNIX_EPOCH);
        }
    }

    /// Turns until nothing is planned for some turns.
    fn settle(&mut self) -> Plan {
        let mut quiet = 0;
        for _ in 0..400 {
            let plan = self.turn();
            let idle = plan.serve.is_empty() && plan.roll.is_empty() && plan.wake.is_none();
            quiet = if idle { quiet + 1 } else { 0 };
            if quiet >= 3 {
                return plan;
            }
        }
        panic!("never settles; last steps: {:?}", &self.done[self.done.len().saturating_sub(12)..]);
    }

    fn running(&self) -> Vec<Revision> {
        let running = self.containers.values().filter(|c| is_running(c));
        running.filter_map(|c| Some(c.identity?.revision)).collect()
    }
}

#[test]
fn a_first_deploy_goes_the_whole_way_in_one_order() {
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
fn what_is_just_being_stopped_is_not_believed_to_serve() {
    let mut model = Model::new(Some(RunState::Running), App::Answers);
    model.put(NEW, Slot::A, ContainerState::Running);
    let name = model.name(NEW, Slot::A);
    model.health.insert(name.clone(), Tracker::new(Level::Starting));
    model.probe();
    model.busy.roll = Some(Step::Stop(name));
    assert_eq!(model.plan().target, Some(Target::Hold));
    model.busy.roll = None;
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
    assert_eq!(switch.target, Some(Target::Live { addresses: vec![*new.ip()] }));
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

#[test]
fn an_app_that_exits_is_given_up_after_three_times_with_its_last_words() {
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
    model.desired = model.desired.map(|desired| Desired { run: RunState::Stopped, ..desired });
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
fn an_image_that_is_not_there_fails_at_once_and_the_old_version_serves() {
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
fn fm_32_a_busy_registry_is_asked_again_for_minutes_and_then_given_up() {
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
fn fm_05_what_serves_and_crashes_is_started_at_once_and_then_ever_slower() {
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

#[test]
fn fm_26_a_sick_container_is_replaced_and_keeps_its_visitors_meanwhile() {
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
    assert_eq!(plan.target, Some(Target::Live { addresses: vec![address(Slot::A)] }));
    assert!(model.done.contains(&Step::Create(Slot::B)));
    model.health.get_mut(&sick).unwrap().record(
        &probe,
        ProbeOutcome::Unhealthy("status 500".to_owned()),
        Timestamp::UNIX_EPOCH,
    );
    let plan = model.turn();
    assert_eq!(plan.target, Some(Target::Live { addresses: vec![address(Slot::B)] }));
    model.settle();
    assert_eq!(model.containers.len(), 1);
}

#[test]
fn what_was_restarted_and_never_answers_again_is_replaced() {
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
fn fm_24_what_cannot_be_removed_is_tried_ever_slower() {
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
fn fm_24_what_cannot_be_stopped_is_removed_by_force() {
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
fn a_recreate_that_cannot_stop_the_old_container_tries_ever_slower() {
    let mut model = Model::new(Some(RunState::Running), App::Answers);
    model.desired.as_mut().unwrap().strategy = Replacing::Recreate;
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
fn secrets_that_were_stored_in_part_are_removed_too() {
    let mut memory = Memory::default();
    memory.record(Lane::Roll, &Step::PutSecrets, NEW, hangs(), Instant::now(), 0.5);
    assert!(memory.secrets.contains_key(&NEW));
}

#[test]
fn without_enforced_limits_nothing_new_is_started() {
    let mut model = Model::new(Some(RunState::Running), App::Answers);
    model.rules.limits = LimitRule::Missing;
    assert_eq!(model.settle().failure.unwrap().code, "limits_not_enforced");
    assert!(model.done.is_empty());
    let mut model = Model::new(Some(RunState::Running), App::Answers);
    model.rules.limits = LimitRule::Unknown;
    model.settle();
    assert!(model.done.is_empty(), "it is not known yet, so it waits");
    model.rules.limits = LimitRule::Waived;
    assert_eq!(model.settle().phase, Phase::Live);
}

/// Visitors are held meanwhile, and the edge holds them for ten seconds only.
#[test]
fn recreate_makes_room_soon_however_long_a_drain_may_take() {
    let mut model = Model::new(Some(RunState::Running), App::Answers);
    model.desired.as_mut().unwrap().strategy = Replacing::Recreate;
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

#[test]
fn recreate_stops_the_old_one_before_the_new_one_runs_and_goes_back_when_that_fails() {
    for (app, survivor) in [(App::Answers, NEW), (App::Exits, OLD)] {
        let mut model = Model::new(Some(RunState::Running), app);
        model.desired.as_mut().unwrap().strategy = Replacing::Recreate;
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
fn fm_03_after_a_reboot_what_served_is_started_and_held_until_it_answers() {
    let mut model = Model::new(Some(RunState::Running), App::Answers);
    model.put(NEW, Slot::B, ContainerState::Created);
    model.serves(NEW, Slot::B);
    model.memory.target = Some(Target::Live { addresses: vec![[127, 96, 0, 1].into()] });
    assert_eq!(model.turn().target, Some(Target::Hold));
    assert_eq!(model.settle().phase, Phase::Live);
    assert!(!model.done.iter().any(|step| matches!(step, Step::Create(_))));
}

mod guarded;
mod secrets;
mod serving;

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

    /// Whatever is there and remembered, it ends as the document wants it; every plan on the way
    /// passes `check`, no container is made twice, and no two share an address.
    #[test]
    fn every_mixture_converges(
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

    /// What answers and is remembered to serve is never interrupted on the way to an update.
    #[test]
    fn an_update_never_leaves_visitors_alone(
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
fn ten_thousand_deployments_are_planned_without_a_step() {
    let mut model = Model::new(Some(RunState::Running), App::Answers);
    model.put(NEW, Slot::A, ContainerState::Running);
    model.serves(NEW, Slot::A);
    model.settle();
    for _ in 0..10_000 {
        let plan = model.plan();
        assert!(plan.serve.is_empty() && plan.roll.is_empty() && plan.wake.is_none());
    }
}
