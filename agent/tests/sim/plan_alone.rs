//! The plan alone, on what simulated agents saw: each list of containers with the document in
//! force, in the order of a run, and each of them carried on to its end in a model without faults.
//!
//! ```text
//! a seed's run ── documents, lists, who answers ──► views ──► plan ──► its rules
//!                                                    │
//!                                                    └── some ──► model: steps are carried out,
//!                                                                 until nothing is left to do
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use buddo_agent::config::Drain;
use buddo_agent::model::address::Index;
use buddo_agent::model::cgroup::LimitCheck;
use buddo_agent::model::container::{Container, ContainerState, ExitInfo, Identity, Slot};
use buddo_agent::model::health::{Level, ProbeOutcome, Tracker, Trackers};
use buddo_agent::model::host_facts::LimitRule;
use buddo_agent::model::live_table::Target;
use buddo_agent::model::persisted::Persisted;
use buddo_agent::model::spec::WorkloadSpec;
use buddo_agent::model::step::{Lane, Step};
use buddo_agent::model::workload::{WorkloadId, container_name, container_owner};
use buddo_agent::plan::replicas::Replicas;
use buddo_agent::plan::rollback_watch::failed_requests::Failed;
use buddo_agent::plan::state::{StepOutcome, WorkloadState};
use buddo_agent::plan::{Busy, Permit, Plan, PlannedOperation, Rules, Seen, View, plan};
use buddo_shared::host_wire::manifest::{DeploymentSpec, RunState, ServiceSpec, Strategy};
use buddo_shared::host_wire::report::Phase;
use buddo_shared::model::id::{DeploymentId, Revision};
use buddo_shared::model::probe::Probe;
use buddo_shared::model::workload::ServiceName;
use jiff::Timestamp;
use tokio::time::Instant;

use crate::agent::network;
use crate::coordinator::Keys;
use crate::podman::digest_of_tag;
use crate::story::app::{App, Registry};
use crate::story::rng::Rng;
use crate::world::{DRAIN, GRACE};

/// Runs that are recorded.
const SEEDS: u64 = 300;
/// Every n-th view is carried on to its end.
const CARRIED_ON: usize = 9;
/// More turns than any deployment needs.
const TURNS: usize = 600;

/// What a simulated agent saw.
#[derive(Debug, Clone)]
pub(crate) struct Record {
    /// When.
    pub(crate) at: Instant,
    /// By the wall clock.
    pub(crate) wall: Timestamp,
    /// What the document in force wants.
    pub(crate) wanted: Arc<[DeploymentSpec]>,
    /// Podman's list.
    pub(crate) containers: Vec<Container>,
    /// Which of them answer.
    pub(crate) answering: BTreeSet<String>,
}

/// What every app does.
pub(crate) type Apps = BTreeMap<(DeploymentId, Revision), (App, Registry)>;

/// One workload, as its plan sees it.
#[derive(Clone)]
struct Alone {
    id: WorkloadId,
    desired: Option<WorkloadSpec>,
    containers: BTreeMap<String, Container>,
    health: Trackers,
    state: WorkloadState,
    now: Instant,
    wall: Timestamp,
    /// Where visitors were last sent to → until when.
    left: BTreeMap<String, Instant>,
}

fn rules() -> Rules {
    Rules {
        limits: LimitRule::Enforced,
        drain: Drain { before_stop: DRAIN, stop_grace: GRACE },
        network: network(),
        troubled_until: None,
        many_sick: false,
        secrets_known: true,
    }
}

impl Alone {
    fn new(id: WorkloadId, first: &Record) -> Self {
        let durable = Persisted { index: Index::new(0), ..Persisted::default() };
        Self {
            id,
            desired: None,
            containers: BTreeMap::new(),
            health: Trackers::new(),
            state: WorkloadState::restore(durable),
            now: first.at,
            wall: first.wall,
            left: BTreeMap::new(),
        }
    }

    fn see(&mut self, record: &Record) {
        let deployment = record.wanted.iter().find(|desired| desired.id == self.id.deployment);
        let deployment = deployment.map(|desired| Arc::new(desired.clone()));
        let mut workloads = deployment.iter().flat_map(WorkloadSpec::of);
        self.desired = workloads.find(|spec| spec.id() == self.id);
        let ours = record.containers.iter().filter(|c| self.owns(c));
        self.containers = ours.map(|c| (c.name.clone(), c.clone())).collect();
        (self.now, self.wall) = (record.at, record.wall);
        let answering = record.answering.clone();
        self.probe(|container| answering.contains(&container.name));
    }

    fn owns(&self, container: &Container) -> bool {
        container.identity.is_some_and(|identity| identity.workload == self.id)
    }

