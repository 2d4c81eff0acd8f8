//! The decisions: pure, for one workload at a time; [`deployment`] has those that concern all
//! workloads of a deployment.
//!
//! ```text
//!                   WorkloadState (what was decided and seen before)
//!                        │ ▲
//!   View (desired,       ▼ │      Plan (steps per lane, where visitors go,
//!   containers, health, plan() ─► what to probe, how to put it into words,
//!   host rules, now)              when to look again)
//! ```
//!
//! Planning changes the workload's state and nothing else; called again with the same view and
//! nothing done meanwhile, it returns the same plan. Rules that hold in every plan:
//!
//! - what answers visitors is never stopped before something else answers, or before its operator
//!   asked for that;
//! - a container is removed only after nothing new was sent to it for the drain time;
//! - a revision that failed is not tried again; one that served once is given up only by
//!   auto rollback;
//! - without a document nothing is touched.

pub mod deployment;
pub mod messages;
pub mod permits;
pub mod phase;
pub mod replicas;
pub mod restarts;
mod rollback;
pub mod rollback_watch;
mod rollout;
mod serving;
pub mod state;
mod supervise;
mod teardown;
#[cfg(test)]
mod tests;

use std::ops::Deref;
use std::time::Duration;

use buddo_shared::host_wire::manifest::RunState;
use buddo_shared::host_wire::report::{Failure, Phase};
use buddo_shared::model::id::Revision;
use buddo_shared::model::probe::Probe;
use jiff::Timestamp;
use tokio::time::Instant;

use crate::config::{Drain, Network};
use crate::model::cgroup::LimitCheck;
use crate::model::container::{Container, ContainerState};
use crate::model::health::{Level, Tracker};
use crate::model::host_facts::LimitRule;
use crate::model::live_table::{EDGE_REFRESH, Target};
use crate::model::oom_kills::OomKills;
use crate::model::persisted::Serving;
use crate::model::spec::{RevisionSpec, WorkloadSpec};
use crate::model::step::{Lane, Step};
use crate::model::workload::{Identity, Slot, WorkloadId, container_name};
use crate::plan::replicas::Replicas;
use crate::plan::rollback_watch::failed_requests::Failed;
use crate::plan::state::{Stock, WorkloadState};

/// How long the edge may still use the previous table: Caddy's refresh time, plus a margin for a
/// query under way.
pub const EDGE_LAG: Duration = EDGE_REFRESH.saturating_add(Duration::from_millis(80));
// Nothing is stopped that the edge may still send visitors to.
const _: () = assert!(Drain::BEFORE_STOP.start().as_millis() > EDGE_LAG.as_millis());

/// What holds for all workloads of the host.
#[derive(Debug, Clone)]
pub struct Rules {
    pub limits: LimitRule,
    /// How old containers are drained.
    pub drain: Drain,
    /// Where containers are published.
    pub network: Network,
    /// Podman was away, or many apps went down together: auto rollback judges nothing before
    /// this.
    pub troubled_until: Option<Instant>,
    /// So many apps let their probes time out that the apps are not at fault.
    pub many_sick: bool,
    /// Podman's secrets have been listed.
    pub secrets_known: bool,
}

/// Whether a second container may be started beside one that fails its probes. Granted by the pass,
/// which sees the whole host: a starved host makes many apps miss their probes, and a second
/// container for each would starve it more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Permit {
    Granted,
    /// Not while the host itself may be why its probes fail.
    HostTrouble,
    /// Not yet: the host's budget of starts per minute is used up.
    Later,
}

/// Running operations, and the step each is at.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Busy {
    /// In [`Lane::Serve`].
    pub serve: Option<Step>,
    /// In [`Lane::Roll`].
    pub roll: Option<Step>,
    /// The steps that follow in the same operation.
    pub roll_next: Vec<Step>,
}

/// A container as the list and its probes show it.
#[derive(Debug, Clone, Copy)]
pub struct Seen<'a> {
    pub container: &'a Container,
    /// The probe result; `None`: it is not probed. Looked up once per plan, which asks for it
    /// several times.
    pub tracker: Option<&'a Tracker>,
    /// Whether it is held to its limits, or need not be.
    pub limits: LimitCheck,
}

