//! What hosts report, turned into what operators are shown. The only writer of statuses besides
//! the operators' own acts.
//!
//! ```text
//! report ─► already committed? skip ─► ours, current revision? ─► table of moves ─► deployment, audit
//!                                                       gave up ─► last good revision, or stopped ─► generation+1
//! ```

use std::collections::HashSet;

use buddo_shared::api::deploy::Status;
use buddo_shared::id::{DeploymentId, HostId, Revision};
use buddo_shared::manifest::RunState;
use buddo_shared::report::{
    Checked, DeploymentStatus, Failure, Health, Phase, Progress, Report, ReportBody,
};
use jiff::Timestamp;
use serde_json::json;

use crate::domain::lifecycle::{Event, next};
use crate::state::AppState;
use crate::store::contract::{AuditStatus, Deployment};
use crate::store::{StoreError, Tables};

/// Characters of a line in a host's words that are kept.
const LINE: usize = 500;

/// What a batch of reports changed.
#[derive(Debug, Default)]
struct Outcome {
    changed: Vec<(DeploymentId, Settled)>,
    wanted_changed: bool,
}

/// Whether a deployment's deploy has ended, so that its progress is over.
type Settled = bool;

/// Commits a batch in one transaction. What was committed before is skipped, so that a batch may
/// come twice. Returns the sequence number up to which all is committed.
pub async fn commit(
    state: &AppState,
    host: HostId,
    reports: Vec<Report>,
) -> Result<u64, StoreError> {
    let (through, outcome) = state
        .store
        .write(move |tables| {
            let committed = tables.host(host)?.map_or(0, |host| host.report_seq);
            let mut through = committed;
            let mut outcome = Outcome::default();
            for report in reports.iter().filter(|report| report.seq > committed) {
                apply(tables, host, report, &mut outcome)?;
                through = through.max(report.seq);
            }
            if outcome.wanted_changed {
                tables.bump_generation(host)?;
            }
            if through > committed {
                tables.set_report_seq(host, through)?;
            }
            Ok::<_, StoreError>((through, outcome))
        })
        .await?;
    for (id, settled) in outcome.changed {
        if settled {
            state.live.settled(id);
        } else {
            state.live.changed(id);
        }
    }
    if outcome.wanted_changed {
        state.wake.host(host);
    }
    Ok(through)
}

/// Shows what is not kept: progress and probes. Of each host only about its own deployments.
pub async fn show(
    state: &AppState,
    host: HostId,
    mut progress: Vec<Progress>,
    mut probes: Vec<Checked>,
) -> Result<(), StoreError> {
    let (progress, probes) = state
        .store
        .read(move |tables| {
            let mut own = HashSet::new();
            for id in progress.iter().map(|p| p.id).chain(probes.iter().map(|p| p.id)) {
                let found = tables.deployment(id)?;
                if found.is_some_and(|d| d.host == host && d.status != Status::Destroyed) {
                    own.insert(id);
                }
            }
            progress.retain(|progress| own.contains(&progress.id));
            probes.retain(|probe| own.contains(&probe.id));
            Ok::<_, StoreError>((progress, probes))
        })
        .await?;
    for progress in progress {
        state.live.progressed(progress);
    }
    state.live.checked(&probes);
    Ok(())
}

fn apply(
    tables: &mut dyn Tables,
    host: HostId,
    report: &Report,
    outcome: &mut Outcome,
) -> Result<(), StoreError> {
    match &report.body {
        ReportBody::Host(status) => tables.set_host_status(host, status),
        // A destroyed deployment is gone from the document already.
        ReportBody::Removed { id } => {
            tracing::debug!(%host, deployment = %id, "removed from its host");
            Ok(())
        }
        ReportBody::Deployment(status) => {
            let Some(mut deployment) = tables.deployment(status.id)? else { return Ok(()) };
            if deployment.host != host {
                tracing::warn!(%host, deployment = %status.id, "a host reports another's app");
                return Ok(());
            }
            // Destroyed, or about a revision that is no longer the current one: too late.
            if deployment.status == Status::Destroyed || deployment.revision != status.revision {
                return Ok(());
            }
            if let Some(digest) = &status.digest {
                tables.set_digest(status.id, status.revision, digest)?;
            }
            let old = status.serving.filter(|serving| *serving != status.revision);
            let known = match old {
                Some(old) => tables.revision(status.id, old)?.map(|revision| revision.number),
                None => None,
            };
            let verdict = judge(&mut deployment, status, known, report.at);
            let under_way = matches!(deployment.status, Status::Pending | Status::Deploying);
            outcome.changed.push((status.id, !under_way));
            outcome.wanted_changed |= matches!(verdict, Verdict::GaveUp(_));
            record(tables, &deployment, &verdict)
        }
    }
}

