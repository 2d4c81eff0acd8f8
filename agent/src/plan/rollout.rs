//! Moves the wanted revision's container towards serving until it answers or is given up.

use std::time::Duration;

use buddo_shared::host_wire::manifest::Strategy;
use buddo_shared::host_wire::report::Failure;
use buddo_shared::model::id::Revision;
use tokio::time::Instant;

use crate::model::cgroup::LimitCheck;
use crate::model::container::{ContainerState, Slot};
use crate::model::health::{Level, Tracker};
use crate::model::host_facts::LimitRule;
use crate::model::live_table::Target;
use crate::model::persisted::Serving;
use crate::model::spec::{RevisionSpec, WorkloadSpec};
use crate::model::step::{Lane, Step};
use crate::plan::phase::Progress;
use crate::plan::state::WorkloadState;
use crate::plan::supervise::{TORN, sick};
use crate::plan::teardown::{draining, stuck};
use crate::plan::{Permit, Plan, Replacing, Seen, View, deadline, messages, rollback};

/// How often a container may end before it answers.
const MAX_EXITS: u32 = 3;

/// How often a container that nothing forwards to is recreated. On a host that forwards nothing at
/// all, it would go on for ever.
const MAX_REMOVALS: u32 = 3;

/// How the rollout stands.
#[derive(Debug, Default)]
pub(super) struct Rollout<'a> {
    /// The wanted revision's container, made or still to be made, while it is needed.
    pub(super) candidate: Option<String>,
    /// How far it is; `None`: the wanted revision serves, and [`supervise`](super::supervise) says.
    pub(super) progress: Option<Progress<'a>>,
}

/// Moves the wanted revision's container towards serving.
pub(super) fn roll_out<'a>(
    state: &mut WorkloadState,
    view: &'a View<'_>,
    desired: &WorkloadSpec,
    spec: &RevisionSpec<'_>,
    plan: &mut Plan,
    holding: bool,
) -> Rollout<'a> {
    let revision = spec.revision;
    let live = state.persisted.live;
    if live.is_some_and(|live| live.revision == revision && !sick(state, view, desired, live)) {
        state.attempt = None;
        return Rollout::default();
    }
    if let Some(live) = live.filter(|live| live.revision == revision) {
        let tracker = view.serving(live).and_then(|container| container.tracker);
        plan.failure = Some(messages::unhealthy(tracker.and_then(|t| t.reason.as_deref())));
    }
    let rounds = state.attempt.as_ref().map_or(0, |attempt| attempt.rounds);
    let slot = candidate_slot(view, revision, live, rounds);
    let name = view.name(revision, slot);
    let candidate = view.find(revision, slot);
    if candidate.is_some_and(Seen::runs) {
        state.attempt_at(revision).started.get_or_insert(view.now);
    }
    if let Some(failure) = verdict(state, view, spec, candidate) {
        let progress = give_up(state, view, desired, spec, plan, candidate, failure);
        let tried_again = !state.persisted.failures.contains_key(&revision);
        return Rollout { candidate: tried_again.then_some(name), progress };
    }
    let repair = live.is_some_and(|live| live.revision == revision);
    let progress = (!repair).then_some(Progress::RollsOut {
        step: view.busy.roll.as_ref(),
        container: candidate.map(|container| container.state),
    });
    next_steps(state, view, spec, plan, holding, slot, &name);
    Rollout { candidate: Some(name), progress }
}

