//! Consents start and end here, each with its audit entry.

use buddo_shared::model::id::AccountId;
use jiff::Timestamp;
use serde_json::json;

use crate::store::contract::{Grant, NewOAuthAct, OAuthAct};
use crate::store::{StoreError, Tables};

/// Maximum consents of an account to one app, the newest: repeated logins must not fill the
/// database.
const KEPT: u32 = 100;

/// An account lets an app act for it, by way of `flow`.
pub(super) fn give(
    tables: &mut dyn Tables,
    grant: &Grant,
    flow: &'static str,
) -> Result<(), StoreError> {
    tables.insert_grant(grant)?;
    tables.keep_newest_grants(grant.account, &grant.client_id, KEPT)?;
    tables.insert_act(&NewOAuthAct {
        act: OAuthAct::Allowed,
        client_id: grant.client_id.clone(),
        account: Some(grant.account),
        actor: Some(grant.account),
        at: grant.created_at,
        details: Some(json!({ "grant": grant.id, "scopes": grant.scopes.words(), "flow": flow })),
    })
}

/// An account refuses an app.
pub(super) fn deny(
    tables: &mut dyn Tables,
    client_id: &str,
    account: AccountId,
    at: Timestamp,
) -> Result<(), StoreError> {
    tables.insert_act(&NewOAuthAct {
        act: OAuthAct::Denied,
        client_id: client_id.to_owned(),
        account: Some(account),
        actor: Some(account),
        at,
        details: None,
    })
}

/// Ends a consent and all tokens from it, unless it has already ended.
pub(super) fn end(
    tables: &mut dyn Tables,
    grant: &Grant,
    at: Timestamp,
    cause: &'static str,
) -> Result<(), StoreError> {
    if grant.revoked_at.is_some() {
        return Ok(());
    }
    tables.revoke_grant(grant.id, at)?;
    tables.insert_act(&NewOAuthAct {
        act: OAuthAct::Ended,
        client_id: grant.client_id.clone(),
        account: Some(grant.account),
        actor: None,
        at,
        details: Some(json!({ "grant": grant.id, "cause": cause })),
    })
}