    fn probe(&mut self, answers: impl Fn(&Container) -> bool) {
        let probe = Probe { unhealthy_after: 2, ..Probe::default() };
        for (name, tracker) in &mut self.health {
            let Some(container) = self.containers.get(name) else { continue };
            let outcome = if answers(container) {
                ProbeOutcome::Healthy
            } else {
                ProbeOutcome::Unhealthy("no answer".to_owned())
            };
            tracker.record(&probe, outcome, self.wall);
        }
    }

    fn planned(&self, state: &mut WorkloadState) -> Plan {
        let seen = |container| Seen {
            container,
            tracker: self.health.get(&container.name),
            limits: LimitCheck::Held,
        };
        let containers: Vec<Seen<'_>> = self.containers.values().map(seen).collect();
        let view = View {
            id: self.id,
            desired: self.desired.as_ref(),
            stands_in: false,
            containers: &containers,
            busy: &Busy::default(),
            rules: &rules(),
            failed: Failed::default(),
            kills: None,
            replicas: &Replicas::default(),
            permit: Permit::Granted,
            now: self.now,
            wall: self.wall,
            jitter: 0.5,
        };
        plan(state, &view)
    }

    /// One plan, with all that must be true of it.
    fn turn(&mut self) -> Result<Plan, String> {
        let before = self.state.target.clone();
        let mut state = std::mem::take(&mut self.state);
        let rounds = |state: &WorkloadState| state.attempt.as_ref().map_or(0, |a| a.rounds);
        let (durable, round) = (state.persisted.clone(), rounds(&state));
        let first = self.planned(&mut state);
        // A decision of this plan shows in the next one; without one there is none.
        let decided = state.persisted != durable || rounds(&state) != round;
        let second = self.planned(&mut state.clone());
        if !decided && said(&second) != said(&first) {
            return Err(format!("planned twice it differs: {first:#?}\n{second:#?}"));
        }
        self.state = state;
        self.check_steps(&first)?;
        self.check_visitors(&first, before.as_ref())?;
        self.state.published(self.now, self.now);
        self.watch(&first);
        Ok(first)
    }

    /// Steps concern containers of this deployment that exist when their turn comes.
    fn check_steps(&self, plan: &Plan) -> Result<(), String> {
        let mut there: BTreeMap<String, bool> = self
            .containers
            .values()
            .map(|c| {
                (
                    c.name.clone(),
                    !matches!(c.state, ContainerState::Created | ContainerState::Exited(_)),
                )
            })
            .collect();
        let steps = plan.operations.iter().flat_map(|o| o.steps.iter().map(|s| (o.revision, s)));
        for (revision, step) in steps {
            let wrong = |what: &str| Err(format!("{step}: {what} in {plan:#?}"));
            match step {
                Step::Create(slot) => {
                    let identity = Identity { workload: self.id, revision, slot: *slot };
                    if there.insert(container_name(&identity), false).is_some() {
                        return wrong("it is there");
                    }
                }
                Step::Start(name) => {
                    let rival = |(other, holds): (&String, &bool)| {
                        *holds && other != name && slot_of(other) == slot_of(name)
                    };
                    // Podman refuses one that was found in that state, and what serves is given up
                    // for the other then: the simulation shows that. The plan must not cause any.
                    let found = |name: &String| self.containers.contains_key(name);
                    if there.iter().any(|(other, holds)| rival((other, holds)) && !found(other)) {
                        return wrong("another one holds its address");
                    }
                    match there.get_mut(name) {
                        Some(runs) => *runs = true,
                        None => return wrong("there is no such container"),
                    }
                }
                Step::Stop(name) | Step::InspectExit(name) | Step::Watch(name) => {
                    if !there.contains_key(name) {
                        return wrong("there is no such container");
                    }
                }
                Step::Remove(name) => {
                    if there.remove(name).is_none() {
                        return wrong("there is no such container");
                    }
                }
                Step::FreeAddress(slot) => {
                    let holds = |(name, runs): (&String, &bool)| {
                        *runs && container_owner(name).is_some_and(|i| i.slot == *slot)
                    };
                    if there.iter().any(holds) {
                        return wrong("Podman knows what is there");
                    }
                }
                Step::PutSecrets | Step::Image | Step::EndOrphans(_) | Step::RemoveSecrets(_) => {}
            }
        }
        Ok(())
    }

