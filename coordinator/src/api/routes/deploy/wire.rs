//! Translates domain values to those of the published API, which knows one container per
//! deployment: the public service's.

use buddo_shared::api::deploy::{self, AuditEntry, StatusAnswer, StatusProgress};
use buddo_shared::host_wire::report::Health;
use buddo_shared::model::id::Revision;
use buddo_shared::model::image::Digest;
use buddo_shared::model::name::HostName;

use crate::domain::deployment::Deployment;
use crate::domain::failure::Failure;
use crate::domain::lifecycle::Status;
use crate::domain::revision::RevisionRecord;
use crate::service::audit;
use crate::service::deployments::{Condition, Shown, ShownStatus, seconds};
use crate::store::contract::{AuditRow, Tier};

/// A deployment with all published fields, in this zone.
pub(crate) fn deployment(shown: Shown, zone: &HostName) -> deploy::Deployment {
    let Shown { deployment: d, revision, host, condition } = shown;
    let app = revision.services.into_public();
    deploy::Deployment {
        id: d.id.to_string(),
        app_id: d.app_id.to_string(),
        deploy_tier_id: d.tier_id,
        container_name: d.container_name,
        container_image: app.image.to_string(),
        image_digest: app.digest.as_ref().map(Digest::to_string),
        revision: d.revision.get(),
        subdomain: d.subdomain.to_string(),
        url: format!("https://{}", d.subdomain.host_in(zone)),
        custom_domain: d.custom_domain.as_ref().map(ToString::to_string),
        status: status(d.lifecycle.status()),
        health_status: condition.health.map(health),
        last_health_check: condition.last_health_check.map(seconds),
        last_error: last_error(&condition),
        failure: condition.failure.map(failure),
        warning: condition.warning.map(failure),
        waiting: condition.waiting.map(failure),
        restarts: d.restarts,
        port: app.port.get(),
        memory_limit_mb: d.limits.memory_mb,
        cpu_limit_millicores: d.limits.cpu_millicores,
        host_server: host,
        billing_status: d.billing_status,
        deployed_at: d.deployed_at.map(seconds),
        stopped_at: d.stopped_at.map(seconds),
        inserted_at: seconds(d.inserted_at),
    }
}

/// The short answer for frequent polls.
pub(crate) fn status_answer(shown: ShownStatus) -> StatusAnswer {
    let ShownStatus { deployment: d, condition, progress } = shown;
    StatusAnswer {
        id: d.id.to_string(),
        status: status(d.status()),
        subdomain: d.subdomain.to_string(),
        health_status: condition.health.map(health),
        last_health_check: condition.last_health_check.map(seconds),
        last_error: last_error(&condition),
        failure: condition.failure.map(failure),
        warning: condition.warning.map(failure),
        waiting: condition.waiting.map(failure),
        restarts: d.restarts,
        progress: progress
            .map(|progress| StatusProgress { phase: progress.phase, percent: progress.percent }),
    }
}

/// One revision of a deployment.
pub(crate) fn revision(d: &Deployment, record: RevisionRecord) -> deploy::Revision {
    let app = record.services.public();
    deploy::Revision {
        revision: record.number.get(),
        can_roll_back: record.past().can_return() && d.status() != Status::Destroyed,
        container_image: app.image.to_string(),
        image_digest: app.digest.as_ref().map(Digest::to_string),
        port: app.port.get(),
        custom_domain: record.domains.first().map(ToString::to_string),
        strategy: app.strategy,
        current: record.number == d.revision,
        serving: d.serving == Some(record.number),
        rollback_of: record.rollback_of.map(Revision::get),
        live_at: record.live_at.map(seconds),
        last_error: record.failure.as_ref().map(Failure::to_string),
        failure: record.failure.map(failure),
        inserted_at: seconds(record.created_at),
    }
}

/// An entry of the audit log.
pub(crate) fn audit_entry(row: AuditRow) -> AuditEntry {
    AuditEntry {
        status: audit::outcome(&row).to_owned(),
        id: row.id,
        action: row.action,
        initiated_by: row.initiated_by,
        inserted_at: seconds(row.at),
        details: row.details,
    }
}

/// A tier with all published fields.
pub(crate) fn tier(tier: Tier) -> deploy::Tier {
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

/// The published field holds one text: what waits now matters more than what failed before.
fn last_error(condition: &Condition) -> Option<String> {
    condition.waiting.as_ref().or(condition.failure.as_ref()).map(Failure::to_string)
}

fn failure(failure: Failure) -> deploy::Failure {
    deploy::Failure { code: failure.code, cause: failure.cause, fix: failure.fix }
}

fn status(status: Status) -> deploy::Status {
    match status {
        Status::Pending => deploy::Status::Pending,
        Status::Deploying => deploy::Status::Deploying,
        Status::Running => deploy::Status::Running,
        Status::Stopped => deploy::Status::Stopped,
        Status::Destroyed => deploy::Status::Destroyed,
    }
}

fn health(health: Health) -> String {
    let word = match health {
        Health::Unknown => "unknown",
        Health::Healthy => "healthy",
        Health::Unhealthy => "unhealthy",
    };
    word.to_owned()
}
