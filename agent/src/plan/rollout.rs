//! Moves the wanted revision's container towards serving until it answers or is given up.

use buddo_shared::id::Revision;
use buddo_shared::manifest::{DeploymentSpec, Strategy};
use buddo_shared::report::{Failure, Phase};
use tokio::time::Instant;

use crate::model::container::{ContainerState, Slot};
use crate::model::health::Level;
use crate::model::host_facts::LimitRule;
use crate::model::spec::RevisionSpec;
use crate::model::step::Step;
use crate::plan::state::{DeploymentState, Serving};
use crate::plan::supervise::{TORN, sick};
use crate::plan::teardown::{draining, stuck};
use crate::plan::{Permit, Plan, Replacing, Seen, View, deadline, messages, rollback};

/// How often a container may end before it answers.
const MAX_EXITS: u32 = 3;

/// How often a container that nothing forwards to is recreated. On a host that forwards nothing at
/// all, it would go on for ever.
const MAX_REMOVALS: u32 = 3;

/// Moves the wanted revision's container towards serving. Returns its name while it is wanted.
pub(super) fn bring_in(
    memory: &mut DeploymentState,
    view: &View<'_>,
    desired: &DeploymentSpec,
    wanted: &RevisionSpec<'_>,
    plan: &mut Plan,
    holding: bool,
) -> Option<String> {
    let revision = wanted.revision;
    let live = memory.persisted.live;
    if live.is_some_and(|live| live.revision == revision && !sick(memory, view, desired, live)) {
        memory.attempt = None;
        return None;
    }
    if let Some(live) = live.filter(|live| live.revision == revision) {
        let tracker = view.serving(live).and_then(|container| container.tracker);
        plan.failure = Some(messages::unhealthy(tracker.and_then(|t| t.reason.as_deref())));
    }
    let rounds = memory.attempt.as_ref().map_or(0, |attempt| attempt.rounds);
    let slot = candidate_slot(view, revision, live, rounds);
    let name = view.name(revision, slot);
    let candidate = view.find(revision, slot);
    if candidate.is_some_and(Seen::runs) {
        memory.attempt_at(revision).started.get_or_insert(view.now);
    }
    if let Some(failure) = verdict(memory, view, wanted, candidate) {
        give_up(memory, view, desired, wanted, plan, candidate, failure);
        return (!memory.persisted.failures.contains_key(&revision)).then_some(name);
    }
    let repair = live.is_some_and(|live| live.revision == revision);
    if !repair {
        plan.phase = phase_of(view, candidate);
    }
    let attempt = memory.attempt_at(revision);
    if let Some(trouble) = &attempt.trouble {
        plan.failure = Some(trouble.failure.clone());
    }
    if view.rules.limits == LimitRule::Unknown || view.busy.roll.is_some() {
        return Some(name);
    }
    if let Some(not_before) = attempt.not_before.filter(|at| *at > view.now) {
        plan.wake_at(not_before);
        return Some(name);
    }
    if wanted.strategy == Strategy::Recreate && live.is_some() && !repair {
        // The image first, then room for the new container, then the container.
        if !attempt.image_ready {
            plan.roll.extend(prepare(wanted));
            return Some(name);
        }
        // A list may be older than the start of a container that just crashed.
        let stopped = !live.and_then(|live| view.serving(live)).is_some_and(Seen::runs);
        if !holding || !stopped || view.busy.serve.is_some() {
            return Some(name);
        }
    }
    let held = std::mem::take(&mut memory.attempt_at(revision).address_held);
    match candidate {
        // created → nothing → created in the other slot
        Some(container) if held && !container.runs() => {
            plan.roll.push(Step::Remove(name.clone()));
            // A container that Podman has lost may still answer visitors: try the other slot first,
            // unless that one serves.
            let last = live.is_some() || rounds > 0;
            if last {
                plan.roll.extend([Step::EndLost(slot), Step::FreeAddress(slot)]);
            }
            memory.attempt_at(revision).rounds += 1;
        }
        // sick, and not yet allowed a second container
        None if repair && !may_replace(view, live) => wait_for_permit(memory, view, plan, live),
        // nothing → created → running
        None => {
            let begins = launch(view, wanted, plan, slot, &name);
            let counts = repair && begins && !is_unreachable(view, live);
            plan.replacing = counts.then_some(Replacing::Begins);
        }
        Some(container) => advance(memory, view, wanted, plan, container),
    }
    Some(name)
}

