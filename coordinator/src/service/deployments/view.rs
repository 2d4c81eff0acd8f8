//! From what is stored to what is shown.

use buddo_shared::api::deploy::{self, Status, StatusAnswer, StatusProgress};
use buddo_shared::id::Revision;
use buddo_shared::image::Digest;
use buddo_shared::manifest::RunState;
use buddo_shared::report::Health;
use jiff::{SignedDuration, Timestamp};

use crate::service::live::LiveStatus;
use crate::state::Services;
use crate::store::contract::{Deployment, Reach, RevisionRow, Tier};
use crate::store::{StoreError, Tables};

/// A deployment with all published fields.
pub(super) fn deployment(
    tables: &dyn Tables,
    services: &Services,
    d: &Deployment,
) -> Result<deploy::Deployment, StoreError> {
    let revision = tables
        .revision(d.id, d.revision)?
        .ok_or_else(|| StoreError::corrupt("deployments.revision")("names no revision"))?;
    let reach = tables.reach(d.host)?;
    let now = services.clock.now();
    Ok(deploy::Deployment {
        id: d.id.to_string(),
        app_id: d.app_id.to_string(),
        deploy_tier_id: d.tier_id.clone(),
        container_name: d.container_name.clone(),
        container_image: revision.image.to_string(),
        image_digest: revision.digest.as_ref().map(Digest::to_string),
        revision: d.revision.get(),
        subdomain: d.subdomain.to_string(),
        url: format!("https://{}", d.subdomain.host_in(&services.config.zone)),
        custom_domain: d.custom_domain.as_ref().map(ToString::to_string),
        status: d.status,
        health_status: health(d, reach.as_ref(), now),
        last_health_check: last_check(&services.live, d),
        last_error: last_error(d, reach.as_ref()),
        warning: warning(d, reach.as_ref(), now),
        restarts: d.restarts,
        port: revision.port.get(),
        memory_limit_mb: d.limits.memory_mb,
        cpu_limit_millicores: d.limits.cpu_millicores,
        host_server: reach.map(|host| host.name),
        billing_status: d.billing_status.clone(),
        deployed_at: d.deployed_at.map(seconds),
        stopped_at: d.stopped_at.map(seconds),
        inserted_at: seconds(d.inserted_at),
    })
}

/// The short answer for frequent polls.
pub(super) fn status(
    live: &LiveStatus,
    d: &Deployment,
    host: Option<&Reach>,
    now: Timestamp,
) -> StatusAnswer {
    let under_way = is_under_way(d);
    let progress = live
        .progress(d.id)
        .filter(|progress| under_way && progress.revision == d.revision)
        .map(|progress| StatusProgress { phase: progress.phase, percent: progress.percent });
    StatusAnswer {
        id: d.id.to_string(),
        status: d.status,
        subdomain: d.subdomain.to_string(),
        health_status: health(d, host, now),
        last_health_check: last_check(live, d),
        last_error: last_error(d, host),
        warning: warning(d, host, now),
        restarts: d.restarts,
        progress,
    }
}

/// One revision.
pub(super) fn revision(d: &Deployment, row: &RevisionRow) -> deploy::Revision {
    deploy::Revision {
        revision: row.number.get(),
        container_image: row.image.to_string(),
        image_digest: row.digest.as_ref().map(Digest::to_string),
        port: row.port.get(),
        custom_domain: row.domains.first().map(ToString::to_string),
        strategy: row.strategy,
        current: row.number == d.revision,
        serving: d.serving == Some(row.number),
        can_roll_back: row.past().can_return() && d.status != Status::Destroyed,
        rollback_of: row.rollback_of.map(Revision::get),
        live_at: row.live_at.map(seconds),
        last_error: row.failure.clone(),
        inserted_at: seconds(row.created_at),
    }
}

/// A tier with all published fields.
pub(super) fn tier(tier: Tier) -> deploy::Tier {
    deploy::Tier {
        id: tier.id,
        name: tier.name,
        slug: tier.slug.to_string(),
        payment_method: tier.payment_method,
        monthly_cost_points: tier.monthly_cost_points,
        monthly_cost_sats: tier.monthly_cost_sats,
        memory_limit_mb: tier.limits.memory_mb,
        cpu_limit_millicores: tier.limits.cpu_millicores,
        custom_domain_allowed: tier.custom_domain_allowed,
        monthly_stipend_points: tier.monthly_stipend_points,
        ad_reach_multiplier: tier.ad_reach_multiplier,
    }
}