/// The next steps for the candidate, which is named `name` and is in `slot` or will be.
fn next_steps(
    state: &mut WorkloadState,
    view: &View<'_>,
    spec: &RevisionSpec<'_>,
    plan: &mut Plan,
    holding: bool,
    slot: Slot,
    name: &str,
) {
    let revision = spec.revision;
    let live = state.persisted.live;
    let repair = live.is_some_and(|live| live.revision == revision);
    let candidate = view.find(revision, slot);
    let attempt = state.attempt_at(revision);
    if let Some(unlimited) = &attempt.unlimited {
        plan.failure = Some(unlimited.failure.clone());
    }
    if let Some(trouble) = &attempt.trouble {
        plan.failure = Some(trouble.failure.clone());
    }
    if let Some((container, failure)) = candidate.and_then(|c| Some((c, without_limits(c)?))) {
        // running → nothing: what no limit holds is not left beside other tenants
        plan.failure = Some(failure.clone());
        attempt.is_unlimited(failure);
        let due = drained(state, view, container);
        if let Some(due) = due.filter(|_| view.busy.roll.is_none()) {
            remove_at(state, view, plan, revision, &container.name, due);
        }
        return;
    }
    match view.rules.limits {
        // The host's trouble, not the app's: it waits, and goes on once the host is mended.
        LimitRule::Missing(gap) => {
            plan.failure = Some(messages::limits_not_enforced(gap));
            return;
        }
        LimitRule::Unknown => return,
        LimitRule::Enforced | LimitRule::Waived => {}
    }
    if view.busy.roll.is_some() {
        return;
    }
    if let Some(not_before) = attempt.not_before.filter(|at| *at > view.now) {
        plan.wake_at(not_before);
        return;
    }
    if spec.strategy == Strategy::Recreate && live.is_some() && !repair {
        // The image first, then room for the new container, then the container.
        if !attempt.image_ready {
            plan.add(Lane::Roll, revision, prepare(spec));
            return;
        }
        // A list may be older than the start of a container that just crashed.
        let stopped = !live.and_then(|live| view.serving(live)).is_some_and(Seen::runs);
        if !holding || !stopped || view.busy.serve.is_some() {
            return;
        }
    }
    let held = std::mem::take(&mut state.attempt_at(revision).address_held);
    match candidate {
        // created → nothing → created in the other slot
        Some(container) if held && !container.runs() => {
            plan.add(Lane::Roll, revision, [Step::Remove(name.to_owned())]);
            // An orphan may still answer visitors: try the other slot first,
            // unless that one serves.
            let attempt = state.attempt_at(revision);
            if live.is_some() || attempt.rounds > 0 {
                plan.add(Lane::Roll, revision, [Step::EndOrphans(slot), Step::FreeAddress(slot)]);
            }
            attempt.rounds += 1;
        }
        // sick, and not yet allowed a second container
        None if repair && !may_replace(view, live) => wait_for_permit(state, view, plan, live),
        // nothing → created → running
        None => {
            let begins = launch(view, spec, plan, slot, name);
            let counts = repair && begins && !is_unreachable(view, live);
            plan.replacing = counts.then_some(Replacing::Begins);
        }
        Some(container) => advance(state, view, spec, plan, container),
    }
}

/// When no visitor is left that was sent to it before it ended and was started again; `None`: not
/// known yet. A candidate never had any.
fn drained(state: &WorkloadState, view: &View<'_>, container: Seen<'_>) -> Option<Instant> {
    let served = state.restarted.zip(container.identity).is_some_and(|(live, one)| live.is(one));
    if !served {
        return Some(view.now);
    }
    let in_table = match (&state.target, container.address) {
        (Some(Target::Live { addresses }), Some(address)) => addresses.contains(address.ip()),
        _ => false,
    };
    state.in_force.filter(|_| !in_table).map(|since| since + view.rules.drain.before_stop)
}

/// Whether a sick serving container may get a second one beside it. One that nothing forwards to
/// does not show a starved host: it cannot answer anybody, and waiting does not help.
fn may_replace(view: &View<'_>, live: Option<Serving>) -> bool {
    view.permit == Permit::Granted || is_unreachable(view, live)
}

fn is_unreachable(view: &View<'_>, live: Option<Serving>) -> bool {
    live.and_then(|live| view.serving(live)).is_some_and(Seen::is_unreachable)
}

fn wait_for_permit(state: &WorkloadState, view: &View<'_>, plan: &mut Plan, live: Option<Serving>) {
    plan.replacing = Some(Replacing::Waits);
    let troubled = state.attempt.as_ref().is_some_and(|attempt| attempt.trouble.is_some());
    if !troubled {
        let tracker = live.and_then(|live| view.serving(live)).and_then(|c| c.tracker);
        let reason = tracker.and_then(|tracker| tracker.reason.as_deref());
        let host_trouble = view.permit == Permit::HostTrouble;
        plan.failure = Some(messages::replacement_waits(reason, host_trouble));
    }
}

