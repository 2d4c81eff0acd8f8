//! Deletes old revisions with their environments; the audit log records it.
//!
//! ```text
//! every hour: deployments with many revisions ─► history::kept (pure) ─► delete the others, audit
//! ```
//!
//! The same rule decides which images a document tells its host to keep, so it does not matter when
//! this runs. Idempotent.

use std::sync::Arc;
use std::time::Duration;

use buddo_runtime::error_chain::chain;
use buddo_shared::model::id::DeploymentId;
use serde_json::json;

use super::audit;
use crate::domain::history::{self, Past};
use crate::domain::lifecycle::Status;
use crate::domain::revision::RevisionRecord;
use crate::service::audit_chain;
use crate::service::hosts::loads;
use crate::state::{AppState, Services};
use crate::store::contract::{Action, AuditStatus};
use crate::store::{StoreError, Tables};

const EACH: Duration = Duration::from_hours(1);
/// Deployments per transaction, so that no request waits long for its own.
const BATCH: u32 = 50;

/// Sweeps until the process drains.
pub async fn run(state: AppState) {
    loop {
        audit_chain::keep(&state).await;
        match sweep(&state).await {
            Ok(0) => {}
            Ok(forgotten) => tracing::info!(forgotten, "deleted old revisions"),
            Err(error) => tracing::error!(error = %chain(&error), "cannot delete old revisions"),
        }
        loads::check(&state).await;
        tokio::select! {
            () = state.drain.cancelled() => return,
            () = tokio::time::sleep(EACH) => {}
        }
    }
}

/// Deletes the revisions, of all deployments, that are no longer kept; returns how many.
pub async fn sweep(state: &AppState) -> Result<usize, StoreError> {
    let (mut forgotten, mut after) = (0, None);
    while !state.drain.is_cancelled() {
        let keep = state.config.deploy.kept_revisions;
        let found: Result<Vec<DeploymentId>, StoreError> = state
            .store
            .read_long(move |tables| tables.with_many_revisions(keep, after, BATCH))
            .await;
        let found = found?;
        let Some(last) = found.last().copied() else { break };
        after = Some(last);
        let services = Arc::clone(state);
        let pruned: Result<usize, StoreError> = state
            .store
            .write(move |tables| {
                found.iter().try_fold(0, |sum, id| Ok(sum + prune(tables, &services, *id)?))
            })
            .await;
        forgotten += pruned?;
    }
    Ok(forgotten)
}

fn prune(
    tables: &mut dyn Tables,
    services: &Services,
    id: DeploymentId,
) -> Result<usize, StoreError> {
    let Some(deployment) = tables.deployment(id)? else { return Ok(0) };
    if deployment.status() == Status::Destroyed {
        return Ok(0);
    }
    let past: Vec<Past> = tables.revisions(id)?.iter().map(RevisionRecord::past).collect();
    let keep = services.config.deploy.kept_revisions;
    let kept = history::kept(&past, deployment.revision, deployment.serving, keep);
    let old: Vec<_> =
        past.iter().map(|past| past.number).filter(|number| !kept.contains(number)).collect();
    if old.is_empty() {
        return Ok(0);
    }
    tables.forget_revisions(id, &old)?;
    let details = json!({
        "cause": format!("only the newest {keep} revisions that were live are kept"),
        "revisions": old,
    });
    let (action, done) = (Action::Prune, AuditStatus::Completed);
    tables.insert_audit(&audit::of_platform(services, id, action, done, details))?;
    Ok(old.len())
}

#[cfg(test)]
mod tests;
