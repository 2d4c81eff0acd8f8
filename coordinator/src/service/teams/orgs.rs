//! Organisations: create, show, rename, hand over, end.

use buddo_shared::model::id::OrgId;
use serde_json::json;

use super::{MAX_ORGS, NewName, OrgWithRole, Renaming, TeamError, log};
use crate::auth::access::MemberCheck;
use crate::crypto::random;
use crate::domain::identity::{OrgRole, Slug};
use crate::state::AppState;
use crate::store::Tables;
use crate::store::contract::{OrgAct, OrgActRow, OrgRow};

const ORG: &str = "organisation";
const TAKEN: &str = "is taken; choose another short name";
/// Number of log entries shown: the newest.
const SHOWN: u32 = 200;

/// The organisations that the account is in, its own first.
pub async fn orgs(state: &AppState, check: MemberCheck) -> Result<Vec<OrgWithRole>, TeamError> {
    state
        .store
        .read(move |tables| {
            let mut rows = tables.orgs_of(check.account())?;
            rows.sort_by_key(|(org, _)| org.personal_of.is_none());
            Ok(rows)
        })
        .await
}

pub async fn org(
    state: &AppState,
    check: MemberCheck,
    id: OrgId,
) -> Result<OrgWithRole, TeamError> {
    state
        .store
        .read(move |tables| {
            let grant = check.org(tables, id, OrgRole::Member).map_err(TeamError::refused(ORG))?;
            Ok((grant.org().clone(), grant.role()))
        })
        .await
}

/// Creates an organisation; its creator owns it and is responsible for its deployments. Requires a
/// confirmed address, since it will invite others by mail.
pub async fn create_org(
    state: &AppState,
    check: MemberCheck,
    NewName { name, slug }: NewName,
) -> Result<OrgWithRole, TeamError> {
    let (id, now) = (OrgId::new(random::uuid(&*state.random)), state.clock.now());
    state
        .store
        .write(move |tables| {
            let account = check.account();
            super::invitations::confirmed(tables, account)?;
            if tables.orgs_paid_by(account)?.len() >= MAX_ORGS {
                let limit = u32::try_from(MAX_ORGS).unwrap_or(u32::MAX);
                return Err(TeamError::Limit { limit, of: "organisations of an account" });
            }
            free(tables, &slug)?;
            let org = OrgRow {
                id,
                name: name.to_string(),
                slug: slug.to_string(),
                plan: "free".to_owned(),
                personal_of: None,
                payer: account,
                created_at: now,
            };
            tables.insert_org(&org)?;
            tables.set_org_role(id, account, OrgRole::Owner, now)?;
            log(tables, (id, None), account, OrgAct::OrgMade, now, None)?;
            Ok((org, OrgRole::Owner))
        })
        .await
}

/// Changes its name, its slug, or both.
pub async fn rename_org(
    state: &AppState,
    check: MemberCheck,
    id: OrgId,
    Renaming { name, slug }: Renaming,
) -> Result<OrgWithRole, TeamError> {
    let now = state.clock.now();
    state
        .store
        .write(move |tables| {
            let grant = check.org(tables, id, OrgRole::Admin).map_err(TeamError::refused(ORG))?;
            let mut org = grant.org().clone();
            if let Some(slug) = slug.as_ref().filter(|slug| slug.as_str() != org.slug) {
                shared(&org)?;
                free(tables, slug)?;
                org.slug = slug.to_string();
            }
            if let Some(name) = &name {
                org.name = name.to_string();
            }
            tables.rename_org(id, &org.name, &org.slug)?;
            log(tables, (id, None), grant.actor(), OrgAct::OrgRenamed, now, None)?;
            Ok((org, grant.role()))
        })
        .await
}

/// Makes the calling owner responsible for the organisation's deployments, instead of another
/// owner.
pub async fn take_over(
    state: &AppState,
    check: MemberCheck,
    id: OrgId,
) -> Result<OrgWithRole, TeamError> {
    let now = state.clock.now();
    state
        .store
        .write(move |tables| {
            let grant = check.org(tables, id, OrgRole::Owner).map_err(TeamError::refused(ORG))?;
            let mut org = grant.org().clone();
            let former = std::mem::replace(&mut org.payer, grant.actor());
            if former != org.payer {
                // Its apps are parked with it; another payer would start them again.
                if tables.account(former)?.is_some_and(|payer| payer.suspended.is_some()) {
                    return Err(TeamError::InUse(
                        "the account that answers for the organisation's deployments is \
                         suspended; ask the platform's operator",
                    ));
                }
                super::invitations::confirmed(tables, org.payer)?;
                if tables.orgs_paid_by(org.payer)?.len() >= MAX_ORGS {
                    let limit = u32::try_from(MAX_ORGS).unwrap_or(u32::MAX);
                    return Err(TeamError::Limit { limit, of: "organisations of an account" });
                }
                tables.set_payer(id, org.payer)?;
                let details = json!({ "from": former });
                let act = OrgAct::PayerChanged;
                log(tables, (id, None), grant.actor(), act, now, Some(details))?;
            }
            Ok((org, grant.role()))
        })
        .await
}

/// Ends an organisation without deployments, with its teams and keys.
pub async fn delete_org(state: &AppState, check: MemberCheck, id: OrgId) -> Result<(), TeamError> {
    let now = state.clock.now();
    state
        .store
        .write(move |tables| {
            let grant = check.org(tables, id, OrgRole::Owner).map_err(TeamError::refused(ORG))?;
            shared(grant.org())?;
            if tables.org_has_deployments(id)? {
                return Err(TeamError::InUse(
                    "the organisation has deployments (a stopped one counts); destroy them first",
                ));
            }
            tables.end_org(id, now)?;
            log(tables, (id, None), grant.actor(), OrgAct::OrgDeleted, now, None)?;
            Ok(())
        })
        .await
}

/// The newest entries of its log, newest first.
pub async fn activity(
    state: &AppState,
    check: MemberCheck,
    id: OrgId,
) -> Result<Vec<OrgActRow>, TeamError> {
    state
        .store
        .read(move |tables| {
            check.org(tables, id, OrgRole::Admin).map_err(TeamError::refused(ORG))?;
            Ok(tables.org_acts(id, SHOWN)?)
        })
        .await
}

/// Refuses acts that would let others into an account's own organisation, or end it.
pub(super) fn shared(org: &OrgRow) -> Result<(), TeamError> {
    if org.personal_of.is_none() {
        return Ok(());
    }
    Err(TeamError::InUse(
        "this is an account's own organisation, which stays as it is; make another one to work \
         with others: buddo orgs create NAME",
    ))
}

fn free(tables: &dyn Tables, slug: &Slug) -> Result<(), TeamError> {
    if tables.org_slug_taken(slug.as_str())? {
        return Err(TeamError::field("/slug", TAKEN));
    }
    Ok(())
}
