//! Rollback: a new revision with the content of an earlier one, including the digests.

use buddo_shared::model::id::{DeploymentId, Revision};
use serde_json::{Value, json};

use super::act::{DeploymentAct, begin, carry_out, next_number};
use super::content::{environments, seal, specs};
use super::error::DeployError;
use super::{announce, owned_state};
use crate::auth::access::{DeployCheck, Right};
use crate::domain::deployment::Deployment;
use crate::domain::history::{self, NoReturn, Past};
use crate::domain::lifecycle::Event;
use crate::domain::revision::RevisionRecord;
use crate::domain::service::Specs;
use crate::service::deployments::idempotency::{self, Asked, idempotent};
use crate::service::deployments::view::{self, Shown};
use crate::state::{AppState, Services};
use crate::store::Tables;
use crate::store::contract::Action;

const ACT: DeploymentAct = DeploymentAct {
    event: Event::Rollback,
    action: Action::Rollback,
    supersedes: "superseded by a rollback",
};

/// Restores an earlier revision: the named one, or the newest other one that was live and did not
/// fail later. A retry with the same key returns the first result.
pub async fn rollback(
    state: &AppState,
    check: DeployCheck,
    id: DeploymentId,
    named: Option<Revision>,
    asked: Option<Asked>,
) -> Result<Shown, DeployError> {
    let account = check.actor();
    let asked = asked.map(|Asked { key, body }| {
        let of_deployment = [&b"rollback"[..], id.as_uuid().as_bytes(), &body].concat();
        let hash = state.vault.fingerprint(&of_deployment);
        idempotency::Request { account, key, hash }
    });
    let services = owned_state(state);
    let (shown, done) = state
        .store
        .write(move |tables| {
            // The earlier answer is only for callers that still have permission.
            check.deployment(tables, id, Right::Write)?;
            idempotent(tables, &services, asked.as_ref(), |tables| {
                let change = |tables: &mut dyn Tables, services: &Services, d: &mut Deployment| {
                    bring_back(tables, services, named, d)
                };
                let changed = carry_out(tables, &services, check, id, ACT, change)?;
                Ok((view::deployment(tables, &services, changed)?, ()))
            })
        })
        .await?;
    if done.is_some() {
        announce(state, shown.deployment.host, id);
    }
    Ok(shown)
}

/// Makes a new revision from the earlier one, and makes it the desired one.
fn bring_back(
    tables: &mut dyn Tables,
    services: &Services,
    named: Option<Revision>,
    deployment: &mut Deployment,
) -> Result<Option<Value>, DeployError> {
    let (id, from) = (deployment.id, deployment.revision);
    let Choice { source, current } = choose(tables, services, id, from, named)?;
    let (vault, now) = (&services.vault, services.clock.now());
    let envs = environments(tables, vault, id, source.number)?;
    let number = next_number(tables, deployment)?;
    let revision = match current {
        Some(current) => {
            let of_current = match environments(tables, vault, id, current.number) {
                // It runs something that cannot be compared, so all of it is replaced.
                Err(DeployError::Lost(_)) => Specs::new(),
                found => specs(vault, id, &current, &found?),
            };
            let specs = specs(vault, id, &source, &envs);
            source.instead_of(&specs, (&current, &of_current), number, now)
        }
        None => source.again(number, now),
    };
    let revision = RevisionRecord { rollback_of: Some(source.number), ..revision };
    tables.insert_revision(id, &revision, &seal(vault, id, number, &envs)?)?;
    begin(deployment, number);
    Ok(Some(json!({ "from": from, "to": source.number, "revision": number })))
}

/// The revision to restore, and the current one.
struct Choice {
    source: RevisionRecord,
    current: Option<RevisionRecord>,
}

fn choose(
    tables: &dyn Tables,
    services: &Services,
    id: DeploymentId,
    current: Revision,
    named: Option<Revision>,
) -> Result<Choice, DeployError> {
    let rows = tables.revisions(id)?;
    let past: Vec<Past> = rows.iter().map(RevisionRecord::past).collect();
    let number = match named {
        Some(number) => {
            history::check(&past, number)?;
            number
        }
        None => previous(tables, services, id, &rows, &past, current)?.ok_or(NoReturn::Nothing)?,
    };
    let row = |number| rows.iter().find(|row| row.number == number).cloned();
    let source = row(number).ok_or(NoReturn::Unknown(number))?;
    Ok(Choice { source, current: row(current) })
}

/// The newest other good one with different content: after restarting a bad version in the hope of
/// a fix, neither of the two is wanted.
fn previous(
    tables: &dyn Tables,
    services: &Services,
    id: DeploymentId,
    rows: &[RevisionRecord],
    past: &[Past],
    from: Revision,
) -> Result<Option<Revision>, DeployError> {
    let row = |number| rows.iter().find(|row| row.number == number);
    let specs_of = |row: &RevisionRecord| {
        let envs = environments(tables, &services.vault, id, row.number)?;
        Ok::<_, DeployError>(specs(&services.vault, id, row, &envs))
    };
    let current = row(from).map(|row| Ok::<_, DeployError>((row, specs_of(row)?))).transpose()?;
    for candidate in history::candidates(past, from).filter_map(row) {
        let specs = specs_of(candidate)?;
        let same = |(row, of): &(&RevisionRecord, Specs)| candidate.is_met_by(&specs, (row, of));
        if !current.as_ref().is_some_and(same) {
            return Ok(Some(candidate.number));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests;