/// Whether a sick serving container may get a second one beside it. One that nothing forwards to
/// does not show a starved host: it cannot answer anybody, and waiting does not help.
fn may_replace(view: &View<'_>, live: Option<Serving>) -> bool {
    view.permit == Permit::Granted || is_unreachable(view, live)
}

fn is_unreachable(view: &View<'_>, live: Option<Serving>) -> bool {
    live.and_then(|live| view.serving(live)).is_some_and(Seen::is_unreachable)
}

fn wait_for_permit(
    memory: &DeploymentState,
    view: &View<'_>,
    plan: &mut Plan,
    live: Option<Serving>,
) {
    plan.replacing = Some(Replacing::Waits);
    let troubled = memory.attempt.as_ref().is_some_and(|attempt| attempt.trouble.is_some());
    if !troubled {
        let tracker = live.and_then(|live| view.serving(live)).and_then(|c| c.tracker);
        let reason = tracker.and_then(|tracker| tracker.reason.as_deref());
        let host_trouble = view.permit == Permit::HostTrouble;
        plan.failure = Some(messages::replacement_waits(reason, host_trouble));
    }
}

/// The next step for an existing candidate.
fn advance(
    memory: &mut DeploymentState,
    view: &View<'_>,
    wanted: &RevisionSpec<'_>,
    plan: &mut Plan,
    container: Seen<'_>,
) {
    let name = &container.name;
    let lacking = view.lacks_secrets(memory, wanted).then_some(Step::PutSecrets);
    let start = || {
        let steps = [Step::Start(name.clone()), Step::Watch(name.clone())];
        lacking.clone().into_iter().chain(steps)
    };
    let attempt = memory.attempt_at(wanted.revision);
    if attempt.torn || container.is_unreachable() && attempt.removed < MAX_REMOVALS {
        let started = attempt.started.filter(|_| container.state == ContainerState::Running);
        let due = started.map_or(view.now, |started| started + TORN);
        remove_at(memory, view, plan, name, due);
        return;
    }
    match container.state {
        // created → running
        ContainerState::Created => plan.roll.extend(start()),
        // stopped before this attempt, as for a `recreate` → running
        ContainerState::Exited(_) if attempt.started.is_none() => plan.roll.extend(start()),
        // exited → running, unless this was the last time
        ContainerState::Exited(_) => {
            plan.roll.push(Step::InspectExit(name.clone()));
            if attempt.exits + 1 < MAX_EXITS {
                plan.roll.extend(start());
            }
        }
        ContainerState::Running => {
            let started = *attempt.started.get_or_insert(view.now);
            plan.wake_at(started + deadline(wanted.probe));
        }
        ContainerState::Stopping => {
            let since = memory.stopping_since(name, view.now);
            remove_at(memory, view, plan, name, since + stuck(view));
        }
        ContainerState::Broken => remove_at(memory, view, plan, name, view.now),
    }
}

/// Removes a candidate that no step can repair, at `due` or once a failed removal is retried.
fn remove_at(memory: &DeploymentState, view: &View<'_>, plan: &mut Plan, name: &str, due: Instant) {
    let due = memory.cooling(view.now).map_or(due, |at| at.max(due));
    if view.now < due {
        plan.wake_at(due);
    } else {
        plan.roll.push(Step::Remove(name.to_owned()));
    }
}

