//! A small Podman in memory that steps are applied to, with an app and a clock.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use buddo_shared::host_wire::manifest::{DeploymentSpec, ServiceSpec};
use buddo_shared::model::id::DeploymentId;
use buddo_shared::model::image::Digest;
use buddo_shared::model::name::Subdomain;
use buddo_shared::model::probe::Probe;
use jiff::Timestamp;
use uuid::Uuid;

use super::super::*;
use crate::model::address::Index;
use crate::model::container::ExitInfo;
use crate::model::health::{Level, ProbeOutcome, Trackers};
use crate::model::persisted::{Persisted, Serving};
use crate::plan::state::StepOutcome;
use crate::ports::ContainersError;

pub(super) const OLD: Revision = Revision::new(1);
pub(super) const NEW: Revision = Revision::new(2);

/// What the new revision's app does. The old one's always answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum App {
    Answers,
    Silent,
    Exits,
}

/// Why an environment is not stored.
#[derive(Debug, Clone, Copy)]
pub(super) enum Refusal {
    Podman,
    Unreadable,
}

pub(super) struct Model {
    pub(super) id: WorkloadId,
    pub(super) desired: Option<DeploymentSpec>,
    pub(super) containers: BTreeMap<String, Container>,
    pub(super) health: Trackers,
    pub(super) state: WorkloadState,
    pub(super) rules: Rules,
    pub(super) app: App,
    pub(super) now: Instant,
    pub(super) begun: Instant,
    /// The longest that one turn sleeps.
    pub(super) stride: Duration,
    /// When requests to it began that failed.
    pub(super) failed: Vec<Timestamp>,
    /// What the kernel counts.
    pub(super) kills: Option<OomKills>,
    /// What all replicas of its service have shown.
    pub(super) replicas: Replicas,
    pub(super) stands_in: bool,
    /// Whether a sick container may be replaced.
    pub(super) permit: Permit,
    pub(super) image: Result<(), &'static str>,
    /// Podman does neither stop nor remove.
    pub(super) stubborn: bool,
    /// The container that Podman cannot start until it is recreated.
    pub(super) unstartable: Option<String>,
    /// Starts in which Podman goes away: what runs then has no port.
    pub(super) torn_starts: u32,
    /// Podman starts containers without a port, and reports no error.
    pub(super) unforwarded: bool,
    /// What runs without a port.
    pub(super) deaf: BTreeSet<String>,
    /// Slots whose address is held by an orphan.
    pub(super) squatted: BTreeSet<Slot>,
    /// What the host lacks for a create or a start.
    pub(super) lacking: BTreeSet<&'static str>,
    /// Why no secret can be put.
    pub(super) refuses_secrets: Option<Refusal>,
    /// What is under way during planning.
    pub(super) busy: Busy,
    /// What is found of containers' limits, where they are not held.
    pub(super) limits: BTreeMap<String, LimitCheck>,
    /// What is found of those that are started from now on.
    pub(super) started_with: LimitCheck,
    /// Every step that was carried out.
    pub(super) done: Vec<Step>,
}

pub(super) fn digest() -> Digest {
    Digest::parse(&format!("sha256:{}", "a".repeat(64))).unwrap()
}

pub(super) fn network() -> Network {
    Network {
        slot_a: Ipv4Addr::new(127, 64, 0, 0),
        slot_b: Ipv4Addr::new(127, 96, 0, 0),
        special: Ipv4Addr::new(127, 63, 0, 1),
        app_port: 8000,
    }
}

pub(super) fn desired(id: DeploymentId, revision: Revision, run: RunState) -> DeploymentSpec {
    DeploymentSpec {
        id,
        revision,
        subdomain: Subdomain::parse("blog").unwrap(),
        run,
        domains: Vec::new(),
        services: vec![service(revision, "ghcr.io/a/b:1", None)].try_into().unwrap(),
        auto_rollback: None,
        kept_images: Vec::new(),
    }
}

pub(super) fn service(revision: Revision, image: &str, digest: Option<Digest>) -> ServiceSpec {
    ServiceSpec {
        revision,
        digest,
        probe: Probe { unhealthy_after: 1, ..Probe::default() },
        ..crate::testing::service("app", image)
    }
}

pub(super) fn hangs() -> StepOutcome {
    let source = Box::from("it hangs");
    StepOutcome::Failed(ContainersError::Unavailable { operation: "a test", source })
}

