//! What serves: kept running, started again when it is down, held back when it shall make room.

use std::time::Duration;

use buddo_shared::manifest::{Desired, Strategy};
use buddo_shared::report::Phase;

use super::away::STUCK;
use super::{Busy, Plan, Tracker, View, deadline, is_running, words};
use crate::backoff::Backoff;
use crate::health::Level;
use crate::memory::{Memory, Serving};
use crate::ports::{Container, ContainerState};
use crate::step::Step;

/// What makes room is stopped so long after visitors were last sent to it, at most: the edge holds
/// them for 10 s, and the new container needs most of that. Requests still under way have the time
/// between SIGTERM and SIGKILL.
const STEP_ASIDE: Duration = Duration::from_millis(1_500);

/// Crashes are forgotten after so long in health.
const FORGIVEN: Duration = Duration::from_mins(10);

/// Whether what serves runs and does not answer: it fails its probes, or it was started again and
/// was silent for as long as a new container may be.
pub(super) fn sick(memory: &Memory, view: &View<'_>, desired: &Desired, live: Serving) -> bool {
    let container = view.serving(live).filter(|container| is_running(container));
    match container.and_then(|container| view.tracker(container)).map(Tracker::level) {
        Some(Level::Unhealthy) => true,
        Some(Level::Starting) => memory
            .crash
            .silent_since
            .is_some_and(|since| view.now.duration_since(since) >= deadline(desired)),
        Some(Level::Assumed | Level::Healthy) | None => false,
    }
}

/// Restarts what serves when it is down. True while it is held back on purpose (`recreate`).
pub(super) fn keep_serving(
    memory: &mut Memory,
    view: &View<'_>,
    desired: &Desired,
    plan: &mut Plan,
) -> bool {
    let Some(live) = memory.durable.live else { return false };
    let Some(container) = view.serving(live) else { return false };
    if live.revision == desired.revision {
        plan.phase = Phase::Live;
    }
    if stands_aside(memory, desired, live) {
        // serving → held: stop it once nothing is on its way to it; it is kept for a return
        let since = *memory.paused.entry(container.name.clone()).or_insert(view.now);
        let drained = since + view.rules.drain.before_stop.min(STEP_ASIDE);
        let due = memory.cooling(view.now).map_or(drained, |at| at.max(drained));
        if view.now < due {
            plan.wake_at(due);
        } else if is_running(container) && view.busy == &Busy::default() {
            plan.roll.push(Step::Stop(container.name.clone()));
        }
        return true;
    }
    match container.state {
        ContainerState::Running => {
            memory.crash.down = false;
            memory.paused.remove(&container.name);
            let level = view.tracker(container).map(Tracker::level);
            memory.crash.silent_since = (level == Some(Level::Starting))
                .then(|| memory.crash.silent_since.unwrap_or(view.now));
            if let Some(since) = memory.crash.silent_since {
                let due = since + deadline(desired);
                if view.now < due {
                    plan.wake_at(due);
                }
            }
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
        crash.silent_since = None;
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
