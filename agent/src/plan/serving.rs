//! A workload that should serve: keep what serves, roll out what is wanted, switch, retire.
//!
//! ```text
//!   nothing ──► image ──► created ──► running ──► healthy ──► live ──► retired
//!                │          │ exits ×3  │ start deadline        │ exits: started again, back-off
//!                ▼          ▼           ▼                       │ sick: replaced in the other slot
//!              given up (a revision that once served: tried again instead)
//! ```
//!
//! A sick container (it runs and fails its probes) is replaced in the other slot and keeps getting
//! requests meanwhile: it may still answer some of them, while a restart would answer none. A
//! crashed one is started in place: no other container could be there sooner.

use crate::model::cgroup::LimitCheck;
use crate::model::container::{Container, ContainerState};
use crate::model::health::{Level, Tracker};
use crate::model::live_table::Target;
use crate::model::persisted::Serving;
use crate::model::spec::{RevisionSpec, WorkloadSpec};
use crate::model::step::{Lane, Step};
use crate::plan::phase::Situation;
use crate::plan::rollout::{Rollout, roll_out};
use crate::plan::state::WorkloadState;
use crate::plan::supervise::{Supervised, sick, supervise};
use crate::plan::{
    Plan, Probed, Seen, View, deadline, messages, phase, revision_to_run, rollback, teardown,
};

/// After this many refusals to start what serves, its container is recreated.
const MAX_START_REFUSALS: u32 = 3;

pub(super) fn serve(state: &mut WorkloadState, view: &View<'_>, desired: &WorkloadSpec) -> Plan {
    let mut plan = Plan::new();
    note_stopping(state, view);
    forget_lost(state, view, desired);
    adopt_or_switch(state, view, desired);
    let Supervised { holding, progress } = supervise(state, view, desired, &mut plan);
    rollback::watch_for_rollback(state, view, desired, &mut plan);
    let rollout = revision_to_run(state, desired)
        .map(|spec| roll_out(state, view, desired, &spec, &mut plan, holding));
    let Rollout { candidate, progress: rolled } = rollout.unwrap_or_default();

    // It may just have been given up; the next pass then wants another one.
    let wanted = revision_to_run(state, desired).map(|spec| spec.revision);
    let failed = wanted.is_none();
    let live = state.persisted.live.map(|live| match view.serving(live) {
        Some(container) => container.name.clone(),
        None => view.name(live.revision, live.slot),
    });
    let keep = [live.as_deref(), candidate.as_deref()];
    let grace = (live.is_none() && !failed).then_some(deadline(&desired.service().probe));
    plan.target = target(state, view, desired, candidate.as_deref(), failed, holding);
    teardown::retire(state, view, &mut plan, &keep, grace);
    teardown::forget_secrets(state, view, &mut plan, wanted);

    probe(state, view, live.as_deref(), candidate.as_deref(), &mut plan);
    end_orphans(state, view, &mut plan);
    plan.container = live.or(candidate);
    let answers = matches!(plan.target, Some(Target::Live { .. }));
    let progress = rolled.unwrap_or(progress);
    let situation = given_up(state, view, desired, &mut plan, answers);
    plan.phase = phase::of(situation.unwrap_or(Situation::Wanted { progress, answers }));
    plan
}

/// An orphan served visitors until it was missed. It is ended once visitors have
/// been sent elsewhere, or held, for the drain time.
fn end_orphans(state: &WorkloadState, view: &View<'_>, plan: &mut Plan) {
    if let Some(since) = state.in_force.filter(|_| plan.target == state.target) {
        teardown::end_orphans(state, view, plan, since + view.rules.drain.before_stop);
    }
}

