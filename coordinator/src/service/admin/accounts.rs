//! Accounts: list, suspend and resume, and who is an administrator.
//!
//! ```text
//! suspend ─► logins, tokens and refreshes are refused; apps are parked ─ resume ─► all as before
//! ```

use buddo_runtime::error_chain::chain;
use buddo_shared::host_wire::manifest::RunState;
use buddo_shared::model::id::{AccountId, DeploymentId};
use serde_json::json;

use super::{AdminContext, AdminError, Changed};
use crate::crypto::random;
use crate::domain::deployment::Outline;
use crate::domain::identity::Email;
use crate::domain::lifecycle::{Event, Status};
use crate::service::audit::{self, DeployEnd};
use crate::store::contract::{
    Account, AccountAct, Action, AuditStatus, MailKind, NewAudit, Suspension,
};
use crate::store::{StoreError, Tables};

/// Maximum characters of a reason.
const REASON: usize = 200;

/// An account as administrators see it.
#[derive(Debug)]
pub struct Shown {
    pub account: Account,
    /// Number of deployments that are not destroyed.
    pub deployments: u32,
}

/// A page of accounts by registration number, and whether there are more.
pub async fn accounts(
    context: &AdminContext,
    after: i64,
    limit: u32,
    text: Option<String>,
) -> Result<(Vec<Account>, bool), StoreError> {
    let text = text.map(|text| text.trim().to_lowercase()).filter(|text| !text.is_empty());
    context
        .store
        .read(move |tables| {
            let mut found =
                tables.accounts_page(after, limit.saturating_add(1), text.as_deref())?;
            let more = found.len() > limit as usize;
            found.truncate(limit as usize);
            Ok((found, more))
        })
        .await
}

/// One account, by id or mail address.
pub async fn account(context: &AdminContext, name: &str) -> Result<Shown, AdminError> {
    let name = name.to_owned();
    context
        .store
        .read(move |tables| {
            let account = find(tables, &name)?;
            let deployments = tables.outlines_of(account.id)?.len();
            Ok(Shown { account, deployments: u32::try_from(deployments).unwrap_or(u32::MAX) })
        })
        .await
}

/// Suspends an account and parks its apps. `reason` is shown to its owner.
pub async fn suspend(
    context: &AdminContext,
    name: &str,
    reason: Option<String>,
) -> Result<(Account, Changed), AdminError> {
    let reason = reason.map(|reason| reason.trim().to_owned()).filter(|reason| !reason.is_empty());
    if let Some(reason) = &reason
        && (reason.chars().count() > REASON || reason.chars().any(char::is_control))
    {
        return Err(AdminError::field("/reason", "is too long; write 200 characters on one line"));
    }
    let suspension = Suspension { since: context.now, reason };
    act(context, name, move |tables, context, account| {
        refuse_oneself(
            context,
            account,
            "administrators do not suspend themselves; ask another one",
        )?;
        if account.suspended.is_some() {
            return Err(AdminError::Conflict("the account is already suspended"));
        }
        refuse_last_admin(tables, account)?;
        tables.set_suspended(account.id, Some(&suspension))?;
        note(tables, context, account.id, AccountAct::Suspended)?;
        turn(tables, context, account.id, &SUSPEND)
    })
    .await
}

/// Lifts a suspension; apps that ran are started again.
pub async fn resume(context: &AdminContext, name: &str) -> Result<(Account, Changed), AdminError> {
    act(context, name, |tables, context, account| {
        if account.suspended.is_none() {
            return Err(AdminError::Conflict("the account is not suspended"));
        }
        tables.set_suspended(account.id, None)?;
        note(tables, context, account.id, AccountAct::Resumed)?;
        turn(tables, context, account.id, &REACTIVATE)
    })
    .await
}

/// Makes an account an administrator. It must have one-time codes enabled.
pub async fn promote(context: &AdminContext, name: &str) -> Result<(Account, Changed), AdminError> {
    act(context, name, |tables, context, account| {
        if account.is_admin {
            return Err(AdminError::Conflict("the account is already an administrator"));
        }
        if !account.totp_enabled || account.email_verified_at.is_none() {
            return Err(AdminError::Conflict(
                "an administrator needs a verified address and one-time codes; let the account's \
                 owner enable them first",
            ));
        }
        tables.set_admin(account.id, true)?;
        note(tables, context, account.id, AccountAct::Promoted)?;
        Ok(Vec::new())
    })
    .await
}

pub async fn demote(context: &AdminContext, name: &str) -> Result<(Account, Changed), AdminError> {
    act(context, name, |tables, context, account| {
        if !account.is_admin {
            return Err(AdminError::Conflict("the account is not an administrator"));
        }
        refuse_oneself(
            context,
            account,
            "administrators do not demote themselves; ask another one",
        )?;
        tables.set_admin(account.id, false)?;
        note(tables, context, account.id, AccountAct::Demoted)?;
        Ok(Vec::new())
    })
    .await
}

/// Removes one-time codes and recovery codes of an account whose owner has lost both, and ends its
/// sessions. For administrators' accounts this is not possible by the API.
pub async fn clear_second_factor(
    context: &AdminContext,
    name: &str,
) -> Result<(Account, Changed), AdminError> {
    act(context, name, |tables, context, account| {
        if !account.totp_enabled {
            return Err(AdminError::Conflict("the account has no one-time codes"));
        }
        if account.is_admin && context.actor.is_some() {
            return Err(AdminError::Conflict(
                "an administrator's one-time codes are cleared on the machine alone: \
                 buddo-coordinator admin account clear-second-factor",
            ));
        }
        tables.clear_totp(account.id)?;
        tables.end_everything(account.id, context.now)?;
        tables.queue_mail(account.id, MailKind::TotpDisabled, None, context.now)?;
        note(tables, context, account.id, AccountAct::TotpCleared)?;
        Ok(Vec::new())
    })
    .await
}

