//! What one report means for a deployment. Pure.

use buddo_shared::host_wire::manifest::RunState;
use buddo_shared::host_wire::report::{DeploymentStatus, Health, Phase};
use buddo_shared::model::id::Revision;

use super::Told;
use crate::domain::deployment::Deployment;
use crate::domain::failure::{self, Failure};
use crate::domain::lifecycle::{Event, Status};

/// Maximum characters stored of a line from a host.
const LINE: usize = 500;

/// Other revisions that the report names, if they are ours: a database from a backup may know fewer
/// than the host, and naming one it does not know would leave the host without any document.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Others {
    /// The one that serves.
    pub(super) serving: Option<Revision>,
    /// The one that auto rollback restores.
    pub(super) rolled_back_to: Option<Revision>,
}

/// What a report means for a deploy, in progress or ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum ReportOutcome {
    Continues,
    Live,
    GaveUp(Failure),
    /// It was live and failed: its host restores `to`.
    RolledBack {
        failure: Failure,
        to: Revision,
    },
}

/// Updates `d` by a report about its current revision.
pub(super) fn judge(d: &mut Deployment, told: &Told<'_>, others: Others) -> ReportOutcome {
    let &Told { status, container, at, .. } = told;
    d.serving = status.serving;
    if let Some(container) = container {
        d.container_name = one_line(container);
    }
    d.trouble = None;
    d.restarts = status.restarts;
    if let (Phase::Failed, Some(to)) = (status.phase, others.rolled_back_to) {
        return rolled_back_to(d, status, to);
    }
    if d.run != RunState::Running {
        return ReportOutcome::Continues;
    }
    let failure = failure_of(status);
    if status.phase != Phase::Failed {
        d.trouble.clone_from(&failure);
    }
    d.health = Some(status.health);
    d.last_health_check = d.last_health_check.max(status.checked_at);
    match (status.phase, status.serving) {
        (Phase::Live, _) => {
            if d.status() != Status::Running {
                d.deployed_at = Some(at);
            }
            move_by(d, Event::Live);
            ReportOutcome::Live
        }
        (Phase::Failed, serving) => {
            let failure = failure.unwrap_or_else(unexplained);
            d.failure = Some(failure.clone());
            // The host may restore a revision unknown here: still it must not be stopped.
            if serving.is_some() || status.rolled_back_to.is_some() {
                d.revision = others.serving.unwrap_or(d.revision);
                move_by(d, Event::Live);
            } else {
                d.run = RunState::Stopped;
                d.health = None;
                d.stopped_at = Some(at);
                move_by(d, Event::GaveUp);
            }
            ReportOutcome::GaveUp(failure)
        }
        // The end of an earlier stop, reported after a restart was requested.
        (Phase::Stopping | Phase::Stopped, _) => ReportOutcome::Continues,
        // It answers visitors while something about it is being redone.
        (_, Some(serving)) if serving == d.revision => ReportOutcome::Continues,
        _ => {
            move_by(d, Event::Progressed);
            if d.status() == Status::Running {
                d.health = Some(Health::Unhealthy);
            }
            ReportOutcome::Continues
        }
    }
}

/// The host has already decided, so the next document must name `to`, even if the operator stopped
/// the deployment meanwhile. It stays `running`: what served still serves, or `to` is about to.
fn rolled_back_to(d: &mut Deployment, status: &DeploymentStatus, to: Revision) -> ReportOutcome {
    let failure = failure_of(status).unwrap_or_else(unexplained);
    d.revision = to;
    if d.run == RunState::Running {
        // The host's message names both revisions.
        d.failure = Some(failure.clone());
        let answers = status.serving.is_some();
        d.health = Some(if answers { status.health } else { Health::Unhealthy });
        d.last_health_check = d.last_health_check.max(status.checked_at);
        move_by(d, Event::Live);
    }
    ReportOutcome::RolledBack { failure, to }
}

/// The failure of a report, made safe to show: a host's text is not trusted to be short single
/// lines.
fn failure_of(status: &DeploymentStatus) -> Option<Failure> {
    status.failure.as_ref().map(|failure| Failure {
        code: one_line(&failure.code),
        cause: one_line(&failure.cause),
        fix: match one_line(&failure.fix) {
            fix if fix.is_empty() => ASK.to_owned(),
            fix => fix,
        },
    })
}

/// Where a host does not say what to do.
const ASK: &str = "restart the app; if it fails again, ask the platform's administrator";

/// Why the report's revision was given up, if it was.
pub(super) fn end_of(status: &DeploymentStatus) -> Option<Failure> {
    let failed = status.phase == Phase::Failed;
    failed.then(|| failure_of(status).unwrap_or_else(unexplained))
}

pub(super) fn one_line(text: &str) -> String {
    failure::one_line(text, LINE)
}

/// A host that gives up has to say why; one that does not must not leave the deploy hanging.
fn unexplained() -> Failure {
    Failure {
        code: "unknown".to_owned(),
        cause: "the host gave up the deploy and did not say why".to_owned(),
        fix: ASK.to_owned(),
    }
}

/// A report that is illegal in this state changes nothing: it came too late.
fn move_by(d: &mut Deployment, event: Event) {
    if let Err(illegal) = d.lifecycle.apply(event) {
        tracing::debug!(deployment = %d.id, %illegal, "a late report");
    }
}