/// What a report means for a deploy that is under way.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    /// Nothing new.
    Continues,
    /// It is live.
    Live,
    /// It failed.
    GaveUp(Failure),
}

/// Changes `d` as the report says. `old` is the other revision that serves, if it is one of ours.
/// Pure.
fn judge(
    d: &mut Deployment,
    status: &DeploymentStatus,
    old: Option<Revision>,
    at: Timestamp,
) -> Verdict {
    d.serving = status.serving;
    if let Some(container) = &status.container {
        d.container_name = one_line(container);
    }
    d.trouble = None;
    if d.run != RunState::Running {
        return Verdict::Continues;
    }
    let failure = status.failure.as_ref().map(cleaned);
    if status.phase != Phase::Failed {
        d.trouble = failure.as_ref().map(Failure::to_string);
    }
    d.health = Some(status.health);
    d.last_health_check = d.last_health_check.max(status.checked_at);
    match (status.phase, status.serving) {
        (Phase::Live, _) => {
            if d.status != Status::Running {
                d.deployed_at = Some(at);
            }
            move_by(d, Event::Live);
            Verdict::Live
        }
        (Phase::Failed, serving) => {
            let failure = failure.unwrap_or_else(unexplained);
            d.last_error = Some(failure.to_string());
            if serving.is_some() {
                // One that this database does not know stays: naming it would leave the host
                // without any document.
                d.revision = old.unwrap_or(d.revision);
                move_by(d, Event::Live);
            } else {
                d.run = RunState::Stopped;
                d.health = None;
                d.stopped_at = Some(at);
                move_by(d, Event::GaveUp);
            }
            Verdict::GaveUp(failure)
        }
        // The end of an earlier stop, reported after a restart was asked for.
        (Phase::Stopping | Phase::Stopped, _) => Verdict::Continues,
        // It answers visitors while something about it is being redone.
        (_, Some(serving)) if serving == d.revision => Verdict::Continues,
        _ => {
            move_by(d, Event::Progressed);
            if d.status == Status::Running {
                d.health = Some(Health::Unhealthy);
            }
            Verdict::Continues
        }
    }
}

/// A failure as it may be shown: a host's words are not trusted to be one short line each.
fn cleaned(failure: &Failure) -> Failure {
    Failure {
        code: one_line(&failure.code),
        cause: one_line(&failure.cause),
        fix: one_line(&failure.fix),
    }
}

fn one_line(text: &str) -> String {
    let plain = |c: char| if c.is_control() { ' ' } else { c };
    text.chars().take(LINE).map(plain).collect()
}

/// A host that gives up has to say why; one that does not must not leave the deploy hanging.
fn unexplained() -> Failure {
    Failure {
        code: "unknown".to_owned(),
        cause: "the host gave the deploy up and did not say why".to_owned(),
        fix: "restart the app; if it fails again, ask the platform's administrator".to_owned(),
    }
}

/// A report that the table does not foresee changes nothing: it came too late.
fn move_by(d: &mut Deployment, event: Event) {
    match next(d.status, event) {
        Ok(status) => d.status = status,
        Err(illegal) => tracing::debug!(deployment = %d.id, %illegal, "a late report"),
    }
}

fn record(
    tables: &mut dyn Tables,
    deployment: &Deployment,
    verdict: &Verdict,
) -> Result<(), StoreError> {
    tables.update_deployment(deployment)?;
    match verdict {
        Verdict::Continues => Ok(()),
        Verdict::Live => tables.finish_deploy(deployment.id, AuditStatus::Completed, None),
        Verdict::GaveUp(failure) => {
            let details = json!({
                "code": failure.code,
                "cause": failure.cause,
                "fix": failure.fix,
            });
            tables.finish_deploy(deployment.id, AuditStatus::Failed, Some(&details))
        }
    }
}

#[cfg(test)]
mod tests;
