//! A deployment that should serve: keep what serves, roll out what is wanted, switch, retire.
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

use buddo_shared::manifest::DeploymentSpec;
use buddo_shared::report::Phase;

use crate::model::container::{Container, ContainerState};
use crate::model::health::Level;
use crate::model::live_table::Target;
use crate::model::spec::RevisionSpec;
use crate::model::step::Step;
use crate::plan::rollout::bring_in;
use crate::plan::state::{DeploymentState, Serving};
use crate::plan::supervise::{keep_serving, sick};
use crate::plan::{Plan, Seen, View, Watched, deadline, messages, rollback, teardown, wanted};

/// After this many refusals to start what serves, its container is recreated.
const MAX_START_REFUSALS: u32 = 3;

pub(super) fn serve(
    memory: &mut DeploymentState,
    view: &View<'_>,
    desired: &DeploymentSpec,
) -> Plan {
    let mut plan = Plan::new(Phase::Accepted);
    note_stopping(memory, view);
    forget_lost(memory, view);
    adopt_or_switch(memory, view, desired);
    let holding = keep_serving(memory, view, desired, &mut plan);
    rollback::stand_guard(memory, view, desired, &mut plan);
    let candidate = wanted(memory, desired)
        .and_then(|wanted| bring_in(memory, view, desired, &wanted, &mut plan, holding));

    // It may just have been given up; the next pass then wants another one.
    let wanted = wanted(memory, desired).map(|wanted| wanted.revision);
    let failed = wanted.is_none();
    let live = memory.persisted.live.map(|live| match view.serving(live) {
        Some(container) => container.name.clone(),
        None => view.name(live.revision, live.slot),
    });
    let keep = [live.as_deref(), candidate.as_deref()];
    let grace = (live.is_none() && !failed).then_some(deadline(&desired.probe));
    plan.target = target(memory, view, candidate.as_deref(), failed, holding);
    teardown::retire(memory, view, &mut plan, &keep, grace);
    teardown::forget_secrets(memory, view, &mut plan, wanted);

    watch(memory, view, live.as_deref(), candidate.as_deref(), &mut plan);
    end_lost(memory, view, &mut plan);
    if plan.phase == Phase::Live && !matches!(plan.target, Some(Target::Live { .. })) {
        // It was restarted and is not probed yet: visitors are held.
        plan.phase = Phase::Starting;
    }
    plan.container = live.or(candidate);
    plan.revision = Some(wanted.unwrap_or(desired.revision));
    tell_failure(memory, view, desired, &mut plan);
    plan
}

/// A container that Podman lost served visitors until it was missed. It is ended once visitors have
/// been sent elsewhere, or held, for the drain time.
fn end_lost(memory: &DeploymentState, view: &View<'_>, plan: &mut Plan) {
    if let Some(since) = memory.in_force.filter(|_| plan.target == memory.target) {
        teardown::end_lost(memory, view, plan, since + view.rules.drain.before_stop);
    }
}

/// The phase of a desired revision that was given up.
fn tell_failure(
    memory: &DeploymentState,
    view: &View<'_>,
    desired: &DeploymentSpec,
    plan: &mut Plan,
) {
    let failures = &memory.persisted.failures;
    let Some(failure) = failures.get(&desired.revision) else { return };
    let fallback = RevisionSpec::fallback(desired).map(|fallback| fallback.revision);
    let given_back = memory.was_put_back(desired.revision);
    let lost = fallback.and_then(|revision| Some((revision, failures.get(&revision)?)));
    plan.failure = Some(match lost {
        Some((revision, why)) => messages::not_put_back(failure, revision, why),
        None => failure.clone(),
    });
    plan.put_back = fallback.filter(|_| given_back && lost.is_none());
    let comes_back = memory.persisted.live.is_some() || wanted(memory, desired).is_some();
    let answers = matches!(plan.target, Some(Target::Live { .. }));
    // 'Failed, and nothing serves' is final: the coordinator then has the app stopped. So it is not
    // reported while what served before is on its way back.
    plan.phase =
        if comes_back && !answers && !given_back { Phase::Starting } else { Phase::Failed };
    if wanted(memory, desired).is_some() && plan.roll.is_empty() && view.busy.roll.is_none() {
        let idle = memory.persisted.live.is_none() && memory.attempt.is_none();
        // Given up in this very plan: the next one rolls out the fallback.
        if idle {
            plan.wake_at(view.now);
        }
    }
}