    /// Visitors are sent to running containers; what they are sent to, or were until just now,
    /// stays.
    fn check_visitors(&mut self, plan: &Plan, before: Option<&Target>) -> Result<(), String> {
        let at = |target: Option<&Target>| -> Option<String> {
            let Some(Target::Live { addresses }) = target else { return None };
            let there = self.containers.values().find(|c| {
                let here = c.address.is_some_and(|a| addresses.contains(a.ip()));
                here && c.state == ContainerState::Running
            });
            there.map(|c| c.name.clone())
        };
        let (was, is) = (at(before), at(plan.target.as_ref()));
        if matches!(plan.target, Some(Target::Live { .. })) && is.is_none() {
            return Err(format!("visitors are sent where nothing runs: {plan:#?}"));
        }
        let kept = self.desired.as_ref().is_some_and(|d| d.run() == RunState::Running);
        let steps_aside =
            self.desired.as_ref().is_some_and(|d| d.service().strategy == Strategy::Recreate)
                && self.state.attempt.as_ref().is_some_and(|attempt| attempt.image_ready);
        if let Some(was) = was {
            if kept && is.is_none() && !steps_aside && self.answers(&was) {
                return Err(format!("{was} answers and loses its visitors: {plan:#?}"));
            }
            if is.as_ref() != Some(&was) {
                self.left.insert(was, self.now);
            }
        }
        for step in plan.steps(Lane::Roll) {
            let (Step::Stop(name) | Step::Remove(name)) = step else { continue };
            if is.as_ref() == Some(name) {
                return Err(format!("{name} serves and is taken away: {plan:#?}"));
            }
            let runs =
                self.containers.get(name).is_some_and(|c| c.state == ContainerState::Running);
            let left = self.left.get(name).map(|left| self.now.duration_since(*left));
            if let Some(left) = left.filter(|left| runs && *left < DRAIN) {
                return Err(format!("{name} is taken away {left:?} after its visitors: {plan:#?}"));
            }
        }
        Ok(())
    }

    fn answers(&self, name: &str) -> bool {
        self.health.get(name).is_some_and(|tracker| tracker.level().may_serve())
    }

    fn watch(&mut self, plan: &Plan) {
        self.health.retain(|name, _| plan.probes.iter().any(|probed| probed.name == *name));
        for probed in &plan.probes {
            let level = if probed.assumed { Level::Assumed } else { Level::Starting };
            self.health.entry(probed.name.clone()).or_insert_with(|| Tracker::new(level));
        }
    }

    /// Carries out all steps, without faults, until nothing is left to do. Returns how it ends.
    fn carry_on(mut self, apps: &Apps) -> Result<Plan, String> {
        let mut quiet = 0;
        let mut done = Vec::new();
        let mut excused = false;
        for turn in 0..TURNS {
            let plan = self.turn()?;
            // Given up for what was seen before.
            excused |= turn == 0 && self.is_given_up();
            for PlannedOperation { lane, revision, steps } in &plan.operations {
                for step in steps {
                    done.push(step.clone());
                    self.carry_out(*lane, step, *revision, apps);
                }
            }
            self.end_stops();
            self.probe(|c| c.state == ContainerState::Running && app_of(apps, c).starts());
            let soon = self.now + Duration::from_millis(500);
            let next = plan.wake.map_or(soon, |wake| wake.max(soon));
            self.wall += next - self.now;
            self.now = next;
            let idle = plan.operations.is_empty() && plan.wake.is_none();
            quiet = if idle { quiet + 1 } else { 0 };
            if quiet >= 3 {
                self.check_end(&plan, apps, excused)?;
                return Ok(plan);
            }
        }
        let last = &done[done.len().saturating_sub(12)..];
        Err(format!("it never ends; the last steps: {last:?}\n{:#?}", self.state))
    }

    fn is_given_up(&self) -> bool {
        let desired = self.desired.as_ref().map(WorkloadSpec::revision);
        desired.is_some_and(|revision| self.state.persisted.failures.contains_key(&revision))
    }

    /// What somebody else began to stop ends.
    fn end_stops(&mut self) {
        for container in self.containers.values_mut() {
            if container.state == ContainerState::Stopping {
                container.state = ContainerState::Exited(143);
            }
        }
    }

