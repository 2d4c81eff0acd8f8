//! What an account's owner sees of the apps that act for it, and what those see of the account.

use buddo_shared::api::connections::{
    ConnectedApp, ConnectedApps, ExternalProfile, ExternalUser, GrantedScope,
};
use buddo_shared::id::AccountId;
use serde_json::json;
use uuid::Uuid;

use super::AppError;
use crate::state::AppState;
use crate::store::StoreError;
use crate::store::contract::{Account, Act, Connection, NewAct};

/// The apps that can act for the account now.
pub async fn connected_apps(
    state: &AppState,
    account: AccountId,
) -> Result<ConnectedApps, StoreError> {
    let now = state.clock.now();
    let found = state.store.read(move |tables| tables.connections(account, now)).await?;
    Ok(ConnectedApps { connected_apps: found.into_iter().map(view).collect() })
}

fn view(connection: Connection) -> ConnectedApp {
    let Connection { client, scopes, since, last_token_at } = connection;
    let scopes = scopes.iter().map(|scope| GrantedScope {
        name: scope.as_str().to_owned(),
        description: scope.in_words().to_owned(),
    });
    ConnectedApp {
        app_id: client.id.to_string(),
        client_id: client.client_id,
        app_name: client.name,
        app_description: client.description,
        logo_url: client.logo_url,
        website_url: client.website_url,
        scopes: scopes.collect(),
        connected_at: since,
        last_token_at,
    }
}

/// Ends all consents of the account to an app, and their tokens. Returns the app's name.
pub async fn disconnect(
    state: &AppState,
    account: AccountId,
    app_id: &str,
) -> Result<String, AppError> {
    let app_id: Uuid = app_id.parse().map_err(|_| AppError::NotConnected)?;
    let now = state.clock.now();
    state
        .store
        .write(move |tables| {
            let connections = tables.connections(account, now)?;
            let found = connections.into_iter().find(|found| found.client.id == app_id);
            let client = found.ok_or(AppError::NotConnected)?.client;
            let ended = tables.revoke_grants_of(account, Some(&client.client_id), now)?;
            tables.insert_act(&NewAct {
                act: Act::Ended,
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

/// The account as an app with `profile:read` sees it.
pub async fn external_user(
    state: &AppState,
    account: AccountId,
) -> Result<Option<ExternalUser>, StoreError> {
    let account: Option<Account> = state.store.read(move |tables| tables.account(account)).await?;
    Ok(account.map(|account| ExternalUser {
        user: ExternalProfile {
            id: account.id.to_string(),
            username: account.username.to_string(),
            tier: account.tier,
            email_verified: account.email_verified_at.is_some(),
            inserted_at: account.created_at,
        },
    }))
}
