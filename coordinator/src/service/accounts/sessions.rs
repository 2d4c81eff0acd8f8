//! Logins: list and revoke; and the account's log.

use buddo_shared::api::account::{Activity, ActivityEntry, SessionList, SessionView};
use buddo_shared::id::AccountId;
use serde_json::json;
use uuid::Uuid;

use super::AccountError;
use crate::auth::session::Session;
use crate::state::AppState;
use crate::store::StoreError;
use crate::store::contract::{AccountAct, AccountActRow, LoginRow};

/// The account's logins, last used first.
pub async fn sessions(state: &AppState, session: &Session) -> Result<SessionList, AccountError> {
    let (account, current, now) = (session.account.id, session.id, state.clock.now());
    let rows: Result<Vec<LoginRow>, StoreError> =
        state.store.read(move |tables| tables.logins_of(account, now)).await;
    let view = |row: LoginRow| SessionView {
        current: row.id == current,
        id: row.id.to_string(),
        ip_address: row.address,
        user_agent: row.user_agent,
        inserted_at: row.created_at,
        last_used_at: row.last_used_at,
        expires_at: row.expires_at,
    };
    Ok(SessionList { sessions: rows?.into_iter().map(view).collect() })
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
pub async fn activity(state: &AppState, account: AccountId) -> Result<Activity, AccountError> {
    let rows: Result<Vec<AccountActRow>, StoreError> =
        state.store.read(move |tables| tables.account_acts(account, 100)).await;
    let entry =
        |AccountActRow { action, at, details }| ActivityEntry { action, inserted_at: at, details };
    Ok(Activity { activity: rows?.into_iter().map(entry).collect() })
}