impl Model {
    pub(super) fn new(run: Option<RunState>, app: App) -> Self {
        let deployment = DeploymentId::new(Uuid::from_u128(7));
        let durable = Persisted { index: Index::new(0), ..Persisted::default() };
        Self {
            id: WorkloadId::app(deployment),
            desired: run.map(|run| desired(deployment, NEW, run)),
            containers: BTreeMap::new(),
            health: Trackers::new(),
            state: WorkloadState::restore(durable),
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
            replicas: Replicas::default(),
            stands_in: false,
            permit: Permit::Granted,
            image: Ok(()),
            stubborn: false,
            unstartable: None,
            torn_starts: 0,
            unforwarded: false,
            deaf: BTreeSet::new(),
            squatted: BTreeSet::new(),
            lacking: BTreeSet::new(),
            refuses_secrets: None,
            busy: Busy::default(),
            limits: BTreeMap::new(),
            started_with: LimitCheck::Held,
            done: Vec::new(),
        }
    }

    pub(super) fn put(&mut self, revision: Revision, slot: Slot, state: ContainerState) {
        let identity = Identity { workload: self.id, revision, slot };
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

    pub(super) fn serves(&mut self, revision: Revision, slot: Slot) {
        self.state.persisted.live = Some(Serving { revision, slot });
        self.state.persisted.proven.insert(revision);
        // As the table in force says.
        let address = network().address(Index::new(0).unwrap(), slot);
        self.state.target = Some(Target::Live { addresses: smallvec::smallvec![*address.ip()] });
    }

    /// Changes what is desired of it.
    pub(super) fn edit(&mut self, edit: impl FnOnce(&mut ServiceSpec)) {
        let desired = self.desired.as_mut().unwrap();
        let mut service = desired.services.public().clone();
        edit(&mut service);
        desired.services = vec![service].try_into().unwrap();
    }

    pub(super) fn wall(&self) -> Timestamp {
        Timestamp::from_second(1_800_000_000).unwrap() + self.now.duration_since(self.begun)
    }

    pub(super) fn name(&self, revision: Revision, slot: Slot) -> String {
        container_name(&Identity { workload: self.id, revision, slot })
    }

    pub(super) fn plan(&mut self) -> Plan {
        let seen = |container| Seen {
            container,
            tracker: self.health.get(&container.name),
            limits: self.limits.get(&container.name).copied().unwrap_or(LimitCheck::Held),
        };
        let containers: Vec<Seen<'_>> = self.containers.values().map(seen).collect();
        let counts = self.failed.iter().copied().collect();
        let desired = self.desired.clone().map(Arc::new);
        let desired = desired.as_ref().and_then(|desired| WorkloadSpec::of(desired).next());
        let view = View {
            id: self.id,
            desired: desired.as_ref(),
            stands_in: self.stands_in,
            containers: &containers,
            busy: &self.busy,
            rules: &self.rules,
            failed: Failed {
                counts: Some(&counts),
                gaps: &[],
                known_since: Some(Timestamp::UNIX_EPOCH),
            },
            kills: self.kills.as_ref(),
            replicas: &self.replicas,
            permit: self.permit,
            now: self.now,
            wall: self.wall(),
            jitter: 0.5,
        };
        plan(&mut self.state, &view)
    }

    /// Plans, checks the plan, carries it out, probes, and lets time pass.
    pub(super) fn turn(&mut self) -> Plan {
        let plan = self.plan();
        self.check(&plan);
        self.watch(&plan);
        for PlannedOperation { lane, revision, steps } in &plan.operations {
            for step in steps {
                if !self.carry_out(*lane, step, *revision) {
                    break;
                }
            }
        }
        self.probe();
        self.state.published(self.now, self.now);
        let soon = self.now + Duration::from_millis(500);
        self.now = plan.wake.map_or(soon, |wake| wake.max(soon).min(self.now + self.stride));
        plan
    }

    /// What holds in every plan.
    pub(super) fn check(&self, plan: &Plan) {
        let Some(Target::Live { addresses }) = &plan.target else { return };
        let [address] = addresses[..] else { panic!("one address serves: {addresses:?}") };
        let target = self.containers.values().find(|container| {
            container.address.is_some_and(|a| *a.ip() == address) && is_running(container)
        });
        let target = target.expect("visitors are sent to a container that runs");
        for step in plan.steps(Lane::Roll) {
            let (Step::Stop(name) | Step::Remove(name)) = step else { continue };
            assert_ne!(*name, target.name, "what serves is taken away");
        }
    }

    pub(super) fn watch(&mut self, plan: &Plan) {
        self.health.retain(|name, _| plan.probes.iter().any(|probed| probed.name == *name));
        for probed in &plan.probes {
            let level = if probed.assumed { Level::Assumed } else { Level::Starting };
            self.health.entry(probed.name.clone()).or_insert_with(|| Tracker::new(level));
        }
    }

    pub(super) fn carry_out(&mut self, lane: Lane, step: &Step, revision: Revision) -> bool {
        self.done.push(step.clone());
        let mut outcome = StepOutcome::Done;
        match step {
            Step::Image => match self.image {
                Ok(()) => outcome = StepOutcome::Image(digest()),
                Err(code) => {
                    let failure = Failure {
                        code: code.to_owned(),
                        cause: code.to_owned(),
                        fix: String::new(),
                    };
                    outcome = StepOutcome::Failed(match code {
                        "image_not_found" => ContainersError::Image(failure),
                        _ => ContainersError::Registry(failure),
                    });
                }
            },
            Step::Create(_) | Step::Start(_) if self.lacking.contains(step.word()) => {
                let [code, cause, fix] =
                    ["host_out_of_keys", "no keys", "add some"].map(str::to_owned);
                let failure = Failure { code, cause, fix };
                outcome = StepOutcome::Failed(ContainersError::Full(failure));
            }
            Step::Create(slot) => {
                let name = self.name(revision, *slot);
                assert!(!self.containers.contains_key(&name), "created twice: {name}");
                self.put(revision, *slot, ContainerState::Created);
            }
            Step::Stop(_) | Step::Remove(_) | Step::EndOrphans(_) if self.stubborn => {
                outcome = hangs();
            }
            Step::Start(name) if self.unstartable.as_ref() == Some(name) => outcome = hangs(),
            Step::Start(name)
                if self.squatted.contains(&self.containers[name].identity.unwrap().slot) =>
            {
                let message = "listen tcp: bind: address already in use".to_owned();
                let (operation, status) = ("start", 500);
                outcome =
                    StepOutcome::Failed(ContainersError::Refused { operation, status, message });
            }
            Step::EndOrphans(slot) | Step::FreeAddress(slot) => {
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
                self.limits.insert(name.clone(), self.started_with);
                self.deaf.remove(name);
                self.deaf.extend(self.unforwarded.then(|| name.clone()));
                if self.torn_starts > 0 {
                    self.torn_starts -= 1;
                    self.deaf.insert(name.clone());
                    outcome = hangs();
                }
            }
            Step::Watch(name) => {
                self.health.insert(name.clone(), Tracker::new(Level::Starting));
            }
            Step::InspectExit(_) => {
                let log_tail = "boom".to_owned();
                outcome =
                    StepOutcome::Ended(ExitInfo { exit_code: 1, oom_killed: false, log_tail });
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
                    outcome = StepOutcome::Failed(refused);
                }
                Some(Refusal::Unreadable) => {
                    outcome = StepOutcome::Unreadable(messages::unreadable("environment"));
                }
            },
            Step::RemoveSecrets(_) => {}
        }
        let goes_on = !matches!(outcome, StepOutcome::Failed(_) | StepOutcome::Unreadable(_));
        self.state.record(lane, step, revision, outcome, self.now, 0.5);
        goes_on
    }