/// Whether a container is stuck stopping counts from when its stop is carried out, not from when it
/// was due: while Podman does not answer, a stop comes late.
fn note_stopping(memory: &mut DeploymentState, view: &View<'_>) {
    let stops = |c: &Seen<'_>| c.state == ContainerState::Stopping;
    memory.stopping.retain(|name, _| view.containers.iter().any(|c| stops(c) && c.name == *name));
    for container in view.containers.iter().filter(|c| stops(c)) {
        memory.stopping.entry(container.name.clone()).or_insert(view.now);
    }
}

/// A container that served and is gone, or beyond repair, no longer serves.
fn forget_lost(memory: &mut DeploymentState, view: &View<'_>) {
    let Some(live) = memory.persisted.live else { return };
    let stuck = |container: &Container| {
        let since = memory.stopping_since(&container.name, view.now);
        view.now.duration_since(since) >= teardown::stuck(view)
    };
    let lost = match view.serving(live) {
        None => true,
        Some(container) => match container.state {
            ContainerState::Broken => true,
            ContainerState::Stopping => stuck(&container) && !is_leaving(view, &container),
            _ => memory.crash.refusals >= MAX_START_REFUSALS,
        },
    };
    // While an operation runs, a list may be older than its effect.
    if lost && view.busy.serve.is_none() {
        memory.persisted.live = None;
        memory.crash = crate::plan::state::Crash::default();
    }
}

/// If nothing serves, whichever container answers does from now on. If something serves and the
/// wanted one answers too, the wanted one takes over.
fn adopt_or_switch(memory: &mut DeploymentState, view: &View<'_>, desired: &DeploymentSpec) {
    let wanted = wanted(memory, desired).map(|wanted| wanted.revision);
    let answers = view.containers.iter().filter(|container| {
        container.runs()
            && !is_leaving(view, container)
            && container.level() == Some(Level::Healthy)
    });
    let answering = answers
        .filter_map(|container| container.identity)
        .filter(|identity| !memory.persisted.failures.contains_key(&identity.revision));
    let chosen = match memory.persisted.live {
        // nothing → serving: the wanted revision, or else the newest
        None => answering.max_by_key(|i| (Some(i.revision) == wanted, i.revision)),
        // serving → the wanted revision, or a fresh container instead of a sick one
        Some(live) => answering.filter(|i| Some(i.revision) == wanted).find(|i| {
            i.slot != live.slot
                && (live.revision != i.revision || sick(memory, view, desired, live))
        }),
    };
    if let Some(identity) = chosen {
        let revision = identity.revision;
        let replaced = memory.persisted.live.filter(|live| live.revision == revision);
        if replaced.is_some_and(|live| !view.serving(live).is_some_and(Seen::is_unreachable)) {
            // It counts as ended: another container had to take its place.
            memory.failure_history.ended(None, view.now);
        }
        if replaced.is_some() {
            memory.restarts.seen(revision, view.now);
        }
        memory.persisted.live = Some(Serving { revision, slot: identity.slot });
        memory.crash = crate::plan::state::Crash::default();
        if memory.persisted.proven.insert(revision) && revision == desired.revision {
            rollback::goes_live(memory, view, desired);
        }
        if Some(revision) == wanted {
            memory.attempt = None;
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
fn watch(
    memory: &DeploymentState,
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
        let given_up = memory.persisted.failures.contains_key(&identity.revision);
        let orphan = live.is_none() && !given_up;
        if serves || wanted || orphan {
            // Visitors were held when the agent went, or nobody can say where they were sent: it is
            // not known to answer and must show that first.
            let assumed = serves && matches!(memory.target, Some(Target::Live { .. }));
            plan.watch.push(Watched {
                name: container.name.clone(),
                revision: identity.revision,
                address,
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
    memory: &DeploymentState,
    view: &View<'_>,
    candidate: Option<&str>,
    failed: bool,
    holding: bool,
) -> Option<Target> {
    let previous = memory.target.as_ref();
    if let Some(live) = memory.persisted.live {
        let container = view.serving(live).filter(|c| c.runs() && !holding && !is_leaving(view, c));
        let level = container.and_then(Seen::level);
        // No tracker yet: it was adopted in this very pass, and stays as it was.
        let answers = level.map_or(matches!(previous, Some(Target::Live { .. })), Level::may_serve);
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
