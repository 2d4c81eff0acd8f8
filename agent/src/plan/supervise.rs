//! What serves: kept running, restarted when down, held back when it must make room.

use std::time::Duration;

use buddo_shared::host_wire::manifest::Strategy;
use buddo_shared::model::id::Revision;

use crate::model::cgroup::LimitCheck;
use crate::model::container::{Container, ContainerState};
use crate::model::health::Level;
use crate::model::persisted::Serving;
use crate::model::retries;
use crate::model::spec::{RevisionSpec, WorkloadSpec};
use crate::model::step::{Lane, Step};
use crate::plan::phase::Progress;
use crate::plan::restarts::LastExit;
use crate::plan::state::{Crash, WorkloadState};
use crate::plan::teardown::stuck;
use crate::plan::{Busy, Plan, Seen, View, deadline, messages, revision_to_run};

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
    state: &WorkloadState,
    view: &View<'_>,
    desired: &WorkloadSpec,
    live: Serving,
) -> bool {
    let Some(container) = view.serving(live).filter(|c| c.runs()) else { return false };
    match container.level() {
        Some(Level::Unhealthy) => true,
        Some(Level::Starting) => state.crash.silent_since.is_some_and(|since| {
            view.now.duration_since(since) >= patience(state, container, desired, live)
        }),
        Some(Level::Assumed | Level::Healthy) | None => false,
    }
}

/// How long what serves may take to answer after a start.
fn patience(
    state: &WorkloadState,
    container: Seen<'_>,
    desired: &WorkloadSpec,
    live: Serving,
) -> Duration {
    let whole = deadline(RevisionSpec::probe_of(desired, live.revision));
    if state.crash.torn || container.is_unreachable() { whole.min(TORN) } else { whole }
}

/// How what serves stands.
#[derive(Debug, Clone, Copy)]
pub(super) struct Supervised {
    /// It is held back on purpose: visitors wait.
    pub(super) holding: bool,
    /// How far the wanted revision is, where that is what serves.
    pub(super) progress: Progress<'static>,
}

impl Supervised {
    const NOTHING: Self = Self { holding: false, progress: Progress::Waits };
    const HELD: Self = Self { holding: true, progress: Progress::Waits };
}

/// Restarts what serves when it is down, and holds it back where it must make room (`recreate`).
pub(super) fn supervise(
    state: &mut WorkloadState,
    view: &View<'_>,
    desired: &WorkloadSpec,
    plan: &mut Plan,
) -> Supervised {
    let Some(live) = state.persisted.live else { return Supervised::NOTHING };
    let Some(container) = view.serving(live) else { return Supervised::NOTHING };
    let spec = revision_to_run(state, desired);
    let is_wanted = spec.is_some_and(|spec| spec.revision == live.revision);
    let mut progress = Progress::Serves;
    if spec.is_some_and(|spec| stands_aside(state, &spec, live)) {
        // serving → held: stop it once no request is on its way to it; it is kept for a return
        stop_soon(state, view, live, container, plan);
        if !container.runs() {
            // It did not crash, and is started at once if it has to serve again.
            state.crash = Crash { down: true, ..Crash::default() };
        }
        return Supervised::HELD;
    }
    // No document describes how to make another one like it any longer, and nothing forwards to
    // this one until it is restarted. A wanted revision would take its place.
    if spec.is_none() && container.is_unreachable() && sick(state, view, desired, live) {
        stop_soon(state, view, live, container, plan);
        return Supervised::HELD;
    }
    match container.state {
        ContainerState::Running => {
            restock(state, view, desired, live.revision, plan);
            state.crash.down = false;
            state.crash.ran = true;
            state.paused.remove(&container.name);
            let level = container.level();
            // It is watched from this plan on.
            let torn = level.is_none() && state.crash.torn;
            state.crash.silent_since = (level == Some(Level::Starting) || torn)
                .then(|| state.crash.silent_since.unwrap_or(view.now));
            if let Some(since) = state.crash.silent_since {
                let due = since + patience(state, container, desired, live);
                if view.now < due {
                    plan.wake_at(due);
                }
            }
            if level == Some(Level::Healthy) {
                state.crash.torn = false;
                let since = *state.crash.healthy_since.get_or_insert(view.now);
                if view.now.duration_since(since) >= FORGIVEN {
                    state.crash.count = 0;
                }
            }
            if level == Some(Level::Starting) && is_wanted {
                progress = Progress::Restarts;
                plan.failure = Some(messages::restarting(None, state.crash.count));
            } else if matches!(container.limits, LimitCheck::Broken(_)) {
                // It keeps serving: it did before anybody looked.
                plan.failure = messages::limits_not_held(container.limits);
            }
        }
        // It is being stopped: it ends, or gets stuck and is removed.
        ContainerState::Stopping => {
            // Once it is stuck, the end of what stops it comes first: a time that has passed would only
            // make the loop spin until then.
            let due = state.stopping_since(&container.name, view.now) + stuck(view);
            if view.now < due {
                plan.wake_at(due);
            }
        }
        ContainerState::Created | ContainerState::Exited(_) | ContainerState::Broken => {
            revive(state, view, desired, live.revision, &container, plan);
            progress = Progress::Restarts;
        }
    }
    Supervised { holding: false, progress: if is_wanted { progress } else { Progress::Waits } }
}

