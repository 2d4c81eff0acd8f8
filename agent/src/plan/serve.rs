//! A deployment that shall serve: keep what serves, bring in what is wanted, switch, retire.
//!
//! ```text
//!   nothing ──► image ──► created ──► running ──► healthy ──► live ──► retired
//!                │          │ exits ×3  │ start deadline        │ exits: started again, back-off
//!                ▼          ▼           ▼                       │ sick: replaced in the other slot
//!              given up (a revision that once served: tried again instead)
//! ```
//!
//! A sick container (it runs and fails its probes) is replaced in the other slot and keeps
//! getting requests meanwhile: it may still answer some of them, and a restart would answer none.
//! A crashed one is started in place: no other container could be there sooner.

use std::collections::BTreeSet;
use std::time::Duration;

use buddo_shared::id::Revision;
use buddo_shared::manifest::{Desired, Strategy};
use buddo_shared::report::{Failure, Phase};

use super::away::{self, STUCK};
use super::{LimitRule, Plan, View, Watched, is_running, words};
use crate::backoff::Backoff;
use crate::health::Level;
use crate::memory::{Memory, Serving};
use crate::ports::{Container, ContainerState, Slot, Target};
use crate::step::Step;

/// How often a container may end before it answered.
const MAX_EXITS: u32 = 3;
/// Crashes are forgotten after so long in health.
const FORGIVEN: Duration = Duration::from_mins(10);
/// Podman refused to start what serves so often: make it anew.
const MAX_START_REFUSALS: u32 = 3;

pub(super) fn serve(memory: &mut Memory, view: &View<'_>, desired: &Desired) -> Plan {
    let mut plan = Plan::new(Phase::Accepted);
    forget_lost(memory, view);
    adopt_or_switch(memory, view, desired);
    let holding = keep_serving(memory, view, desired, &mut plan);
    let candidate = bring_in(memory, view, desired, &mut plan, holding);

    let live = memory.durable.live.map(|live| view.name(live.revision, live.slot));
    let failed = memory.durable.failures.contains_key(&desired.revision);
    let keep: BTreeSet<&str> =
        live.as_deref().into_iter().chain(candidate.as_deref().filter(|_| !failed)).collect();
    let grace = Duration::from_millis(u64::from(desired.probe.start_deadline_ms));
    let grace = (live.is_none() && !failed).then_some(grace);
    away::retire(memory, view, &mut plan, &keep, grace);
    let wanted = (!failed).then_some(desired.revision);
    away::forget_secrets(memory, view, &mut plan, wanted);

    watch(memory, view, candidate.as_deref(), failed, &mut plan);
    plan.target = target(memory, view, candidate.as_deref(), failed, holding);
    plan.container = live.or(candidate);
    plan
}

/// What served and is not there any more, or beyond repair, serves no longer.
fn forget_lost(memory: &mut Memory, view: &View<'_>) {
    let Some(live) = memory.durable.live else { return };
    let stuck = |container: &Container| {
        let since = memory.paused.get(&container.name);
        since.is_some_and(|since| view.now.duration_since(*since) >= STUCK)
    };
    let lost = match view.serving(live) {
        None => true,
        Some(container) => match container.state {
            ContainerState::Broken => true,
            ContainerState::Stopping => stuck(container),
            _ => memory.crash.refusals >= MAX_START_REFUSALS,
        },
    };
    // While an operation runs, a list may be older than its effect.
    if lost && view.busy.serve.is_none() {
        memory.durable.live = None;
        memory.crash = crate::memory::Crash::default();
    }
}

/// Nothing serves: whatever answers does from now on. Something serves and the wanted one
/// answers too: the wanted one does from now on.
fn adopt_or_switch(memory: &mut Memory, view: &View<'_>, desired: &Desired) {
    let answers = view.containers.iter().filter(|container| {
        is_running(container)
            && view.tracker(container).is_some_and(|tracker| tracker.level() == Level::Healthy)
    });
    let answering = answers
        .filter_map(|container| container.identity)
        .filter(|identity| !memory.durable.failures.contains_key(&identity.revision));
    let chosen = match memory.durable.live {
        // nothing → serving: the wanted revision, or the newest that there is
        None => answering.max_by_key(|i| (i.revision == desired.revision, i.revision)),
        // serving → the wanted revision, or a fresh container instead of a sick one
        Some(live) => answering
            .filter(|i| i.revision == desired.revision)
            .find(|i| i.slot != live.slot && (live.revision != i.revision || sick(view, live))),
    };
    if let Some(identity) = chosen {
        memory.durable.live = Some(Serving { revision: identity.revision, slot: identity.slot });
        memory.durable.proven.insert(identity.revision);
        memory.crash = crate::memory::Crash::default();
        if identity.revision == desired.revision {
            memory.attempt = None;
        }
    }
}

