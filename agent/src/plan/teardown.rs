//! Removing containers: after a switch, on stop, on destroy.

use std::time::Duration;

use buddo_shared::model::id::Revision;
use tokio::time::Instant;

use crate::model::container::{ContainerState, Identity};
use crate::model::health::Level;
use crate::model::live_table::Target;
use crate::model::persisted::RollbackWatch;
use crate::model::spec::WorkloadSpec;
use crate::model::step::{Lane, Step};
use crate::plan::phase::Situation;
use crate::plan::state::{Crash, WorkloadState};
use crate::plan::{Plan, Seen, View, phase};

/// Podman kills what does not end within the grace, and may take this much longer to report it.
const BEYOND_GRACE: Duration = Duration::from_secs(5);

/// After this many failed stops, a container is removed by force without another stop.
const MAX_STOPS: u32 = 3;

/// A container that Podman shows as stopping for longer than this is removed by force: whatever was
/// stopping it is gone, for instance a Podman service that was killed meanwhile.
pub(super) fn stuck(view: &View<'_>) -> Duration {
    view.rules.drain.stop_grace + BEYOND_GRACE
}

/// The workload should not exist.
pub(super) fn remove(state: &mut WorkloadState, view: &View<'_>) -> Plan {
    let mut plan = Plan::new();
    let nothing_left = take_down(state, view, &mut plan);
    plan.gone = nothing_left && view.rules.secrets_known && state.secrets.is_empty();
    plan
}

/// The workload should not exist, but is all that answers visitors: it stays until a wanted replica
/// answers, or it ends. It is neither probed nor started again, because the document no longer says
/// how.
pub(super) fn stand_in(state: &mut WorkloadState, view: &View<'_>) -> Option<Plan> {
    let answers = matches!(state.target, Some(Target::Live { .. }));
    let live = state.persisted.live.filter(|_| view.stands_in && answers)?;
    let serving = view.serving(live).filter(|container| container.runs())?;
    let mut plan = Plan::new();
    plan.target.clone_from(&state.target);
    plan.container = Some(serving.name.clone());
    plan.phase = phase::of(Situation::TakenDown { nothing_left: false });
    retire(state, view, &mut plan, &[Some(&serving.name)], None);
    Some(plan)
}

/// The workload should exist but not run.
pub(super) fn stop(state: &mut WorkloadState, view: &View<'_>, page: Target) -> Plan {
    let mut plan = Plan::new();
    plan.target = Some(page);
    let revision = view.desired.map(WorkloadSpec::revision);
    plan.given_up = revision.and_then(|r| state.persisted.failures.get(&r)).cloned();
    take_down(state, view, &mut plan);
    plan
}

/// Removes all containers, and then what is left of them. Returns whether nothing runs here.
fn take_down(state: &mut WorkloadState, view: &View<'_>, plan: &mut Plan) -> bool {
    state.persisted.live = None;
    state.attempt = None;
    state.crash = Crash::default();
    // Decisions stay; a stopped revision is no longer watched.
    if matches!(state.persisted.rollback_watch, Some(RollbackWatch::Watching { .. })) {
        state.end_watch();
    }
    retire(state, view, plan, &[], Some(view.rules.drain.before_stop));
    let idle = view.busy.roll.is_none() && view.busy.serve.is_none();
    let no_container = view.containers.is_empty() && idle;
    let nothing_left = no_container && state.orphans.is_empty();
    if nothing_left {
        forget_secrets(state, view, plan, None);
    } else if no_container {
        end_orphans(state, view, plan, view.now);
    }
    plan.phase = phase::of(Situation::TakenDown { nothing_left });
    nothing_left
}

