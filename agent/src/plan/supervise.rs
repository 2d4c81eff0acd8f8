//! What serves: kept running, restarted when down, held back when it must make room.

use std::time::Duration;

use buddo_shared::id::Revision;
use buddo_shared::manifest::{DeploymentSpec, Strategy};
use buddo_shared::report::Phase;

use crate::model::container::{Container, ContainerState};
use crate::model::health::Level;
use crate::model::retries;
use crate::model::spec::RevisionSpec;
use crate::model::step::Step;
use crate::plan::state::{Crash, DeploymentState, Serving};
use crate::plan::teardown::stuck;
use crate::plan::{Busy, Plan, Seen, View, deadline, messages, wanted};

/// What makes room is stopped at most this long after visitors were last sent to it: the edge holds
/// them for 10 s, and the new container needs most of that. Requests still under way have the time
/// between SIGTERM and SIGKILL.
const STEP_ASIDE: Duration = Duration::from_millis(1_500);

/// A container whose start Podman did not finish has this long to answer. Its port may not be
/// forwarded, so that it would stay silent for ever; on a slow host it may only have started late.
pub(super) const TORN: Duration = Duration::from_secs(5);

/// Crashes are forgotten after this long in health.
const FORGIVEN: Duration = Duration::from_mins(10);

/// Whether what serves runs and does not answer: it fails its probes, or was restarted and has been
/// silent for as long as a new container may be.
pub(super) fn sick(
    memory: &DeploymentState,
    view: &View<'_>,
    desired: &DeploymentSpec,
    live: Serving,
) -> bool {
    let Some(container) = view.serving(live).filter(|c| c.runs()) else { return false };
    match container.level() {
        Some(Level::Unhealthy) => true,
        Some(Level::Starting) => memory.crash.silent_since.is_some_and(|since| {
            view.now.duration_since(since) >= patience(memory, container, desired, live)
        }),
        Some(Level::Assumed | Level::Healthy) | None => false,
    }
}

/// How long what serves may take to answer after a start.
fn patience(
    memory: &DeploymentState,
    container: Seen<'_>,
    desired: &DeploymentSpec,
    live: Serving,
) -> Duration {
    let whole = deadline(RevisionSpec::probe_of(desired, live.revision));
    if memory.crash.torn || container.is_unreachable() { whole.min(TORN) } else { whole }
}

/// Restarts what serves when it is down. True while it is held back on purpose (`recreate`).
pub(super) fn keep_serving(
    memory: &mut DeploymentState,
    view: &View<'_>,
    desired: &DeploymentSpec,
    plan: &mut Plan,
) -> bool {
    let Some(live) = memory.persisted.live else { return false };
    let Some(container) = view.serving(live) else { return false };
    let wanted = wanted(memory, desired);
    let is_wanted = wanted.is_some_and(|wanted| wanted.revision == live.revision);
    if is_wanted {
        plan.phase = Phase::Live;
    }
    if wanted.is_some_and(|wanted| stands_aside(memory, &wanted, live)) {
        // serving → held: stop it once no request is on its way to it; it is kept for a return
        stop_soon(memory, view, container, plan);
        if !container.runs() {
            // It did not crash, and is started at once if it has to serve again.
            memory.crash = Crash { down: true, ..Crash::default() };
        }
        return true;
    }
    // No document describes how to make another one like it any longer, and nothing forwards to
    // this one until it is restarted. A wanted revision would take its place.
    if wanted.is_none() && container.is_unreachable() && sick(memory, view, desired, live) {
        stop_soon(memory, view, container, plan);
        return true;
    }
    match container.state {
        ContainerState::Running => {
            restock(memory, view, desired, live.revision, plan);
            memory.crash.down = false;
            memory.crash.ran = true;
            memory.paused.remove(&container.name);
            let level = container.level();
            // It is watched from this plan on.
            let torn = level.is_none() && memory.crash.torn;
            memory.crash.silent_since = (level == Some(Level::Starting) || torn)
                .then(|| memory.crash.silent_since.unwrap_or(view.now));
            if let Some(since) = memory.crash.silent_since {
                let due = since + patience(memory, container, desired, live);
                if view.now < due {
                    plan.wake_at(due);
                }
            }
            if level == Some(Level::Healthy) {
                memory.crash.torn = false;
                let since = *memory.crash.healthy_since.get_or_insert(view.now);
                if view.now.duration_since(since) >= FORGIVEN {
                    memory.crash.count = 0;
                }
            }
            if level == Some(Level::Starting) && is_wanted {
                plan.phase = Phase::Starting;
                plan.failure = Some(messages::restarting(None, memory.crash.count));
            }
        }
        // It is being stopped: it ends, or gets stuck and is removed.
        ContainerState::Stopping => {
            plan.wake_at(memory.stopping_since(&container.name, view.now) + stuck(view));
        }
        ContainerState::Created | ContainerState::Exited(_) | ContainerState::Broken => {
            revive(memory, view, desired, live.revision, &container, plan);
            if is_wanted {
                plan.phase = Phase::Starting;
            }
        }
    }
    false
}