    fn carry_out(&mut self, lane: Lane, step: &Step, revision: Revision, apps: &Apps) {
        let mut outcome = StepOutcome::Done;
        match step {
            Step::Image => outcome = StepOutcome::Image(digest_of_tag("any")),
            Step::Create(slot) => {
                let identity = Identity { workload: self.id, revision, slot: *slot };
                let name = container_name(&identity);
                let index = Index::new(0).expect("an index");
                let container = Container {
                    name: name.clone(),
                    identity: Some(identity),
                    state: ContainerState::Created,
                    address: Some(network().address(index, *slot)),
                    process: None,
                };
                self.containers.insert(name, container);
            }
            Step::Start(name) => {
                let container = self.containers.get_mut(name).expect("it is there");
                let exits = matches!(app_of(apps, container), App::Exits(_));
                container.state =
                    if exits { ContainerState::Exited(1) } else { ContainerState::Running };
                self.left.remove(name);
            }
            Step::Watch(name) => {
                self.health.insert(name.clone(), Tracker::new(Level::Starting));
            }
            Step::InspectExit(_) => {
                let log_tail = String::new();
                outcome =
                    StepOutcome::Ended(ExitInfo { exit_code: 1, oom_killed: false, log_tail });
            }
            Step::Stop(name) => {
                let container = self.containers.get_mut(name).expect("it is there");
                container.state = ContainerState::Exited(143);
            }
            Step::Remove(name) => {
                self.containers.remove(name);
                self.health.remove(name);
            }
            Step::PutSecrets
            | Step::RemoveSecrets(_)
            | Step::EndOrphans(_)
            | Step::FreeAddress(_) => {}
        }
        self.state.record(lane, step, revision, outcome, self.now, 0.5);
    }

    /// Where nothing is left to do, everything is as desired.
    fn check_end(&self, plan: &Plan, apps: &Apps, excused: bool) -> Result<(), String> {
        let wrong = |what: &str| Err(format!("{what}: {plan:#?}\n{:#?}", self.containers));
        let Some(desired) = &self.desired else {
            return if plan.gone { Ok(()) } else { wrong("something is left") };
        };
        let containers: Vec<_> = self.containers.values().collect();
        match (desired.run(), plan.phase, containers.as_slice()) {
            (RunState::Running, Phase::Live, [one]) => {
                let right = one.identity.is_some_and(|i| i.revision == desired.revision());
                if right { Ok(()) } else { wrong("another revision serves") }
            }
            (RunState::Running, Phase::Failed, [] | [_]) => {
                let app = app_at(apps, self.id, desired.revision());
                let right = excused || (!app.starts() && self.is_given_up());
                if right { Ok(()) } else { wrong("a good revision was given up") }
            }
            (RunState::Stopped | RunState::Suspended, Phase::Stopped, []) => Ok(()),
            _ => wrong("it ends otherwise"),
        }
    }
}

/// What a plan says; deadlines and words may differ.
fn said(plan: &Plan) -> (&[PlannedOperation], &Option<Target>, Phase) {
    (&plan.operations, &plan.target, plan.phase)
}

fn slot_of(name: &str) -> Slot {
    if name.ends_with("-a") { Slot::A } else { Slot::B }
}

/// An unknown one is good, and so is each that visitors do not reach.
fn app_of(apps: &Apps, container: &Container) -> App {
    let identity = container.identity;
    identity.map_or(App::Good(Duration::ZERO), |i| app_at(apps, i.workload, i.revision))
}

fn app_at(apps: &Apps, workload: WorkloadId, revision: Revision) -> App {
    let known = apps.get(&(workload.deployment, revision));
    let known = known.filter(|_| workload.service == ServiceName::APP);
    known.map_or(App::Good(Duration::ZERO), |(app, _)| *app)
}

fn replay(records: &[Record], apps: &Apps, rng: &mut Rng) -> Result<usize, String> {
    let Some(first) = records.first() else { return Ok(0) };
    let deployments = records.iter().flat_map(|record| record.wanted.iter());
    let shown = deployments.flat_map(|desired| {
        let replicas =
            |s: &ServiceSpec| s.replica_indexes().map(|r| (s.name, r)).collect::<Vec<_>>();
        let all = desired.services.iter().flat_map(replicas);
        all.map(|(service, replica)| WorkloadId { deployment: desired.id, service, replica })
    });
    let ids: BTreeSet<WorkloadId> = shown.collect();
    let mut plans = 0;
    for id in ids {
        let mut alone = Alone::new(id, first);
        for record in records {
            alone.see(record);
            if rng.below(CARRIED_ON as u64) == 0 {
                alone.clone().carry_on(apps)?;
            }
            alone.turn()?;
            plans += 1;
        }
    }
    Ok(plans)
}

#[test]
fn the_plan_upholds_its_rules_on_recorded_simulations() {
    let keys = Arc::new(Keys::generate());
    let mut plans = 0;
    for seed in 0..SEEDS {
        let (records, apps) = crate::run::record(seed, &keys);
        match replay(&records, &apps, &mut Rng::new(seed)) {
            Ok(more) => plans += more,
            Err(words) => panic!("seed {seed}: {words}"),
        }
    }
    assert!(plans > 10_000, "only {plans} plans");
}