impl Seen<'_> {
    fn level(self) -> Option<Level> {
        self.tracker.map(Tracker::level)
    }

    /// Whether it is known to be held to its limits: only then it gets its first visitors.
    fn is_held(self) -> bool {
        self.limits == LimitCheck::Held
    }

    fn runs(self) -> bool {
        is_running(self.container)
    }

    /// Whether it runs but nothing forwards to it, which is not the app's fault.
    fn is_unreachable(self) -> bool {
        self.runs() && self.tracker.is_some_and(Tracker::is_unreachable)
    }
}

impl Deref for Seen<'_> {
    type Target = Container;

    fn deref(&self) -> &Container {
        self.container
    }
}

/// One workload, observed and desired.
pub struct View<'a> {
    pub id: WorkloadId,
    /// Its desired state; `None`: it should not exist.
    pub desired: Option<&'a WorkloadSpec>,
    /// It should not exist, but no wanted replica of its public service answers visitors.
    pub stands_in: bool,
    pub containers: &'a [Seen<'a>],
    pub busy: &'a Busy,
    pub rules: &'a Rules,
    /// Its failed requests, as far as Caddy's log shows.
    pub failed: Failed<'a>,
    /// What the kernel counts in its serving container, if known.
    pub kills: Option<&'a OomKills>,
    /// What all replicas of its service have shown.
    pub replicas: &'a Replicas,
    /// Whether a sick serving container may be replaced now.
    pub permit: Permit,
    pub now: Instant,
    /// Wall time, never earlier than the document in force.
    pub wall: Timestamp,
    /// 0..1, drawn for each plan.
    pub jitter: f64,
}

/// A container to be probed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probed {
    pub name: String,
    /// Its revision, which determines how it is probed.
    pub revision: Revision,
    /// Where it is published.
    pub address: std::net::SocketAddrV4,
    /// Whether requests go to it, rather than to what it will replace.
    pub serves: bool,
    /// Whether it serves already, as far as is known: then it counts as answering until probes say
    /// otherwise.
    pub assumed: bool,
}

/// Steps of one lane, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedOperation {
    pub lane: Lane,
    /// The revision that the steps are for. Steps that take something away name what they take:
    /// where an operation retires containers of several revisions, this is the first one's.
    pub revision: Revision,
    pub steps: Vec<Step>,
}

/// What to do, and the current state.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// At most one for each lane, in the order of the lanes.
    pub operations: Vec<PlannedOperation>,
    /// Where requests to it go: visitors' if it is public, otherwise those of its deployment's other
    /// services; `None`: there is no such app.
    pub target: Option<Target>,
    /// What is probed from now on.
    pub probes: Vec<Probed>,
    /// When to plan again if nothing happens.
    pub wake: Option<Instant>,
    /// How far the desired revision is. [`Phase::Live`] here means that the table says so; the
    /// route and certificate may still be missing.
    pub phase: Phase,
    /// Why it failed, or what holds it up.
    pub failure: Option<Failure>,
    /// The container that serves or is being started.
    pub container: Option<String>,
    /// Nothing is left of it here.
    pub gone: bool,
    /// It does not run because the revision was given up, for this reason.
    pub given_up: Option<Failure>,
    /// Auto rollback watches the desired revision until then.
    pub watched_until: Option<Instant>,
    /// The revision that auto rollback brings back instead of the desired one.
    pub fallback: Option<Revision>,
    /// Auto rollback decided in this plan: persist that before acting on it.
    pub decided: bool,
    /// What it needs, or uses, of the host's budget for replacing sick containers.
    pub replacing: Option<Replacing>,
}

/// A second container beside a sick one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replacing {
    /// It waits for a permit.
    Waits,
    /// Steps of this plan create it.
    Begins,
}

impl Plan {
    fn new() -> Self {
        Self {
            operations: Vec::new(),
            target: None,
            probes: Vec::new(),
            wake: None,
            phase: Phase::Accepted,
            failure: None,
            container: None,
            gone: false,
            given_up: None,
            watched_until: None,
            fallback: None,
            decided: false,
            replacing: None,
        }
    }

