//! Removing containers: after a switch, on stop, on destroy.

use std::time::Duration;

use buddo_shared::id::Revision;
use buddo_shared::report::Phase;
use tokio::time::Instant;

use crate::model::container::{ContainerState, Identity};
use crate::model::health::Level;
use crate::model::live_table::Target;
use crate::model::step::Step;
use crate::plan::rollback_watch::RollbackWatch;
use crate::plan::state::{Crash, DeploymentState};
use crate::plan::{Plan, Seen, View};

/// Podman kills what does not end within the grace, and may take this much longer to report it.
const BEYOND_GRACE: Duration = Duration::from_secs(5);

/// After this many failed stops, a container is removed by force without another stop.
const MAX_STOPS: u32 = 3;

/// A container that Podman shows as stopping for longer than this is removed by force: whatever was
/// stopping it is gone, for instance a Podman service that was killed meanwhile.
pub(super) fn stuck(view: &View<'_>) -> Duration {
    view.rules.drain.stop_grace + BEYOND_GRACE
}

/// The deployment should not exist.
pub(super) fn leave(memory: &mut DeploymentState, view: &View<'_>) -> Plan {
    let mut plan = Plan::new(Phase::Stopping);
    lay_down(memory, view, &mut plan);
    plan.gone =
        plan.phase == Phase::Stopped && view.rules.secrets_known && memory.secrets.is_empty();
    plan
}

/// The deployment should exist but not run.
pub(super) fn park(memory: &mut DeploymentState, view: &View<'_>, page: Target) -> Plan {
    let mut plan = Plan::new(Phase::Stopping);
    plan.target = Some(page);
    let revision = view.desired.map(|desired| desired.revision);
    plan.given_up = revision.and_then(|r| memory.persisted.failures.get(&r)).cloned();
    lay_down(memory, view, &mut plan);
    plan
}

fn lay_down(memory: &mut DeploymentState, view: &View<'_>, plan: &mut Plan) {
    memory.persisted.live = None;
    memory.attempt = None;
    memory.crash = Crash::default();
    // Decisions stay; a stopped revision is no longer watched.
    if matches!(memory.persisted.rollback_watch, Some(RollbackWatch::Watching { .. })) {
        memory.end_vigil();
    }
    retire(memory, view, plan, &[], Some(view.rules.drain.before_stop));
    if view.containers.is_empty() && view.busy.roll.is_none() && view.busy.serve.is_none() {
        if memory.lost.is_empty() {
            plan.phase = Phase::Stopped;
            forget_secrets(memory, view, plan, None);
        } else {
            end_lost(memory, view, plan, view.now);
        }
    }
}

/// From `due` on, ends what runs but Podman has lost.
pub(super) fn end_lost(memory: &DeploymentState, view: &View<'_>, plan: &mut Plan, due: Instant) {
    if memory.lost.is_empty() || view.busy.roll.is_some() || !plan.roll.is_empty() {
        return;
    }
    let due = memory.cooling(view.now).map_or(due, |at| at.max(due));
    if view.now < due {
        plan.wake_at(due);
    } else {
        plan.roll.extend(memory.lost.keys().map(|slot| Step::EndLost(*slot)));
    }
}

/// Removes every container whose name is not in `keep`. Where nothing serves, running ones get
/// `grace` first, to show that they answer and can be adopted; except those that were given up.
pub(super) fn retire(
    memory: &mut DeploymentState,
    view: &View<'_>,
    plan: &mut Plan,
    keep: &[Option<&str>],
    grace: Option<Duration>,
) {
    let kept = |name: &str| keep.contains(&Some(name));
    memory.retiring.retain(|name, _| !kept(name));
    // A container being rolled out goes first: stopping an old one can take its whole grace.
    let free = view.busy.roll.is_none() && plan.roll.is_empty();
    for container in view.containers.iter().filter(|c| !kept(&c.name)) {
        let since = *memory.retiring.entry(container.name.clone()).or_insert(view.now);
        let given_up = |i: Identity| memory.persisted.failures.contains_key(&i.revision);
        let hopeful = container.runs() && !container.identity.is_some_and(given_up);
        let wait = grace.filter(|_| hopeful);
        let wait = wait.unwrap_or_else(|| rest(memory, view, plan, *container));
        let due = match memory.cleanup {
            Some((not_before, _)) => not_before.max(since + wait),
            None => since + wait,
        };
        if view.now < due {
            plan.wake_at(due);
        } else if free {
            let refused = memory.stops_failed.get(&container.name).copied().unwrap_or_default();
            if container.runs() && refused < MAX_STOPS {
                plan.roll.push(Step::Stop(container.name.clone()));
            }
            plan.roll.push(Step::Remove(container.name.clone()));
        }
    }
}

/// Until when visitors may be on their way to a container that has not answered yet: while no new
/// table can be written, a crashed one is started under an older table, which sends them to it at
/// once.
pub(super) fn draining(memory: &DeploymentState, view: &View<'_>) -> Option<Instant> {
    let since = memory.in_force.unwrap_or(view.now);
    Some(since + view.rules.drain.before_stop).filter(|until| *until > view.now)
}

/// How long a container stays after the last request was sent to it.
fn rest(memory: &DeploymentState, view: &View<'_>, plan: &Plan, container: Seen<'_>) -> Duration {
    // The previous table stays in force until this plan's change is published.
    let settled = plan.target == memory.target && draining(memory, view).is_none();
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
    memory: &DeploymentState,
    view: &View<'_>,
    plan: &mut Plan,
    wanted: Option<Revision>,
) {
    let cooling = memory.cooling(view.now);
    if let Some(at) = cooling {
        plan.wake_at(at);
    }
    if view.busy.roll.is_some() || !plan.roll.is_empty() || cooling.is_some() {
        return;
    }
    let used = |revision: Revision| {
        view.containers.iter().any(|c| c.identity.is_some_and(|i| i.revision == revision))
    };
    let stale = memory.secrets.keys().filter(|r| Some(**r) != wanted && !used(**r));
    plan.roll.extend(stale.map(|revision| Step::RemoveSecrets(*revision)));
}