/// Why the attempt is over, if it is.
fn verdict(
    memory: &mut DeploymentState,
    view: &View<'_>,
    wanted: &RevisionSpec<'_>,
    candidate: Option<Seen<'_>>,
) -> Option<Failure> {
    if view.rules.limits == LimitRule::Missing {
        return Some(messages::limits_not_enforced());
    }
    if memory.persisted.index.is_none() {
        return Some(messages::host_full());
    }
    let attempt = memory.attempt_at(wanted.revision);
    if attempt.verdict.is_some() {
        return attempt.verdict.clone();
    }
    if let Some(ending) = attempt.ending.as_ref().filter(|_| attempt.exits >= MAX_EXITS) {
        return Some(messages::exited_at_start(ending, attempt.exits, wanted.limits));
    }
    let started = attempt.started?;
    if view.now.duration_since(started) < deadline(wanted.probe) || view.busy.roll.is_some() {
        return None;
    }
    let seconds = deadline(wanted.probe).as_secs();
    match (candidate, &attempt.ending) {
        // Not the app's fault: the container is recreated.
        (Some(container), _) if container.is_unreachable() && attempt.removed < MAX_REMOVALS => {
            None
        }
        (Some(container), _) if container.runs() => {
            let reason = container.tracker.and_then(|t| t.reason.as_deref());
            Some(messages::never_healthy(wanted.port, seconds, reason))
        }
        (Some(_), Some(ending)) => {
            Some(messages::exited_at_start(ending, attempt.exits, wanted.limits))
        }
        // Not restarted yet, or its ending is not known yet: the next steps will show.
        _ => None,
    }
}

/// attempt → failed, for good. A revision that served once starts again from the beginning instead.
fn give_up(
    memory: &mut DeploymentState,
    view: &View<'_>,
    desired: &DeploymentSpec,
    wanted: &RevisionSpec<'_>,
    plan: &mut Plan,
    candidate: Option<Seen<'_>>,
    failure: Failure,
) {
    let revision = wanted.revision;
    if memory.guards(revision)
        && rollback::judges(view)
        && let Some(fallback) = rollback::fallback(memory, desired)
    {
        let failure = messages::guard_gone(revision, fallback, &failure);
        rollback::give_back(memory, view.now, desired, plan, failure);
        return;
    }
    // What serves is worse than the one before it, but better than nothing.
    let hopeless = revision != desired.revision && answers(memory, view);
    if hopeless || !memory.persisted.proven.contains(&revision) {
        memory.persisted.failures.insert(revision, failure);
        memory.attempt = None;
        return;
    }
    if memory.persisted.live.is_none() {
        plan.phase = Phase::Starting;
    }
    plan.failure = Some(failure);
    if view.busy.roll.is_some() {
        return;
    }
    if candidate.is_some_and(Seen::runs)
        && let Some(until) = draining(memory, view)
    {
        plan.wake_at(until);
        return;
    }
    if let Some(container) = candidate {
        plan.roll.push(Step::Stop(container.name.clone()));
        plan.roll.push(Step::Remove(container.name.clone()));
    }
    let attempt = memory.attempt_at(revision);
    attempt.next_round(view.now, view.jitter);
    if let Some(at) = attempt.not_before {
        plan.wake_at(at);
    }
}

/// Whether what serves may answer visitors.
fn answers(memory: &DeploymentState, view: &View<'_>) -> bool {
    let live = memory.persisted.live.and_then(|live| view.serving(live));
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

fn prepare(wanted: &RevisionSpec<'_>) -> impl Iterator<Item = Step> + use<> {
    wanted.env.is_some().then_some(Step::PutSecrets).into_iter().chain([Step::Image])
}

/// All the steps from nothing to running, once nothing else holds the slot's address. Returns
/// whether they were planned.
fn launch(
    view: &View<'_>,
    wanted: &RevisionSpec<'_>,
    plan: &mut Plan,
    slot: Slot,
    name: &str,
) -> bool {
    // The occupant is being retired, which wakes the plan.
    if taken(view, slot, name) {
        return false;
    }
    plan.roll.extend(prepare(wanted));
    plan.roll.extend([
        Step::Create(slot),
        Step::Start(name.to_owned()),
        Step::Watch(name.to_owned()),
    ]);
    true
}

fn phase_of(view: &View<'_>, candidate: Option<Seen<'_>>) -> Phase {
    match (&view.busy.roll, candidate.map(|c| c.state)) {
        (Some(Step::Image), _) => Phase::Pulling,
        (Some(Step::Create(_) | Step::Start(_)), _) => Phase::Starting,
        (_, Some(ContainerState::Running)) => Phase::Probing,
        (_, Some(_)) => Phase::Starting,
        (_, None) => Phase::Accepted,
    }
}
