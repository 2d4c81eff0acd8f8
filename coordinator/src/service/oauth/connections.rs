//! What an account's owner sees of the apps that act for it, and what those see of the account.

use buddo_shared::model::id::AccountId;
use serde_json::json;
use uuid::Uuid;

use super::ClientError;
use crate::state::AppState;
use crate::store::StoreError;
use crate::store::contract::{Account, Connection, NewOAuthAct, OAuthAct};

/// The apps that can act for the account now.
pub async fn connected_apps(
    state: &AppState,
    account: AccountId,
) -> Result<Vec<Connection>, StoreError> {
    let now = state.clock.now();
    state.store.read(move |tables| tables.connections(account, now)).await
}

/// Ends all consents of the account to an app, and their tokens. Returns the app's name.
pub async fn disconnect(
    state: &AppState,
    account: AccountId,
    app_id: &str,
) -> Result<String, ClientError> {
    let app_id: Uuid = app_id.parse().map_err(|_| ClientError::NotConnected)?;
    let now = state.clock.now();
    state
        .store
        .write(move |tables| {
            let connections = tables.connections(account, now)?;
            let found = connections.into_iter().find(|found| found.client.id == app_id);
            let client = found.ok_or(ClientError::NotConnected)?.client;
            let ended = tables.revoke_grants_of(account, Some(&client.client_id), now)?;
            tables.insert_act(&NewOAuthAct {
                act: OAuthAct::Ended,
                client_id: client.client_id,
                account: Some(account),
                actor: Some(account),
                at: now,
                details: Some(json!({ "cause": "the account's owner ended it", "grants": ended })),
            })?;
            Ok(client.name)
        })
        .await
}

/// The account that an app with `profile:read` acts for.
pub async fn external_user(
    state: &AppState,
    account: AccountId,
) -> Result<Option<Account>, StoreError> {
    state.store.read(move |tables| tables.account(account)).await
}