/// Stops a container that visitors are no longer sent to, after a moment for those already on their
/// way.
fn stop_soon(
    state: &mut WorkloadState,
    view: &View<'_>,
    live: Serving,
    container: Seen<'_>,
    plan: &mut Plan,
) {
    let since = *state.paused.entry(container.name.clone()).or_insert(view.now);
    let drained = since + view.rules.drain.before_stop.min(STEP_ASIDE);
    let due = state.cooling(view.now).map_or(drained, |at| at.max(drained));
    if view.now < due {
        plan.wake_at(due);
    } else if container.runs() && view.busy == &Busy::default() {
        plan.add(Lane::Roll, live.revision, [Step::Stop(container.name.clone())]);
    }
}

/// serving → down → serving: at once the first time, then ever more slowly.
fn revive(
    state: &mut WorkloadState,
    view: &View<'_>,
    desired: &WorkloadSpec,
    revision: Revision,
    container: &Container,
    plan: &mut Plan,
) {
    let code = match container.state {
        ContainerState::Exited(code) => Some(code),
        _ => None,
    };
    let watched = state.watches(revision);
    let crash = &mut state.crash;
    if !crash.down && view.busy.serve.is_none() {
        if std::mem::take(&mut crash.ran) && watched {
            state.failure_history.get_or_insert_default().ended(code, view.now);
        }
        state.last_exit = Some(LastExit::new(code, view.now, view.wall));
        crash.down = true;
        crash.healthy_since = None;
        crash.silent_since = None;
        state.restarts.seen(revision, view.now);
        let wait = match crash.count {
            0 => Duration::ZERO,
            count => retries::CRASH.delay(count - 1, view.jitter),
        };
        crash.count = crash.count.saturating_add(1);
        crash.not_before = Some(view.now + wait);
    }
    let lacks = crash.lacks.as_ref().map(|lacks| lacks.0.clone());
    plan.failure = lacks.or_else(|| Some(messages::restarting(code, crash.count)));
    if let Some(at) = crash.not_before.filter(|at| *at > view.now) {
        plan.wake_at(at);
        return;
    }
    // Its last words are lost once it runs again. If they cannot be read, it is started anyway.
    let last_words = watched && crash.refusals == 0 && code.is_some();
    if view.busy.serve.is_some() || !restock(state, view, desired, revision, plan) {
        return;
    }
    let name = || container.name.clone();
    let inspect = last_words.then(|| Step::InspectExit(name()));
    let start = [Step::Start(name()), Step::Watch(name())];
    // Where no document says how to make another one, visitors are better off with this one.
    let again = RevisionSpec::of(desired, revision).is_some();
    state.restarted = state.persisted.live.filter(|_| again);
    plan.add(Lane::Serve, revision, inspect.into_iter().chain(start));
}

/// Restores secrets that the next start of what serves needs and Podman does not hold. Returns
/// whether it can be started after that.
fn restock(
    state: &WorkloadState,
    view: &View<'_>,
    desired: &WorkloadSpec,
    revision: Revision,
    plan: &mut Plan,
) -> bool {
    let lacks = RevisionSpec::of(desired, revision).is_some_and(|w| view.lacks_secrets(state, &w));
    if !lacks {
        return true;
    }
    if let Some(at) = state.restock.map(|(at, _)| at).filter(|at| *at > view.now) {
        plan.wake_at(at);
        return false;
    }
    if view.busy.serve.is_none() {
        plan.add(Lane::Serve, revision, [Step::PutSecrets]);
    }
    true
}

/// Whether what serves makes room for the wanted revision before that one is started.
fn stands_aside(state: &WorkloadState, spec: &RevisionSpec<'_>, live: Serving) -> bool {
    spec.strategy == Strategy::Recreate
        && live.revision != spec.revision
        && state
            .attempt
            .as_ref()
            .is_some_and(|attempt| attempt.revision == Some(spec.revision) && attempt.image_ready)
}