/// The next step for an existing candidate.
fn advance(
    state: &mut WorkloadState,
    view: &View<'_>,
    spec: &RevisionSpec<'_>,
    plan: &mut Plan,
    container: Seen<'_>,
) {
    let name = &container.name;
    let lacking = view.lacks_secrets(state, spec).then_some(Step::PutSecrets);
    let start = || {
        let steps = [Step::Start(name.clone()), Step::Watch(name.clone())];
        lacking.clone().into_iter().chain(steps)
    };
    let revision = spec.revision;
    let attempt = state.attempt_at(revision);
    if container.runs() && container.is_held() {
        attempt.unlimited = None;
    }
    // One that answered has its port, whatever became of it since.
    attempt.torn &= !has_answered(container);
    if attempt.torn || container.is_unreachable() && attempt.removed < MAX_REMOVALS {
        let started = attempt.started.filter(|_| container.state == ContainerState::Running);
        let due = started.map_or(view.now, |started| started + TORN);
        remove_at(state, view, plan, revision, name, due);
        return;
    }
    match container.state {
        // created → running
        ContainerState::Created => plan.add(Lane::Roll, revision, start()),
        // stopped before this attempt, as for a `recreate` → running
        ContainerState::Exited(_) if attempt.started.is_none() => {
            plan.add(Lane::Roll, revision, start());
        }
        // exited → running, unless this was the last time
        ContainerState::Exited(_) => {
            plan.add(Lane::Roll, revision, [Step::InspectExit(name.clone())]);
            if attempt.exits + 1 < MAX_EXITS {
                plan.add(Lane::Roll, revision, start());
            }
        }
        ContainerState::Running => {
            let started = *attempt.started.get_or_insert(view.now);
            let due = started + patience(container, spec);
            if view.now < due {
                plan.wake_at(due);
            } else if answers_unchecked(container) {
                plan.failure = messages::limits_not_held(container.limits);
            }
        }
        ContainerState::Stopping => {
            let since = state.stopping_since(name, view.now);
            remove_at(state, view, plan, revision, name, since + stuck(view));
        }
        ContainerState::Broken => remove_at(state, view, plan, revision, name, view.now),
    }
}

/// Why a container that runs must not stay.
fn without_limits(container: Seen<'_>) -> Option<Failure> {
    let broken = matches!(container.limits, LimitCheck::Broken(_)) && container.runs();
    broken.then(|| messages::limits_not_held(container.limits)).flatten()
}

/// Whether only its limits keep visitors from it, which no app is to blame for.
fn answers_unchecked(container: Seen<'_>) -> bool {
    container.runs() && !container.is_held() && container.tracker.is_some_and(Tracker::is_steady)
}

/// How long a candidate may take to be one that visitors can be sent to. One that answered and does
/// not now has as long again: it may only have missed a probe while Podman, or its host, was slow.
fn patience(container: Seen<'_>, spec: &RevisionSpec<'_>) -> Duration {
    let deadline = deadline(spec.probe);
    if has_answered(container) { deadline * 2 } else { deadline }
}

fn has_answered(container: Seen<'_>) -> bool {
    matches!(container.level(), Some(Level::Healthy | Level::Unhealthy))
}

/// Removes a candidate that no step can repair, at `due` or once a failed removal is retried.
fn remove_at(
    state: &WorkloadState,
    view: &View<'_>,
    plan: &mut Plan,
    revision: Revision,
    name: &str,
    due: Instant,
) {
    let due = state.cooling(view.now).map_or(due, |at| at.max(due));
    if view.now < due {
        plan.wake_at(due);
    } else {
        plan.add(Lane::Roll, revision, [Step::Remove(name.to_owned())]);
    }
}

/// Why the attempt is over, if it is.
fn verdict(
    state: &mut WorkloadState,
    view: &View<'_>,
    spec: &RevisionSpec<'_>,
    candidate: Option<Seen<'_>>,
) -> Option<Failure> {
    if state.persisted.index.is_none() {
        return Some(messages::host_full());
    }
    let attempt = state.attempt_at(spec.revision);
    if attempt.verdict.is_some() {
        return attempt.verdict.clone();
    }
    if let Some(exit) = attempt.last_exit.as_ref().filter(|_| attempt.exits >= MAX_EXITS) {
        return Some(messages::exited_at_start(exit, attempt.exits, spec.limits));
    }
    let started = attempt.started?;
    let patience = candidate.map_or_else(|| deadline(spec.probe), |c| patience(c, spec));
    if view.now.duration_since(started) < patience || view.busy.roll.is_some() {
        return None;
    }
    let seconds = deadline(spec.probe).as_secs();
    match (candidate, &attempt.last_exit) {
        // Not the app's fault: the container is recreated.
        (Some(container), _) if container.is_unreachable() && attempt.removed < MAX_REMOVALS => {
            None
        }
        (Some(container), _) if answers_unchecked(container) => None,
        (Some(container), _) if without_limits(container).is_some() => None,
        (Some(container), _) if container.runs() => {
            let reason = container.tracker.and_then(|t| t.reason.as_deref());
            Some(if has_answered(container) {
                messages::not_healthy_for_long(spec.port, reason)
            } else {
                messages::never_healthy(spec.port, seconds, reason)
            })
        }
        (Some(_), Some(exit)) => Some(messages::exited_at_start(exit, attempt.exits, spec.limits)),
        // Not restarted yet, or its exit is not known yet: the next steps will show.
        _ => None,
    }
}

