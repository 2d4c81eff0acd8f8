//! Turns host reports into what operators see. The only writer of statuses besides the operators'
//! own acts.
//!
//! ```text
//! report ─► already committed? skip ─► ours? ─► learn: digest, first live, failure of its revision
//!                                                  │
//!              current revision? ─► judge (pure) ◄─┘─► deployment, audit
//!                                    ├ gave up ─► last good revision, or stopped ─► generation+1
//!                                    └ auto rollback ─► that revision ────► generation+1
//! ```

mod bounds;
mod judge;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use bounds::bounded;
use buddo_runtime::error_chain::chain;
use buddo_shared::host_wire::report::{
    Checked, DeploymentStatus, Phase, Progress, Report, ReportBody,
};
use buddo_shared::model::id::{DeploymentId, HostId, Revision};
use buddo_shared::model::workload::ServiceName;
use jiff::Timestamp;
use judge::{Others, ReportOutcome, judge};
use serde_json::json;

use crate::domain::deployment::Deployment;
use crate::domain::failure::Failure;
use crate::domain::history::is_near;
use crate::domain::lifecycle::Status;
use crate::service::audit::{self, DeployEnd};
use crate::state::{AppState, Services};
use crate::store::contract::{Action, AuditStatus};
use crate::store::{StoreError, Tables};

/// The changes of a batch of reports.
#[derive(Debug, Default)]
struct Outcome {
    changed: Vec<(DeploymentId, Settled)>,
    wanted_changed: bool,
    /// Number of reports about deployments on other hosts.
    of_others: u32,
    /// Number of services that their deployments never had.
    unknown_services: usize,
}

/// Whether a deploy has ended, so that its progress is cleared.
type Settled = bool;

/// What was logged about a host in this session: repeated findings are logged once.
#[derive(Debug, Default)]
pub struct Complaints {
    /// It reports about apps on other hosts.
    of_others: bool,
    /// It reports about services that do not exist.
    unknown_services: bool,
    /// It cannot store acknowledgements.
    pub unnoted: bool,
}