/// Finds the account, runs `work` on it, and returns its state afterwards.
async fn act<F>(
    context: &AdminContext,
    name: &str,
    work: F,
) -> Result<(Account, Changed), AdminError>
where
    F: Fn(&mut dyn Tables, &AdminContext, &Account) -> Result<Changed, AdminError> + Send + 'static,
{
    let name = name.to_owned();
    context
        .write(move |tables, context| {
            let account = find(tables, &name)?;
            let changed = work(tables, context, &account)?;
            let id = account.id;
            let account = tables.account(id)?.ok_or_else(|| AdminError::NoAccount(name.clone()))?;
            Ok((account, changed))
        })
        .await
}

pub(super) fn find(tables: &dyn Tables, name: &str) -> Result<Account, AdminError> {
    let found = match (name.parse::<AccountId>(), Email::parse(name)) {
        (Ok(id), _) => tables.account(id)?,
        (_, Ok(email)) => tables.account_by_email(&email)?,
        _ => None,
    };
    found.ok_or_else(|| AdminError::NoAccount(name.to_owned()))
}

fn refuse_oneself(
    context: &AdminContext,
    account: &Account,
    why: &'static str,
) -> Result<(), AdminError> {
    if context.actor == Some(account.id) { Err(AdminError::Conflict(why)) } else { Ok(()) }
}

/// By the API another administrator always remains: the one who acts. On the machine one could
/// forget.
fn refuse_last_admin(tables: &dyn Tables, account: &Account) -> Result<(), AdminError> {
    if account.is_admin && tables.count_admins()? <= 1 {
        let why = "the account is the last administrator; promote another one first";
        return Err(AdminError::Conflict(why));
    }
    Ok(())
}

/// Both logs get an entry: the administrators' log, with the actor, and the account's own.
fn note(
    tables: &mut dyn Tables,
    context: &AdminContext,
    account: AccountId,
    act: AccountAct,
) -> Result<(), StoreError> {
    let details = json!({ "account": account });
    let word = format!("account_{}", act.as_str());
    tables.insert_admin_act(&word, context.now, context.actor, &details)?;
    tables.insert_account_act(account, act, context.now, None)
}

/// A change of run state for all deployments of an account.
struct Turn {
    from: RunState,
    to: RunState,
    event: Event,
    action: Action,
}

const SUSPEND: Turn = Turn {
    from: RunState::Running,
    to: RunState::Suspended,
    event: Event::Suspend,
    action: Action::Suspend,
};

const REACTIVATE: Turn = Turn {
    from: RunState::Suspended,
    to: RunState::Running,
    event: Event::Reactivate,
    action: Action::Reactivate,
};

/// Changes all deployments of the account that are in the expected run state. As little as possible
/// is read of each row: a damaged one must not keep an abuser's app running.
fn turn(
    tables: &mut dyn Tables,
    context: &AdminContext,
    account: AccountId,
    turn: &Turn,
) -> Result<Changed, AdminError> {
    let mut changed = Vec::new();
    for outline in tables.outlines_of(account)? {
        let outline = match outline {
            Ok(outline) => outline,
            // Nor must it keep the others running.
            Err(error) => {
                let error = chain(&error);
                tracing::error!(%account, error, "cannot read a deployment; it is left unchanged");
                continue;
            }
        };
        // If the run state cannot be read, the app may well run.
        if outline.run.unwrap_or(RunState::Running) == turn.from {
            turn_one(tables, context, &outline, turn)?;
            changed.push((outline.host, outline.id));
        }
    }
    Ok(changed)
}

fn turn_one(
    tables: &mut dyn Tables,
    context: &AdminContext,
    outline: &Outline,
    &Turn { to, event, action, .. }: &Turn,
) -> Result<(), StoreError> {
    let id = outline.id;
    let mut lifecycle = outline.lifecycle;
    // Nor must a status keep it running.
    if let Err(illegal) = lifecycle.apply(event) {
        tracing::error!(deployment = %id, %illegal, "the status is left unchanged");
    }
    let mut stopped_at = None;
    if to == RunState::Running {
        // A host that has not stopped it yet may never do so, and then has nothing new to report.
        if outline.serves
            && let Err(illegal) = lifecycle.apply(Event::Live)
        {
            tracing::debug!(deployment = %id, %illegal, "the status is not set to live");
        }
    } else {
        stopped_at = Some(context.now);
        let end = DeployEnd::Superseded { by: action, cause: "suspended before it was live" };
        audit::end_deploy(tables, id, end, context.now)?;
    }
    tables.set_run(id, lifecycle, to, stopped_at)?;
    tables.bump_generation(outline.host)?;
    tables.insert_audit(&entry(context, id, action, AuditStatus::Completed))?;
    if lifecycle.status() == Status::Deploying {
        tables.insert_audit(&entry(context, id, Action::Deploy, AuditStatus::Pending))?;
    }
    Ok(())
}

/// Its owner sees that it was the platform, but not which administrator.
fn entry(
    context: &AdminContext,
    deployment: DeploymentId,
    action: Action,
    status: AuditStatus,
) -> NewAudit {
    NewAudit {
        id: random::uuid(&*context.random),
        deployment,
        action,
        status,
        initiated_by: None,
        at: context.now,
        details: None,
    }
}

#[cfg(test)]
mod tests;
