//! A deployment as shown: its stored state, and what that means at this moment.

use buddo_shared::host_wire::manifest::RunState;
use buddo_shared::host_wire::report::{Health, Progress};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::domain::deployment::Deployment;
use crate::domain::failure::Failure;
use crate::domain::lifecycle::Status;
use crate::domain::revision::RevisionRecord;
use crate::live::LiveStatus;
use crate::state::Services;
use crate::store::contract::Reach;
use crate::store::{StoreError, Tables};

/// The current condition of a deployment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Condition {
    /// The result of its probes; `Unknown` while its host is not heard from.
    pub health: Option<Health>,
    /// The newest known probe.
    pub last_health_check: Option<Timestamp>,
    /// How the last change failed, if it did.
    pub failure: Option<Failure>,
    /// What is wrong while it serves.
    pub warning: Option<Failure>,
    /// What blocks a change.
    pub waiting: Option<Failure>,
}

/// A deployment with its current revision.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Shown {
    pub deployment: Deployment,
    pub revision: RevisionRecord,
    /// The name of its host.
    pub host: Option<String>,
    pub condition: Condition,
}

/// A deployment without revision data, for frequent polls.
#[derive(Debug, Clone, PartialEq)]
pub struct ShownStatus {
    pub deployment: Deployment,
    pub condition: Condition,
    /// Current progress while a deploy is in progress.
    pub progress: Option<Progress>,
}

/// The full view of a deployment.
pub(super) fn deployment(
    tables: &dyn Tables,
    services: &Services,
    deployment: Deployment,
) -> Result<Shown, StoreError> {
    let revision = tables
        .revision(deployment.id, deployment.revision)?
        .ok_or_else(|| StoreError::corrupt("deployments.revision")("names no revision"))?;
    let reach = tables.reach(deployment.host)?;
    let now = services.clock.now();
    let condition = condition(&services.live, &deployment, reach.as_ref(), now);
    Ok(Shown { deployment, revision, host: reach.map(|host| host.name), condition })
}

/// The short view for frequent polls.
pub(super) fn status(
    live: &LiveStatus,
    deployment: Deployment,
    host: Option<&Reach>,
    now: Timestamp,
) -> ShownStatus {
    let under_way = deployment.status().is_under_way();
    let progress = live
        .progress(deployment.id)
        .filter(|progress| under_way && progress.revision == deployment.revision);
    let condition = condition(live, &deployment, host, now);
    ShownStatus { deployment, condition, progress }
}

fn condition(live: &LiveStatus, d: &Deployment, host: Option<&Reach>, now: Timestamp) -> Condition {
    Condition {
        health: health(d, host, now),
        // The stored probe, or a newer one that only this process knows.
        last_health_check: d.last_health_check.max(live.last_checked(d.id)),
        failure: d.failure.clone(),
        warning: warning(d, host, now),
        waiting: waiting(d, host),
    }
}

/// What blocks a change: the account, the stored record, the host as a whole, or what the host
/// reports about it.
fn waiting(d: &Deployment, host: Option<&Reach>) -> Option<Failure> {
    // What is destroyed does not come back.
    if d.run == RunState::Suspended && d.status() != Status::Destroyed {
        return Some(suspended());
    }
    if !d.status().is_under_way() {
        return None;
    }
    d.held.clone().or_else(|| host.and_then(waiting_for)).or_else(|| d.trouble.clone())
}

/// What is wrong while it serves: changes would not take effect, it is unknown whether it serves,
/// or what its host reports.
fn warning(d: &Deployment, host: Option<&Reach>, now: Timestamp) -> Option<Failure> {
    if d.run == RunState::Suspended || d.status().is_under_way() {
        return None;
    }
    let lost = || host.filter(|_| d.status() == Status::Running).and_then(|host| lost(host, now));
    // What a lost host said before is past.
    lost().or_else(|| d.held.clone()).or_else(|| d.trouble.clone())
}

fn suspended() -> Failure {
    Failure::new(
        "account_suspended",
        "the account that answers for the deployment is suspended",
        "ask the platform's operator; the app comes back by itself once the account is resumed",
    )
}

/// Why a deploy on `host` is blocked, if the cause is the host as a whole.
fn waiting_for(host: &Reach) -> Option<Failure> {
    let name = &host.name;
    if let Some(since) = host.locked_at {
        let since = seconds(since);
        return Some(Failure::new(
            "host_locked",
            format!("the host {name} has been locked since {since}; the deploy waits for it"),
            "ask the platform's administrator, who has to unlock it; to use another host, destroy \
             the deployment and create it again",
        ));
    }
    if let Some(since) = host.unreachable_since {
        let since = seconds(since);
        return Some(Failure::new(
            "host_unreachable",
            format!("the host {name} has been out of reach since {since}; the deploy waits for it"),
            "it goes on by itself once the host is back; to use another host, destroy the \
             deployment and create it again",
        ));
    }
    host.refuses.then(|| {
        Failure::new(
            "host_refuses",
            format!("the host {name} does not take changes at the moment; the deploy waits for it"),
            "the platform's administrator sees why in `buddo-coordinator host list`; to use \
             another host, destroy the deployment and create it again",
        )
    })
}

/// A host that was unreachable for this long, or is locked: what it reported before is outdated.
const LOST: SignedDuration = SignedDuration::from_mins(1);

/// Since when the state of apps on the host is unknown; `None` while it is known, or may be in a
/// moment.
fn lost_since(host: &Reach, now: Timestamp) -> Option<Timestamp> {
    let since = [host.locked_at, host.unreachable_since].into_iter().flatten().min()?;
    (now.duration_since(since) >= LOST).then_some(since)
}

fn lost(host: &Reach, now: Timestamp) -> Option<Failure> {
    let since = seconds(lost_since(host, now)?);
    let what = if host.locked_at.is_some() { "locked" } else { "out of reach" };
    let name = &host.name;
    Some(Failure::new(
        "host_lost",
        format!(
            "the host {name} has been {what} since {since}; whether the app answers visitors is \
             not known"
        ),
        "it may still run there; if the host does not come back, the platform's administrator can \
         move its apps to other hosts",
    ))
}

fn health(d: &Deployment, host: Option<&Reach>, now: Timestamp) -> Option<Health> {
    let should_run = d.run == RunState::Running && d.status() != Status::Destroyed;
    if should_run && host.is_some_and(|host| lost_since(host, now).is_some()) {
        return Some(Health::Unknown);
    }
    d.health
}

/// Times are shown in whole seconds, as on the published pages.
pub(crate) fn seconds(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}