/// From `due` on, ends its orphans.
pub(super) fn end_orphans(state: &WorkloadState, view: &View<'_>, plan: &mut Plan, due: Instant) {
    let Some(revision) = state.orphans.values().next().copied() else { return };
    if view.busy.roll.is_some() || !plan.steps(Lane::Roll).is_empty() {
        return;
    }
    let due = state.cooling(view.now).map_or(due, |at| at.max(due));
    if view.now < due {
        plan.wake_at(due);
    } else {
        plan.add(Lane::Roll, revision, state.orphans.keys().map(|slot| Step::EndOrphans(*slot)));
    }
}

/// Removes every container whose name is not in `keep`. Where nothing serves, running ones get
/// `grace` first, to show that they answer and can be adopted; except those that were given up.
pub(super) fn retire(
    state: &mut WorkloadState,
    view: &View<'_>,
    plan: &mut Plan,
    keep: &[Option<&str>],
    grace: Option<Duration>,
) {
    let kept = |name: &str| keep.contains(&Some(name));
    state.retiring.retain(|name, _| !kept(name));
    // A container being rolled out goes first: stopping an old one can take its whole grace.
    let free = view.busy.roll.is_none() && plan.steps(Lane::Roll).is_empty();
    for container in view.containers.iter().filter(|c| !kept(&c.name)) {
        let since = *state.retiring.entry(container.name.clone()).or_insert(view.now);
        let given_up = |i: Identity| state.persisted.failures.contains_key(&i.revision);
        let hopeful = container.runs() && !container.identity.is_some_and(given_up);
        let wait = grace.filter(|_| hopeful);
        let wait = wait.unwrap_or_else(|| rest(state, view, plan, *container));
        let due = match state.cleanup {
            Some((not_before, _)) => not_before.max(since + wait),
            None => since + wait,
        };
        if view.now < due {
            plan.wake_at(due);
        } else if let Some(identity) = container.identity.filter(|_| free) {
            let refused = state.stops_failed.get(&container.name).copied().unwrap_or_default();
            let stop = (container.runs() && refused < MAX_STOPS)
                .then(|| Step::Stop(container.name.clone()));
            let remove = Step::Remove(container.name.clone());
            plan.add(Lane::Roll, identity.revision, stop.into_iter().chain([remove]));
        }
    }
}

/// Until when visitors may be on their way to a container that has not answered yet: while no new
/// table can be written, a crashed one is started under an older table, which sends them to it at
/// once.
pub(super) fn draining(state: &WorkloadState, view: &View<'_>) -> Option<Instant> {
    let since = state.in_force.unwrap_or(view.now);
    Some(since + view.rules.drain.before_stop).filter(|until| *until > view.now)
}

/// How long a container stays after the last request was sent to it.
fn rest(state: &WorkloadState, view: &View<'_>, plan: &Plan, container: Seen<'_>) -> Duration {
    // The previous table stays in force until this plan's change is published.
    let settled = plan.target == state.target && draining(state, view).is_none();
    match container.state {
        ContainerState::Running => match container.level() {
            // It never answered, so nobody was ever sent to it.
            Some(Level::Starting) if settled => Duration::ZERO,
            _ => view.rules.drain.before_stop,
        },
        ContainerState::Stopping => stuck(view),
        ContainerState::Created | ContainerState::Exited(_) | ContainerState::Broken => {
            Duration::ZERO
        }
    }
}

/// Removes the secrets of revisions that have no container and will not get one.
pub(super) fn forget_secrets(
    state: &WorkloadState,
    view: &View<'_>,
    plan: &mut Plan,
    wanted: Option<Revision>,
) {
    let cooling = state.cooling(view.now);
    if let Some(at) = cooling {
        plan.wake_at(at);
    }
    if view.busy.roll.is_some() || !plan.steps(Lane::Roll).is_empty() || cooling.is_some() {
        return;
    }
    let used = |revision: Revision| {
        view.containers.iter().any(|c| c.identity.is_some_and(|i| i.revision == revision))
    };
    for revision in state.secrets.keys().filter(|r| Some(**r) != wanted && !used(**r)) {
        plan.add(Lane::Roll, *revision, [Step::RemoveSecrets(*revision)]);
    }
}