/// Whether a deploy has begun that has neither gone live nor failed.
pub(super) fn is_under_way(d: &Deployment) -> bool {
    matches!(d.status, Status::Pending | Status::Deploying)
}

/// What is wrong: that it cannot be read, else what keeps a deploy from going on, else what its host
/// says, else how the last deploy failed.
fn last_error(d: &Deployment, host: Option<&Reach>) -> Option<String> {
    // What is destroyed does not come back.
    if d.run == RunState::Suspended && d.status != Status::Destroyed {
        return Some(SUSPENDED.to_owned());
    }
    let waits = host.filter(|_| is_under_way(d)).and_then(waiting_for);
    d.held.clone().or(waits).or_else(|| d.trouble.clone()).or_else(|| d.last_error.clone())
}

const SUSPENDED: &str = "the account that answers for the deployment is suspended\n\
                         ask the platform's operator; the app comes back by itself once the \
                         account is resumed";

/// Why a deploy on `host` does not go on, if that is up to the host as a whole.
fn waiting_for(host: &Reach) -> Option<String> {
    let name = &host.name;
    if let Some(since) = host.locked_at {
        let since = seconds(since);
        return Some(format!(
            "the host {name} has been locked since {since}; the deploy waits for it\n\
             ask the platform's administrator, who has to unlock it; to use another host, destroy \
             the deployment and create it again"
        ));
    }
    if let Some(since) = host.unreachable_since {
        let since = seconds(since);
        return Some(format!(
            "the host {name} has been out of reach since {since}; the deploy waits for it\n\
             it goes on by itself once the host is back; to use another host, destroy the \
             deployment and create it again"
        ));
    }
    host.refuses.then(|| {
        format!(
            "the host {name} does not take changes at the moment; the deploy waits for it\n\
             the platform's administrator sees why in `buddo-coordinator host list`; to use \
             another host, destroy the deployment and create it again"
        )
    })
}

/// Nothing is heard of a host that was away for so long, or locked out: what it reported before is
/// past.
const LOST: SignedDuration = SignedDuration::from_mins(1);

/// Since when nothing is known of what runs on the host; `None` while it is, or may be in a moment.
fn lost_since(host: &Reach, now: Timestamp) -> Option<Timestamp> {
    let since = [host.locked_at, host.unreachable_since].into_iter().flatten().min()?;
    (now.duration_since(since) >= LOST).then_some(since)
}

/// What is wrong while it may well serve: that nobody knows whether it does.
fn warning(d: &Deployment, host: Option<&Reach>, now: Timestamp) -> Option<String> {
    let host = host.filter(|_| d.run == RunState::Running && d.status == Status::Running)?;
    let since = seconds(lost_since(host, now)?);
    let what = if host.locked_at.is_some() { "locked" } else { "out of reach" };
    let name = &host.name;
    Some(format!(
        "the host {name} has been {what} since {since}; whether the app answers visitors is not \
         known\n\
         it may still run there; if the host does not come back, the platform's administrator can \
         move its apps to other hosts"
    ))
}

fn health(d: &Deployment, host: Option<&Reach>, now: Timestamp) -> Option<String> {
    let shall_run = d.run == RunState::Running && d.status != Status::Destroyed;
    if shall_run && host.is_some_and(|host| lost_since(host, now).is_some()) {
        return Some("unknown".to_owned());
    }
    let word = match d.health? {
        Health::Unknown => "unknown",
        Health::Healthy => "healthy",
        Health::Unhealthy => "unhealthy",
    };
    Some(word.to_owned())
}

/// The newest probe that is known: the stored one, or one that only this process was told of.
fn last_check(live: &LiveStatus, d: &Deployment) -> Option<Timestamp> {
    d.last_health_check.max(live.last_checked(d.id)).map(seconds)
}

/// The published pages show whole seconds.
pub(super) fn seconds(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}