/// What is said of a desired revision that was given up, if it was.
fn given_up(
    state: &WorkloadState,
    view: &View<'_>,
    desired: &WorkloadSpec,
    plan: &mut Plan,
    answers: bool,
) -> Option<Situation<'static>> {
    let failures = &state.persisted.failures;
    let failure = failures.get(&desired.revision())?;
    let fallback = RevisionSpec::fallback(desired).map(|fallback| fallback.revision);
    let rolled_back = state.was_rolled_back_by_itself(desired.revision());
    let failed = fallback.and_then(|revision| Some((revision, failures.get(&revision)?)));
    plan.failure = Some(match failed {
        Some((revision, why)) => messages::not_rolled_back(failure, revision, why),
        None => failure.clone(),
    });
    plan.fallback = fallback.filter(|_| rolled_back && failed.is_none());
    let comes_back = revision_to_run(state, desired).is_some();
    let free = plan.steps(Lane::Roll).is_empty() && view.busy.roll.is_none();
    // Given up in this very plan: the next one rolls out the fallback.
    if comes_back && free && state.persisted.live.is_none() && state.attempt.is_none() {
        plan.wake_at(view.now);
    }
    let something_serves = state.persisted.live.is_some() || comes_back;
    Some(Situation::GivenUp { rolled_back, something_serves, answers })
}

/// Whether a container is stuck stopping counts from when its stop is carried out, not from when it
/// was due: while Podman does not answer, a stop comes late.
fn note_stopping(state: &mut WorkloadState, view: &View<'_>) {
    let stops = |c: &Seen<'_>| c.state == ContainerState::Stopping;
    state.stopping.retain(|name, _| view.containers.iter().any(|c| stops(c) && c.name == *name));
    for container in view.containers.iter().filter(|c| stops(c)) {
        state.stopping.entry(container.name.clone()).or_insert(view.now);
    }
}

/// A container that served and is gone, or beyond repair, no longer serves.
fn forget_lost(state: &mut WorkloadState, view: &View<'_>, desired: &WorkloadSpec) {
    let Some(live) = state.persisted.live else { return };
    let stuck = |container: &Container| {
        let since = state.stopping_since(&container.name, view.now);
        view.now.duration_since(since) >= teardown::stuck(view)
    };
    let lost = match view.serving(live) {
        None => true,
        Some(container) => match container.state {
            ContainerState::Broken => true,
            ContainerState::Stopping => stuck(&container) && !is_leaving(view, &container),
            ContainerState::Running if is_broken(container) => is_on_trial(state, desired, live),
            _ => state.crash.refusals >= MAX_START_REFUSALS,
        },
    };
    // While an operation runs, a list may be older than its effect.
    if lost && view.busy.serve.is_none() {
        state.persisted.live = None;
        state.crash = crate::plan::state::Crash::default();
    }
}

fn is_broken(container: Seen<'_>) -> bool {
    matches!(container.limits, LimitCheck::Broken(_))
}

/// Whether what serves was started again by this agent, so that its limits have to be known before
/// it gets visitors; and whether the document still says how to make another one like it.
fn is_on_trial(state: &WorkloadState, desired: &WorkloadSpec, live: Serving) -> bool {
    state.restarted == Some(live) && RevisionSpec::of(desired, live.revision).is_some()
}

/// If nothing serves, whichever container answers does from now on. If something serves and the
/// wanted one answers too, the wanted one takes over.
fn adopt_or_switch(state: &mut WorkloadState, view: &View<'_>, desired: &WorkloadSpec) {
    let wanted = revision_to_run(state, desired).map(|spec| spec.revision);
    let answers = view.containers.iter().filter(|container| {
        container.runs()
            && !is_leaving(view, container)
            && container.is_held()
            // Its last probe must be good: it may have ended or hung while Podman was away.
            && container.tracker.is_some_and(Tracker::is_steady)
    });
    let answering = answers
        .filter_map(|container| container.identity)
        .filter(|identity| !state.persisted.failures.contains_key(&identity.revision));
    let chosen = match state.persisted.live {
        // nothing → serving: the wanted revision, or else the newest
        None => answering.max_by_key(|i| (Some(i.revision) == wanted, i.revision)),
        // serving → the wanted revision, or a fresh container instead of a sick one
        Some(live) => answering.filter(|i| Some(i.revision) == wanted).find(|i| {
            i.slot != live.slot && (live.revision != i.revision || sick(state, view, desired, live))
        }),
    };
    if let Some(identity) = chosen {
        let revision = identity.revision;
        let replaced = state.persisted.live.filter(|live| live.revision == revision);
        if replaced.is_some_and(|live| !view.serving(live).is_some_and(Seen::is_unreachable)) {
            // It counts as ended: another container had to take its place.
            state.failure_history().ended(None, view.now);
        }
        if replaced.is_some() {
            state.restarts.seen(revision, view.now);
        }
        state.persisted.live = Some(Serving { revision, slot: identity.slot });
        state.crash = crate::plan::state::Crash::default();
        if state.persisted.proven.insert(revision) && revision == desired.revision() {
            rollback::begin_watch(state, view, desired);
        }
        if Some(revision) == wanted {
            state.attempt = None;
        }
    }
}