/// attempt → failed, for good. A revision that served once, here or on another replica, starts again
/// from the beginning instead.
fn give_up<'a>(
    state: &mut WorkloadState,
    view: &View<'_>,
    desired: &WorkloadSpec,
    spec: &RevisionSpec<'_>,
    plan: &mut Plan,
    candidate: Option<Seen<'_>>,
    failure: Failure,
) -> Option<Progress<'a>> {
    let revision = spec.revision;
    if state.watches(revision)
        && rollback::may_judge(view)
        && let Some(fallback) = rollback::fallback(state, desired)
    {
        let failure = messages::auto_rollback_gone(revision, fallback, &failure);
        rollback::roll_back(state, view.now, desired, plan, failure);
        return None;
    }
    // What serves is worse than the one before it, but better than nothing.
    let hopeless = revision != desired.revision() && answers(state, view);
    let proven = [&state.persisted.proven, &view.replicas.proven];
    if hopeless || !proven.iter().any(|proven| proven.contains(&revision)) {
        state.persisted.failures.insert(revision, failure);
        state.attempt = None;
        return None;
    }
    let progress = state.persisted.live.is_none().then_some(Progress::StartsOver);
    plan.failure = Some(failure);
    if view.busy.roll.is_some() {
        return progress;
    }
    if candidate.is_some_and(Seen::runs)
        && let Some(until) = draining(state, view)
    {
        plan.wake_at(until);
        return progress;
    }
    if let Some(container) = candidate {
        let name = || container.name.clone();
        plan.add(Lane::Roll, revision, [Step::Stop(name()), Step::Remove(name())]);
    }
    let attempt = state.attempt_at(revision);
    attempt.next_round(view.now, view.jitter);
    if let Some(at) = attempt.not_before {
        plan.wake_at(at);
    }
    progress
}

/// Whether what serves may answer visitors.
fn answers(state: &WorkloadState, view: &View<'_>) -> bool {
    let live = state.persisted.live.and_then(|live| view.serving(live));
    live.filter(|container| container.runs()).and_then(Seen::level).is_some_and(Level::may_serve)
}

/// Where the wanted revision's container is, or goes. Each round tries the other slot first:
/// something that is not a Podman container any longer may hold an address.
fn candidate_slot(view: &View<'_>, revision: Revision, live: Option<Serving>, rounds: u32) -> Slot {
    if let Some(live) = live {
        return live.slot.other();
    }
    let first = if rounds.is_multiple_of(2) { Slot::A } else { Slot::B };
    let second = first.other();
    let has = |slot| view.find(revision, slot).is_some();
    match (has(first), has(second)) {
        (false, true) => second,
        (false, false) if taken(view, first, "") && !taken(view, second, "") => second,
        (true, _) | (false, false) => first,
    }
}

/// Whether a container other than `name` holds the slot's address: it runs, or is stuck stopping
/// and may still be published there.
fn taken(view: &View<'_>, slot: Slot, name: &str) -> bool {
    view.containers.iter().any(|container| {
        let holds = match container.state {
            ContainerState::Running | ContainerState::Stopping | ContainerState::Broken => true,
            ContainerState::Created | ContainerState::Exited(_) => false,
        };
        holds && container.name != name && container.identity.is_some_and(|i| i.slot == slot)
    })
}

fn prepare(spec: &RevisionSpec<'_>) -> impl Iterator<Item = Step> + use<> {
    spec.env.is_some().then_some(Step::PutSecrets).into_iter().chain([Step::Image])
}

/// All the steps from nothing to running, once nothing else holds the slot's address. Returns
/// whether they were planned.
fn launch(
    view: &View<'_>,
    spec: &RevisionSpec<'_>,
    plan: &mut Plan,
    slot: Slot,
    name: &str,
) -> bool {
    // The occupant is being retired, which wakes the plan.
    if taken(view, slot, name) {
        return false;
    }
    let start = [Step::Create(slot), Step::Start(name.to_owned()), Step::Watch(name.to_owned())];
    plan.add(Lane::Roll, spec.revision, prepare(spec).chain(start));
    true
}