/// Commits a batch in one transaction. Idempotent: reports committed before are skipped. Returns
/// the sequence number up to which all are committed.
pub async fn commit(
    state: &AppState,
    host: HostId,
    reports: Vec<Report>,
    complaints: &mut Complaints,
) -> Result<u64, StoreError> {
    let services = Arc::clone(state);
    let (through, outcome) = state
        .store
        .write(move |tables| {
            let committed = tables.host(host)?.map_or(0, |host| host.report_seq);
            let mut through = committed;
            let mut outcome = Outcome::default();
            for report in reports.iter().filter(|report| report.seq > committed) {
                match apply(tables, &services, host, report, &mut outcome) {
                    // Otherwise it would be sent again and again, and block all reports after it.
                    Err(error @ StoreError::Corrupt { .. }) => tracing::error!(
                        %host, seq = report.seq, error = %chain(&error),
                        "skipping a report about a record that cannot be read"
                    ),
                    applied => applied?,
                }
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
    if outcome.of_others > 0 {
        let reports = outcome.of_others;
        if std::mem::replace(&mut complaints.of_others, true) {
            tracing::debug!(%host, reports, "a host reports about further apps that are not on it");
        } else {
            tracing::warn!(%host, reports, "a host reports about apps that are not on it");
        }
    }
    if outcome.unknown_services > 0 {
        let services = outcome.unknown_services;
        if std::mem::replace(&mut complaints.unknown_services, true) {
            tracing::debug!(%host, services, "a host reports about further unknown services");
        } else {
            tracing::warn!(%host, services, "ignoring what a host reports about unknown services");
        }
    }
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

/// Publishes transient frames: progress and probes. A host may only report on its own deployments.
pub async fn show(
    state: &AppState,
    host: HostId,
    progress: Vec<Progress>,
    mut probes: Vec<Checked>,
) -> Result<(), StoreError> {
    // A host's clock may be ahead; no time later than this one's is shown.
    let now = state.clock.now();
    for probe in &mut probes {
        probe.at = probe.at.min(now);
    }
    // Each once, even if a host names it repeatedly.
    let named = progress.iter().map(|p| p.id).chain(probes.iter().map(|p| p.id));
    let named: HashSet<_> = named.collect();
    let own = state
        .store
        .read(move |tables| {
            let mut own = HashMap::new();
            for &id in &named {
                let found = match tables.deployment(id) {
                    Err(StoreError::Corrupt { .. }) => None,
                    found => found?,
                };
                let own_one = |d: &Deployment| d.host == host && d.status() != Status::Destroyed;
                let Some(deployment) = found.filter(own_one) else { continue };
                // As they are in progress; it has no others whose progress is of interest.
                let services = match tables.introduced(id, deployment.revision) {
                    Err(StoreError::Corrupt { .. }) => Vec::new(),
                    services => services?,
                };
                own.insert(id, services);
            }
            Ok::<_, StoreError>(own)
        })
        .await?;
    for progress in progress {
        let services = own.get(&progress.id).map(Vec::as_slice).unwrap_or_default();
        if services.iter().any(|(name, _)| *name == progress.service) {
            state.live.progressed(progress);
        }
    }
    probes.retain(|probe| own.contains_key(&probe.id));
    state.live.checked(&probes);
    Ok(())
}

fn apply(
    tables: &mut dyn Tables,
    services: &Services,
    host: HostId,
    report: &Report,
    outcome: &mut Outcome,
) -> Result<(), StoreError> {
    match &report.body {
        ReportBody::Host(status) => tables.set_host_status(host, &bounded(status)),
        // A destroyed deployment is already gone from the document.
        ReportBody::Removed { id } => {
            tracing::debug!(%host, deployment = %id, "removed from its host");
            Ok(())
        }
        ReportBody::Deployment(status) => {
            let Some(deployment) = tables.deployment(status.id)? else { return Ok(()) };
            if deployment.host != host {
                outcome.of_others += 1;
                return Ok(());
            }
            if deployment.status() == Status::Destroyed {
                return Ok(());
            }
            let now = services.clock.now();
            let checked_at = status.checked_at.map(|at| at.min(now));
            let serving = believed(tables, &deployment, status.serving)?;
            let serving = as_revision(tables, status, serving)?;
            let status = &DeploymentStatus { checked_at, serving, ..status.clone() };
            let told = learn(tables, status, report.at.min(now), outcome)?;
            if deployment.revision == status.revision {
                settle(tables, services, deployment, &told, outcome)
            } else {
                too_late(tables, services, &told, outcome)
            }
        }
    }
}

/// The revision that a host says is serving, unless it is implausible: the next revision gets a
/// number above it, and the host must not choose that.
fn believed(
    tables: &dyn Tables,
    deployment: &Deployment,
    serving: Option<Revision>,
) -> Result<Option<Revision>, StoreError> {
    let Some(named) = serving.filter(|named| !is_near(*named, deployment.revision)) else {
        return Ok(serving);
    };
    let last = tables.last_revision(deployment.id)?.unwrap_or(deployment.revision);
    if is_near(named, last) {
        return Ok(serving);
    }
    tracing::warn!(
        host = %deployment.host, deployment = %deployment.id, revision = %named,
        "ignoring a host's claim to serve a revision that was never made"
    );
    Ok(None)
}

/// The deployment's revision that is serving. Without a revision to go back to in its document, a
/// host knows only the number of the content that serves, which several revisions may have: then it
/// is the newest of them that was live.
fn as_revision(
    tables: &dyn Tables,
    status: &DeploymentStatus,
    serving: Option<Revision>,
) -> Result<Option<Revision>, StoreError> {
    let Some(content) = serving.filter(|content| *content < status.revision) else {
        return Ok(serving);
    };
    let kept = match tables.revisions(status.id) {
        // One that cannot be read must not hide what is said of another.
        Err(StoreError::Corrupt { .. }) => return Ok(serving),
        kept => kept?,
    };
    let newest = kept.iter().rev().find(|revision| {
        revision.number < status.revision
            && revision.services.public().introduced == content
            && revision.live_at.is_some()
            && revision.failure.is_none()
    });
    Ok(newest.map_or(serving, |revision| Some(revision.number)))
}

/// A report, and what it says about its revision for the first time.
#[derive(Debug, Clone, Copy)]
struct Told<'a> {
    status: &'a DeploymentStatus,
    /// Name of the container that visitors reach, or are about to.
    container: Option<&'a str>,
    at: Timestamp,
    first_live: bool,
    first_failed: bool,
}

/// Records what is permanently true of a revision, whether or not it is still the current one.
fn learn<'a>(
    tables: &mut dyn Tables,
    status: &'a DeploymentStatus,
    at: Timestamp,
    outcome: &mut Outcome,
) -> Result<Told<'a>, StoreError> {
    let (id, number) = (status.id, status.revision);
    let services = tables.introduced(id, number)?;
    outcome.unknown_services += count_unknown(tables, status, &services)?;
    // The public one is the first.
    let mut container = None;
    for (index, &(name, introduced)) in services.iter().enumerate() {
        let Some(told) = status.services.iter().find(|service| service.name == name) else {
            continue;
        };
        if index == 0 {
            let first = told.replicas.iter().min_by_key(|replica| replica.replica);
            container = first.and_then(|replica| replica.container.as_deref());
        }
        // The digest of other content says nothing about this one.
        if let Some(digest) = told.digest.as_ref().filter(|_| told.revision == introduced) {
            tables.set_digest(id, name, introduced, digest)?;
        }
    }
    let end = judge::end_of(status);
    // Only what was live can be restored; the report that it was live may have been merged into
    // this one.
    let live = status.phase == Phase::Live || (end.is_some() && status.rolled_back_to.is_some());
    let first_live = live && tables.set_live(id, number, at)?;
    let first_failed = match &end {
        Some(failure) => tables.set_failure(id, number, failure)?,
        None => false,
    };
    Ok(Told { status, container, at, first_live, first_failed })
}

/// How many services of a report neither its revision nor another one has. One of another revision
/// may still be on its way out.
fn count_unknown(
    tables: &dyn Tables,
    status: &DeploymentStatus,
    services: &[(ServiceName, Revision)],
) -> Result<usize, StoreError> {
    let mut unknown = 0;
    for told in &status.services {
        let is_named = services.iter().any(|(name, _)| *name == told.name);
        if !is_named && !tables.had_service(status.id, told.name)? {
            unknown += 1;
        }
    }
    Ok(unknown)
}

/// A report about the current revision.
fn settle(
    tables: &mut dyn Tables,
    services: &Services,
    mut deployment: Deployment,
    told: &Told<'_>,
    outcome: &mut Outcome,
) -> Result<(), StoreError> {
    let status = told.status;
    // A revision fails once. If a host repeats that, it cannot name another one: it could move the
    // deployment back and forth between two for ever, with an audit entry each time.
    let is_news = told.first_failed || status.phase != Phase::Failed;
    let others = if is_news {
        Others {
            serving: other(tables, status, status.serving)?,
            rolled_back_to: other(tables, status, status.rolled_back_to)?,
        }
    } else {
        Others::default()
    };
    let wanted = (deployment.revision, deployment.run);
    let now = services.clock.now();
    // A value stored before this check existed.
    deployment.last_health_check = deployment.last_health_check.map(|at| at.min(now));
    let report_outcome = judge(&mut deployment, told, others);
    let under_way = deployment.status().is_under_way();
    outcome.changed.push((status.id, !under_way));
    outcome.wanted_changed |= wanted != (deployment.revision, deployment.run);
    tables.update_deployment(&deployment)?;
    match report_outcome {
        ReportOutcome::Continues => Ok(()),
        ReportOutcome::Live => {
            audit::end_deploy(tables, status.id, DeployEnd::Completed, now).map(drop)
        }
        ReportOutcome::GaveUp(failure) => {
            let ended = audit::end_deploy(tables, status.id, DeployEnd::Failed(&failure), now)?;
            // One that was live for long has no pending audit entry.
            if !ended && told.first_failed {
                let (action, failed) = (Action::Deploy, AuditStatus::Failed);
                let details = audit::of_failure(&failure);
                let entry = audit::of_platform(services, status.id, action, failed, details);
                tables.insert_audit(&entry)?;
            }
            Ok(())
        }
        ReportOutcome::RolledBack { failure, to } => {
            audit::end_deploy(tables, status.id, DeployEnd::Failed(&failure), now)?;
            rolled_back_to(tables, services, status, &failure, to)
        }
    }
}

/// A report about a revision that is no longer current does not describe the current state. But the
/// fallback, and what can be restored, may have changed.
fn too_late(
    tables: &mut dyn Tables,
    services: &Services,
    told: &Told<'_>,
    outcome: &mut Outcome,
) -> Result<(), StoreError> {
    outcome.wanted_changed |= told.first_live || told.first_failed;
    match (judge::end_of(told.status), told.status.rolled_back_to) {
        (Some(failure), Some(to)) if told.first_failed => {
            rolled_back_to(tables, services, told.status, &failure, to)
        }
        _ => Ok(()),
    }
}

/// Another revision named by the report, if it is one of ours.
fn other(
    tables: &dyn Tables,
    status: &DeploymentStatus,
    number: Option<Revision>,
) -> Result<Option<Revision>, StoreError> {
    match number.filter(|number| *number != status.revision) {
        Some(number) => Ok(tables.revision(status.id, number)?.map(|revision| revision.number)),
        None => Ok(None),
    }
}

/// The audit entry for an auto rollback on a host.
fn rolled_back_to(
    tables: &mut dyn Tables,
    services: &Services,
    status: &DeploymentStatus,
    failure: &Failure,
    to: Revision,
) -> Result<(), StoreError> {
    let mut details = audit::of_failure(failure);
    details["by"] = json!("guard");
    details["from"] = json!(status.revision);
    details["to"] = json!(to);
    let (action, done) = (Action::Rollback, AuditStatus::Completed);
    tables.insert_audit(&audit::of_platform(services, status.id, action, done, details))
}

#[cfg(test)]
mod tests;