fn sick(view: &View<'_>, live: Serving) -> bool {
    view.serving(live).is_some_and(|container| {
        is_running(container)
            && view.tracker(container).is_some_and(|t| t.level() == Level::Unhealthy)
    })
}

/// Restarts what serves when it is down. True while it is held back on purpose (`recreate`).
fn keep_serving(memory: &mut Memory, view: &View<'_>, desired: &Desired, plan: &mut Plan) -> bool {
    let Some(live) = memory.durable.live else { return false };
    let Some(container) = view.serving(live) else { return false };
    if live.revision == desired.revision {
        plan.phase = Phase::Live;
    }
    if stands_aside(memory, desired, live) {
        // serving → held: stop it once nothing is on its way to it; it is kept for a return
        let since = *memory.paused.entry(container.name.clone()).or_insert(view.now);
        let due = since + view.rules.drain.before_stop;
        if is_running(container) && view.now >= due && view.busy.roll.is_none() {
            plan.roll.push(Step::Stop(container.name.clone()));
        } else if view.now < due {
            plan.wake_at(due);
        }
        return true;
    }
    match container.state {
        ContainerState::Running => {
            memory.crash.down = false;
            memory.paused.remove(&container.name);
            let level = view.tracker(container).map(super::Tracker::level);
            if level == Some(Level::Healthy) {
                let since = *memory.crash.healthy_since.get_or_insert(view.now);
                if view.now.duration_since(since) >= FORGIVEN {
                    memory.crash.count = 0;
                }
            }
            if level == Some(Level::Starting) && live.revision == desired.revision {
                plan.phase = Phase::Starting;
                plan.failure = Some(words::restarting(None, memory.crash.count));
            }
        }
        // Someone is stopping it: it ends, or is stuck and then removed.
        ContainerState::Stopping => {
            let since = *memory.paused.entry(container.name.clone()).or_insert(view.now);
            plan.wake_at(since + STUCK);
        }
        ContainerState::Created | ContainerState::Exited(_) | ContainerState::Broken => {
            revive(memory, view, container, plan);
            if live.revision == desired.revision {
                plan.phase = Phase::Starting;
            }
        }
    }
    false
}

/// serving → down → serving: at once the first time, then ever slower.
fn revive(memory: &mut Memory, view: &View<'_>, container: &Container, plan: &mut Plan) {
    let crash = &mut memory.crash;
    if !crash.down && view.busy.serve.is_none() {
        crash.down = true;
        crash.healthy_since = None;
        let wait = match crash.count {
            0 => Duration::ZERO,
            count => Backoff::CRASH.delay(count - 1, view.jitter),
        };
        crash.count = crash.count.saturating_add(1);
        crash.not_before = Some(view.now + wait);
    }
    let code = match container.state {
        ContainerState::Exited(code) => Some(code),
        _ => None,
    };
    plan.failure = Some(words::restarting(code, crash.count));
    match crash.not_before.filter(|at| *at > view.now) {
        Some(at) => plan.wake_at(at),
        None if view.busy.serve.is_none() => {
            plan.serve.push(Step::Start(container.name.clone()));
            plan.serve.push(Step::Watch(container.name.clone()));
        }
        None => {}
    }
}

/// Whether what serves makes room for the wanted revision before that one is started.
fn stands_aside(memory: &Memory, desired: &Desired, live: Serving) -> bool {
    desired.strategy == Strategy::Recreate
        && live.revision != desired.revision
        && !memory.durable.failures.contains_key(&desired.revision)
        && memory.attempt.as_ref().is_some_and(|attempt| {
            attempt.revision == Some(desired.revision) && attempt.image_ready
        })
}