/// Whether it is being stopped or removed, or will be by an operation under way: it may still
/// answer, but not for long.
fn is_leaving(view: &View<'_>, container: &Container) -> bool {
    let mut steps = view.busy.roll.iter().chain(&view.busy.roll_next);
    steps.any(|step| match step {
        Step::Stop(name) | Step::Remove(name) => *name == container.name,
        _ => false,
    })
}

/// `live` and `candidate` are names of containers.
fn probe(
    state: &WorkloadState,
    view: &View<'_>,
    live: Option<&str>,
    candidate: Option<&str>,
    plan: &mut Plan,
) {
    for container in view.containers.iter().filter(|c| c.runs()) {
        let (Some(identity), Some(address)) = (container.identity, container.address) else {
            continue;
        };
        let serves = live == Some(&container.name);
        let wanted = candidate == Some(&container.name);
        // Nothing serves: any running container may turn out to answer.
        let given_up = state.persisted.failures.contains_key(&identity.revision);
        let orphan = live.is_none() && !given_up;
        if serves || wanted || orphan {
            // Visitors were held when the agent went, or nobody can say where they were sent: it is
            // not known to answer and must show that first.
            let assumed = serves && matches!(state.target, Some(Target::Live { .. }));
            plan.probes.push(Probed {
                name: container.name.clone(),
                revision: identity.revision,
                address,
                serves,
                assumed,
            });
        }
    }
}

/// Where visitors go.
///
/// A first deploy has no target ('no such app') until its container runs: only then is the wait
/// short enough to hold requests. An app that was stopped keeps its page until then.
fn target(
    state: &WorkloadState,
    view: &View<'_>,
    desired: &WorkloadSpec,
    candidate: Option<&str>,
    failed: bool,
    holding: bool,
) -> Option<Target> {
    let previous = state.target.as_ref();
    if let Some(live) = state.persisted.live {
        let container = view.serving(live).filter(|c| c.runs() && !holding && !is_leaving(view, c));
        let container = container.filter(|c| c.is_held() || !is_on_trial(state, desired, live));
        let level = container.and_then(Seen::level);
        // No tracker yet: it was adopted in this very pass, and stays as it was.
        let answers = level.map_or(matches!(previous, Some(Target::Live { .. })), Level::may_serve);
        let address = container.filter(|_| answers).and_then(|c| c.address);
        return Some(match address {
            Some(address) => Target::Live { addresses: smallvec::smallvec![*address.ip()] },
            None => Target::Hold,
        });
    }
    if failed {
        return Some(Target::Stopped);
    }
    let started = candidate.is_some_and(|name| {
        view.containers.iter().any(|c| c.name == name && c.state != ContainerState::Created)
    });
    // After the loss of all persisted state: an older container runs that may prove to answer, or
    // was stopped to make room. So this is not a first deploy.
    let older = |name: &str| candidate.is_some_and(|candidate| candidate != name);
    let runs = started || view.containers.iter().any(|c| c.runs() || older(&c.name));
    match previous {
        Some(Target::Stopped | Target::Suspended) if !started => previous.cloned(),
        Some(_) => Some(Target::Hold),
        None => runs.then_some(Target::Hold),
    }
}
