//! Auto rollback's part of a plan: opens a watch, observes, judges, and gives up a bad revision.

use std::time::Duration;

use buddo_shared::model::id::Revision;
use tokio::time::Instant;

use crate::model::health::Level;
use crate::model::live_table::Target;
use crate::model::oom_kills::OomKills;
use crate::model::persisted::RollbackWatch;
use crate::model::spec::{RevisionSpec, WorkloadSpec};
use crate::plan::rollback_watch::{FailureHistory, RollbackVerdict, failed_requests, remaining};
use crate::plan::state::WorkloadState;
use crate::plan::{EDGE_LAG, Plan, Seen, View, deadline, messages};

/// (none) → watching: the revision serves for the first time.
pub(super) fn begin_watch(state: &mut WorkloadState, view: &View<'_>, desired: &WorkloadSpec) {
    let Some(auto_rollback) = &desired.deployment().auto_rollback else { return };
    let window = Duration::from_secs(u64::from(auto_rollback.seconds));
    state.persisted.rollback_watch =
        Some(RollbackWatch::Watching { revision: desired.revision(), since: view.wall });
    state.failure_history = Some(Box::new(FailureHistory::until(view.now + window)));
}

/// watching → (none) or rolled back, when it is time.
pub(super) fn watch_for_rollback(
    state: &mut WorkloadState,
    view: &View<'_>,
    desired: &WorkloadSpec,
    plan: &mut Plan,
) {
    let revision = desired.revision();
    let Some(RollbackWatch::Watching { since, .. }) = state.persisted.rollback_watch else {
        return;
    };
    // Without a revision to fall back to, a verdict could change nothing.
    let fallback = fallback(state, desired);
    let (Some(auto_rollback), Some(fallback)) = (&desired.deployment().auto_rollback, fallback)
    else {
        state.end_watch();
        return;
    };
    let left = || view.now + remaining(since, view.wall, auto_rollback.seconds);
    let until = *state.failure_history().until.get_or_insert_with(left);
    if view.now >= until {
        state.end_watch();
        return;
    }
    plan.watched_until = Some(until);
    plan.wake_at(until);
    if let Some(kills) = view.kills.filter(|kills| is_of_serving(state, view, kills)) {
        state.failure_history().counted(kills, view.now);
    }
    if let Some(calm) = view.rules.troubled_until.filter(|at| *at > view.now) {
        state.failure_history().excuse(view.now);
        plan.wake_at(calm);
        return;
    }
    let Some(live) = state.persisted.live.filter(|live| live.revision == revision) else { return };
    let serving = view.serving(live).filter(|container| container.runs());
    let tracker = serving.and_then(|container| container.tracker);
    let sick = match tracker.map(super::Tracker::level) {
        _ if view.rules.many_sick => None,
        _ if serving.is_some_and(Seen::is_unreachable) => None,
        Some(Level::Unhealthy) => Some(view.now),
        Some(Level::Starting) => state.crash.silent_since,
        Some(Level::Assumed | Level::Healthy) | None => None,
    };
    state.failure_history().sick(sick);
    let patience = deadline(&desired.service().probe);
    if let Some(at) = state.failure_history().patience(patience) {
        plan.wake_at(at);
    }
    let reason = tracker.and_then(|tracker| tracker.reason.as_deref());
    let verdict = state
        .failure_history()
        .judge(patience, reason, view.now)
        .or_else(|| failing(state, view, since).map(RollbackVerdict::Errors));
    if let Some(verdict) = verdict {
        let lived = Duration::from_secs(u64::from(auto_rollback.seconds))
            .saturating_sub(until.duration_since(view.now));
        let failure =
            messages::auto_rollback(&verdict, revision, fallback, lived, desired.service().limits);
        roll_back(state, view.now, desired, plan, failure);
    }
}

/// Whether a count belongs to this container and not to the one that served before: to its current
/// run or, once it has ended, to its last.
fn is_of_serving(state: &WorkloadState, view: &View<'_>, kills: &OomKills) -> bool {
    let container = state.persisted.live.and_then(|live| view.serving(live));
    let process = container.and_then(|container| container.container.process.as_ref());
    let counted = &kills.process.container;
    process.map_or_else(
        || state.failure_history.as_ref().is_some_and(|history| history.counts_in(counted)),
        |process| process.container == *counted,
    )
}

/// Whether what happens to the app now says something about the app.
pub(super) fn may_judge(view: &View<'_>) -> bool {
    view.rules.troubled_until.is_none_or(|at| at <= view.now) && !view.rules.many_sick
}

/// watching → rolled back.
pub(super) fn roll_back(
    state: &mut WorkloadState,
    now: Instant,
    desired: &WorkloadSpec,
    plan: &mut Plan,
    failure: buddo_shared::host_wire::report::Failure,
) {
    state.roll_back(desired.revision(), failure);
    plan.watched_until = None;
    plan.decided = true;
    // An operation under way for the revision just given up is withdrawn at the next pass.
    plan.wake_at(now);
}

/// The revision that can be rolled back to, if there is one.
pub(super) fn fallback(state: &WorkloadState, desired: &WorkloadSpec) -> Option<Revision> {
    let fallback = RevisionSpec::fallback(desired)?.revision;
    let usable =
        fallback != desired.revision() && !state.persisted.failures.contains_key(&fallback);
    usable.then_some(fallback)
}

/// Far more failed requests than before, counting those that only this revision can have answered.
fn failing(
    state: &mut WorkloadState,
    view: &View<'_>,
    since: jiff::Timestamp,
) -> Option<failed_requests::Rates> {
    // Once, and early: the log is bounded, and many failures push out what came before.
    let history = state.failure_history();
    if history.before.is_none() {
        history.before = failed_requests::before(view.failed, since);
    }
    let before = history.before?;
    let live = matches!(state.target, Some(Target::Live { .. }));
    // The log does not say which replica answered.
    let in_force = state.in_force.filter(|_| live && !view.replicas.mixed)?;
    let in_force = view.replicas.in_force.map_or(in_force, |last| last.max(in_force));
    let steady = view.now.duration_since(in_force).saturating_sub(EDGE_LAG);
    let steady = view.wall.checked_sub(steady).ok()?;
    failed_requests::far_more(view.failed, before, steady, view.wall)
}