    fn wake_at(&mut self, at: Instant) {
        self.wake = Some(self.wake.map_or(at, |wake| wake.min(at)));
    }

    /// Adds steps for `revision` to the operation of a lane.
    fn add(&mut self, lane: Lane, revision: Revision, steps: impl IntoIterator<Item = Step>) {
        let mut steps = steps.into_iter().peekable();
        if steps.peek().is_none() {
            return;
        }
        if let Some(operation) = self.operations.iter_mut().find(|o| o.lane == lane) {
            let first = operation.steps.len();
            operation.steps.extend(steps);
            debug_assert!(
                operation.revision == revision
                    || operation.steps[first..].iter().all(Step::takes_away),
                "an operation makes something for one revision: {operation:?}, not r{revision}"
            );
            return;
        }
        self.operations.push(PlannedOperation { lane, revision, steps: steps.collect() });
        self.operations.sort_by_key(|operation| operation.lane);
    }

    /// The steps of one lane.
    pub fn steps(&self, lane: Lane) -> &[Step] {
        let operation = self.operations.iter().find(|operation| operation.lane == lane);
        operation.map_or(&[], |operation| &operation.steps)
    }

    /// All steps, lane by lane.
    pub fn all_steps(&self) -> impl Iterator<Item = &Step> {
        self.operations.iter().flat_map(|operation| &operation.steps)
    }
}

impl<'a> View<'a> {
    fn find(&self, revision: Revision, slot: Slot) -> Option<Seen<'a>> {
        let identity = Identity { workload: self.id, revision, slot };
        self.containers.iter().copied().find(|c| c.identity == Some(identity))
    }

    fn serving(&self, serving: Serving) -> Option<Seen<'a>> {
        self.find(serving.revision, serving.slot)
    }

    /// Whether this revision needs an environment that Podman's secrets hold only in part or not at
    /// all.
    fn lacks_secrets(&self, state: &WorkloadState, spec: &RevisionSpec<'_>) -> bool {
        let whole = state.secrets.get(&spec.revision) == Some(&Stock::Whole);
        self.rules.secrets_known && spec.env.is_some() && !whole
    }

    fn name(&self, revision: Revision, slot: Slot) -> String {
        container_name(&Identity { workload: self.id, revision, slot })
    }
}

fn is_running(container: &Container) -> bool {
    container.state == ContainerState::Running
}

/// How long a container may take to answer for the first time after its start.
fn deadline(probe: &Probe) -> Duration {
    Duration::from_millis(u64::from(probe.start_deadline_ms))
}

/// What to roll out: the desired revision or, once that was given up and does not serve, the
/// fallback. `None`: neither; what serves is kept.
pub fn revision_to_run<'a>(
    state: &WorkloadState,
    desired: &'a WorkloadSpec,
) -> Option<RevisionSpec<'a>> {
    if !state.persisted.failures.contains_key(&desired.revision()) {
        return Some(RevisionSpec::asked_for(desired));
    }
    let fallback = rollback::fallback(state, desired)?;
    // A revision that never served must not disturb what does, whichever that is.
    let due = state.was_rolled_back(desired.revision())
        || state.persisted.live.is_none_or(|live| live.revision == fallback);
    RevisionSpec::fallback(desired).filter(|_| due)
}

/// Plans for one workload. Pure, except that it updates `state`, the workload's own state.
pub fn plan(state: &mut WorkloadState, view: &View<'_>) -> Plan {
    let plan = match view.desired {
        None => teardown::stand_in(state, view).unwrap_or_else(|| teardown::remove(state, view)),
        Some(desired) => {
            state.prune(desired);
            match desired.run() {
                RunState::Running => serving::serve(state, view, desired),
                RunState::Stopped => teardown::stop(state, view, Target::Stopped),
                RunState::Suspended => teardown::stop(state, view, Target::Suspended),
            }
        }
    };
    let present = |name: &String| view.containers.iter().any(|c| c.name == *name);
    state.retiring.retain(|name, _| present(name));
    state.paused.retain(|name, _| present(name));
    state.stops_failed.retain(|name, _| present(name));
    state.send_to(plan.target.as_ref());
    plan
}