/// Brings the wanted revision's container nearer to serving. Its name, while it is wanted.
fn bring_in(
    memory: &mut Memory,
    view: &View<'_>,
    desired: &Desired,
    plan: &mut Plan,
    holding: bool,
) -> Option<String> {
    let revision = desired.revision;
    if let Some(failure) = memory.durable.failures.get(&revision) {
        plan.phase = Phase::Failed;
        plan.failure = Some(failure.clone());
        return None;
    }
    let live = memory.durable.live;
    if live.is_some_and(|live| live.revision == revision && !sick(view, live)) {
        memory.attempt = None;
        return None;
    }
    if let Some(live) = live.filter(|live| live.revision == revision) {
        let tracker = view.serving(live).and_then(|container| view.tracker(container));
        plan.failure = Some(words::unhealthy(tracker.and_then(|t| t.reason.as_deref())));
    }
    let slot = candidate_slot(view, revision, live);
    let name = view.name(revision, slot);
    let candidate = view.find(revision, slot);
    if candidate.is_some_and(is_running) {
        memory.attempt_at(revision).started.get_or_insert(view.now);
    }
    if let Some(failure) = verdict(memory, view, desired, candidate) {
        give_up(memory, view, desired, plan, candidate, failure);
        return (!memory.durable.failures.contains_key(&revision)).then_some(name);
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
    if desired.strategy == Strategy::Recreate && live.is_some() && !repair {
        // The image first, then room for the new container, then the container.
        if !attempt.image_ready {
            plan.roll.extend(prepare(desired));
            return Some(name);
        }
        if !holding || live.and_then(|live| view.serving(live)).is_some_and(is_running) {
            return Some(name);
        }
    }
    match candidate {
        // nothing → created → running
        None => launch(view, desired, plan, slot, &name),
        Some(container) => advance(memory, view, desired, plan, container),
    }
    Some(name)
}

/// What is next for a candidate that exists.
fn advance(
    memory: &mut Memory,
    view: &View<'_>,
    desired: &Desired,
    plan: &mut Plan,
    container: &Container,
) {
    let attempt = memory.attempt_at(desired.revision);
    let name = &container.name;
    let start = [Step::Start(name.clone()), Step::Watch(name.clone())];
    match container.state {
        // created → running
        ContainerState::Created => plan.roll.extend(start),
        // exited → running, unless this was the last time
        ContainerState::Exited(_) => {
            plan.roll.push(Step::Autopsy(name.clone()));
            if attempt.exits + 1 < MAX_EXITS {
                plan.roll.extend(start);
            }
        }
        ContainerState::Running => {
            let started = *attempt.started.get_or_insert(view.now);
            plan.wake_at(started + deadline(desired));
        }
        ContainerState::Stopping => {
            let since = *memory.paused.entry(name.clone()).or_insert(view.now);
            if view.now.duration_since(since) >= STUCK {
                plan.roll.push(Step::Remove(name.clone()));
            } else {
                plan.wake_at(since + STUCK);
            }
        }
        ContainerState::Broken => plan.roll.push(Step::Remove(name.clone())),
    }
}

fn deadline(desired: &Desired) -> Duration {
    Duration::from_millis(u64::from(desired.probe.start_deadline_ms))
}

/// Why the attempt is over, if it is.
fn verdict(
    memory: &mut Memory,
    view: &View<'_>,
    desired: &Desired,
    candidate: Option<&Container>,
) -> Option<Failure> {
    if view.rules.limits == LimitRule::Missing {
        return Some(words::limits_not_enforced());
    }
    if memory.durable.index.is_none() {
        return Some(words::host_full());
    }
    let attempt = memory.attempt_at(desired.revision);
    if attempt.verdict.is_some() {
        return attempt.verdict.clone();
    }
    if let Some(ending) = attempt.ending.as_ref().filter(|_| attempt.exits >= MAX_EXITS) {
        return Some(words::exited_at_start(ending, attempt.exits, desired.limits));
    }
    let started = attempt.started?;
    if view.now.duration_since(started) < deadline(desired) || view.busy.roll.is_some() {
        return None;
    }
    let seconds = deadline(desired).as_secs();
    match (candidate, &attempt.ending) {
        (Some(container), _) if is_running(container) => {
            let reason = view.tracker(container).and_then(|t| t.reason.as_deref());
            Some(words::never_healthy(desired.port, seconds, reason))
        }
        (Some(_), Some(ending)) => {
            Some(words::exited_at_start(ending, attempt.exits, desired.limits))
        }
        // Not started yet again, or its ending is not known yet: the next steps tell.
        _ => None,
    }
}

/// attempt → failed, for good. A revision that once served goes back to its start instead.
fn give_up(
    memory: &mut Memory,
    view: &View<'_>,
    desired: &Desired,
    plan: &mut Plan,
    candidate: Option<&Container>,
    failure: Failure,
) {
    if !memory.durable.proven.contains(&desired.revision) {
        memory.durable.failures.insert(desired.revision, failure.clone());
        memory.attempt = None;
        plan.phase = Phase::Failed;
        plan.failure = Some(failure);
        return;
    }
    if memory.durable.live.is_none() {
        plan.phase = Phase::Starting;
    }
    plan.failure = Some(failure);
    if view.busy.roll.is_some() {
        return;
    }
    if let Some(container) = candidate {
        plan.roll.push(Step::Stop(container.name.clone()));
        plan.roll.push(Step::Remove(container.name.clone()));
    }
    let attempt = memory.attempt_at(desired.revision);
    attempt.next_round(view.now, view.jitter);
    if let Some(at) = attempt.not_before {
        plan.wake_at(at);
    }
}

/// Where the wanted revision's container is, or goes.
fn candidate_slot(view: &View<'_>, revision: Revision, live: Option<Serving>) -> Slot {
    if let Some(live) = live {
        return live.slot.other();
    }
    let has = |slot| view.find(revision, slot).is_some();
    let running = |slot| {
        view.containers.iter().any(|c| c.identity.is_some_and(|i| i.slot == slot) && is_running(c))
    };
    match (has(Slot::A), has(Slot::B)) {
        (false, true) => Slot::B,
        (false, false) if running(Slot::A) && !running(Slot::B) => Slot::B,
        (true, _) | (false, false) => Slot::A,
    }
}

fn prepare(desired: &Desired) -> impl Iterator<Item = Step> {
    desired.env.is_some().then_some(Step::PutSecrets).into_iter().chain([Step::Image])
}

/// The whole way from nothing to running, once nothing else holds the slot's address.
fn launch(view: &View<'_>, desired: &Desired, plan: &mut Plan, slot: Slot, name: &str) {
    let occupied = view
        .containers
        .iter()
        .any(|c| c.identity.is_some_and(|i| i.slot == slot) && is_running(c) && c.name != name);
    // The occupant is being retired, which wakes the plan.
    if occupied {
        return;
    }
    plan.roll.extend(prepare(desired));
    plan.roll.extend([
        Step::Create(slot),
        Step::Start(name.to_owned()),
        Step::Watch(name.to_owned()),
    ]);
}

fn phase_of(view: &View<'_>, candidate: Option<&Container>) -> Phase {
    match (&view.busy.roll, candidate.map(|c| c.state)) {
        (Some(Step::Image), _) => Phase::Pulling,
        (Some(Step::Create(_) | Step::Start(_)), _) => Phase::Starting,
        (_, Some(ContainerState::Running)) => Phase::Probing,
        (_, Some(_)) => Phase::Starting,
        (_, None) => Phase::Accepted,
    }
}

fn watch(memory: &Memory, view: &View<'_>, candidate: Option<&str>, failed: bool, plan: &mut Plan) {
    let live = memory.durable.live.map(|live| view.name(live.revision, live.slot));
    for container in view.containers.iter().filter(|c| is_running(c)) {
        let serves = live.as_deref() == Some(&container.name);
        let wanted = candidate == Some(&container.name) && !failed;
        // Nothing serves: whatever runs may turn out to answer.
        let orphan = live.is_none()
            && container
                .identity
                .is_some_and(|i| !memory.durable.failures.contains_key(&i.revision));
        if let Some(address) = container.address.filter(|_| serves || wanted || orphan) {
            // Held when the agent went: it was not known to answer, so it must show that first.
            let assumed = serves && !matches!(memory.target, Some(Target::Hold));
            plan.watch.push(Watched { name: container.name.clone(), address, assumed });
        }
    }
}

/// Where visitors go.
///
/// A first deploy has no target, so 'no such app', until its container runs: only then is a wait
/// short enough to hold requests for. An app that was stopped keeps its page until then.
fn target(
    memory: &Memory,
    view: &View<'_>,
    candidate: Option<&str>,
    failed: bool,
    holding: bool,
) -> Option<Target> {
    let previous = memory.target.clone();
    if let Some(live) = memory.durable.live {
        let container = view.serving(live).filter(|c| is_running(c) && !holding);
        let level = container.and_then(|c| view.tracker(c)).map(super::Tracker::level);
        // No tracker yet: it was adopted in this very pass, and stays what it was.
        let answers = level.map_or(previous != Some(Target::Hold), Level::may_serve);
        let address = container.filter(|_| answers).and_then(|c| c.address);
        return Some(match address {
            Some(address) => Target::Live { addresses: vec![*address.ip()] },
            None => Target::Hold,
        });
    }
    if failed {
        return Some(Target::Stopped);
    }
    let started = candidate.is_some_and(|name| {
        view.containers.iter().any(|c| c.name == name && c.state != ContainerState::Created)
    });
    match previous {
        Some(Target::Stopped | Target::Suspended) if !started => previous,
        Some(Target::Live { .. } | Target::Hold) => Some(Target::Hold),
        _ => started.then_some(Target::Hold),
    }
}