/// Stops a container that visitors are no longer sent to, after a moment for those already on their
/// way.
fn stop_soon(memory: &mut DeploymentState, view: &View<'_>, container: Seen<'_>, plan: &mut Plan) {
    let since = *memory.paused.entry(container.name.clone()).or_insert(view.now);
    let drained = since + view.rules.drain.before_stop.min(STEP_ASIDE);
    let due = memory.cooling(view.now).map_or(drained, |at| at.max(drained));
    if view.now < due {
        plan.wake_at(due);
    } else if container.runs() && view.busy == &Busy::default() {
        plan.roll.push(Step::Stop(container.name.clone()));
    }
}

/// serving → down → serving: at once the first time, then ever more slowly.
fn revive(
    memory: &mut DeploymentState,
    view: &View<'_>,
    desired: &DeploymentSpec,
    revision: Revision,
    container: &Container,
    plan: &mut Plan,
) {
    let code = match container.state {
        ContainerState::Exited(code) => Some(code),
        _ => None,
    };
    let guarded = memory.guards(revision);
    let crash = &mut memory.crash;
    if !crash.down && view.busy.serve.is_none() {
        if std::mem::take(&mut crash.ran) && guarded {
            memory.failure_history.ended(code, view.now);
        }
        crash.down = true;
        crash.healthy_since = None;
        crash.silent_since = None;
        memory.restarts.seen(revision, view.now);
        let wait = match crash.count {
            0 => Duration::ZERO,
            count => retries::CRASH.delay(count - 1, view.jitter),
        };
        crash.count = crash.count.saturating_add(1);
        crash.not_before = Some(view.now + wait);
    }
    let lacks = crash.lacks.as_ref().map(|(failure, _)| failure.clone());
    plan.failure = lacks.or_else(|| Some(messages::restarting(code, crash.count)));
    if let Some(at) = crash.not_before.filter(|at| *at > view.now) {
        plan.wake_at(at);
        return;
    }
    // Its last words are lost once it runs again. If they cannot be read, it is started anyway.
    let last_words = guarded && crash.refusals == 0 && code.is_some();
    if view.busy.serve.is_some() || !restock(memory, view, desired, revision, plan) {
        return;
    }
    let name = || container.name.clone();
    plan.serve.extend(last_words.then(|| Step::InspectExit(name())));
    plan.serve.extend([Step::Start(name()), Step::Watch(name())]);
}

/// Restores secrets that the next start of what serves needs and Podman does not hold. Returns
/// whether it can be started after that.
fn restock(
    memory: &DeploymentState,
    view: &View<'_>,
    desired: &DeploymentSpec,
    revision: Revision,
    plan: &mut Plan,
) -> bool {
    let lacks = RevisionSpec::of(desired, revision).is_some_and(|w| view.lacks_secrets(memory, &w));
    if !lacks {
        return true;
    }
    if let Some(at) = memory.restock.map(|(at, _)| at).filter(|at| *at > view.now) {
        plan.wake_at(at);
        return false;
    }
    if view.busy.serve.is_none() {
        plan.serve.push(Step::PutSecrets);
    }
    true
}

/// Whether what serves makes room for the wanted revision before that one is started.
fn stands_aside(memory: &DeploymentState, wanted: &RevisionSpec<'_>, live: Serving) -> bool {
    wanted.strategy == Strategy::Recreate
        && live.revision != wanted.revision
        && memory
            .attempt
            .as_ref()
            .is_some_and(|attempt| attempt.revision == Some(wanted.revision) && attempt.image_ready)
}