    pub(super) fn probe(&mut self) {
        let probe = Probe { unhealthy_after: 1, ..Probe::default() };
        for (name, tracker) in &mut self.health {
            let Some(container) = self.containers.get(name).filter(|c| is_running(c)) else {
                continue;
            };
            let new = container.identity.unwrap().revision == NEW;
            let outcome = if self.deaf.contains(name) {
                ProbeOutcome::Unreachable
            } else if new && self.app != App::Answers {
                ProbeOutcome::Unhealthy("connection closed".to_owned())
            } else {
                ProbeOutcome::Healthy
            };
            tracker.record(&probe, outcome, Timestamp::UNIX_EPOCH);
        }
    }

    /// Turns until nothing is planned for some turns.
    pub(super) fn settle(&mut self) -> Plan {
        let mut quiet = 0;
        for _ in 0..400 {
            let plan = self.turn();
            let idle = plan.operations.is_empty() && plan.wake.is_none();
            quiet = if idle { quiet + 1 } else { 0 };
            if quiet >= 3 {
                return plan;
            }
        }
        panic!("never settles; last steps: {:?}", &self.done[self.done.len().saturating_sub(12)..]);
    }

    pub(super) fn running(&self) -> Vec<Revision> {
        let running = self.containers.values().filter(|c| is_running(c));
        running.filter_map(|c| Some(c.identity?.revision)).collect()
    }
}
