//! Logins: list and revoke; and the account's log.

use buddo_shared::model::id::AccountId;
use serde_json::json;
use uuid::Uuid;

use super::AccountError;
use crate::auth::session::Session;
use crate::state::AppState;
use crate::store::StoreError;
use crate::store::contract::{AccountAct, AccountActRow, LoginRow};

/// The account's logins, last used first.
pub async fn sessions(state: &AppState, session: &Session) -> Result<Vec<LoginRow>, StoreError> {
    let (account, now) = (session.account.id, state.clock.now());
    state.store.read(move |tables| tables.logins_of(account, now)).await
}

/// Ends one of the account's logins, and the CLI tokens made for it. Ending the current one is a
/// logout.
pub async fn revoke_session(
    state: &AppState,
    session: &Session,
    id: Uuid,
) -> Result<(), AccountError> {
    let (account, now) = (session.account.id, state.clock.now());
    state
        .store
        .write(move |tables| {
            if !tables.end_login(account, id, now)? {
                return Err(AccountError::NoSession);
            }
            let details = json!({ "session": id });
            tables.insert_account_act(account, AccountAct::SessionRevoked, now, Some(&details))?;
            Ok(())
        })
        .await
}

/// Ends all of the account's logins but this one; returns how many.
pub async fn revoke_other_sessions(
    state: &AppState,
    session: &Session,
) -> Result<usize, AccountError> {
    let (account, keep, now) = (session.account.id, session.id, state.clock.now());
    state
        .store
        .write(move |tables| {
            let ended = tables.end_other_logins(account, keep, now)?;
            let act = AccountAct::OtherSessionsRevoked;
            let details = json!({ "session": keep, "ended": ended });
            tables.insert_account_act(account, act, now, Some(&details))?;
            Ok(ended)
        })
        .await
}

/// The newest entries of the account's log.
pub async fn activity(
    state: &AppState,
    account: AccountId,
) -> Result<Vec<AccountActRow>, StoreError> {
    state.store.read(move |tables| tables.account_acts(account, 100)).await
}
