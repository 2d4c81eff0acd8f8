//! Administrators' decisions on OAuth clients; works beside a serving coordinator.

use buddo_shared::model::id::AccountId;
use jiff::Timestamp;
use serde_json::json;

use crate::store::contract::{Client, NewOAuthAct, OAuthAct, OAuthActRow};
use crate::store::{Store, StoreError, Tables};

/// Number of audit entries of a client that are shown.
const SHOWN: u32 = 100;

/// Why no decision was recorded.
#[derive(Debug, thiserror::Error)]
pub enum ApprovalError {
    /// No account registered a client with this id.
    #[error("there is no app {0}; `buddo-coordinator app list` shows all of them")]
    Unknown(String),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// All clients registered by accounts.
pub async fn clients(store: &Store) -> Result<Vec<Client>, StoreError> {
    store.read(|tables| tables.clients()).await
}

/// The newest entries of the audit log about a client, oldest first.
pub async fn acts(store: &Store, client_id: &str) -> Result<Vec<OAuthActRow>, StoreError> {
    let client_id = client_id.to_owned();
    store.read(move |tables| tables.acts_of(&client_id, SHOWN)).await
}

/// Allows a client to serve users other than its owner.
pub async fn approve_client(
    store: &Store,
    now: Timestamp,
    client_id: &str,
) -> Result<Client, ApprovalError> {
    let client_id = client_id.to_owned();
    store.write(move |tables| decide(tables, now, None, &client_id, true)).await
}

/// Revokes that: consents of users other than its owner end.
pub async fn suspend_client(
    store: &Store,
    now: Timestamp,
    client_id: &str,
) -> Result<Client, ApprovalError> {
    let client_id = client_id.to_owned();
    store.write(move |tables| decide(tables, now, None, &client_id, false)).await
}

/// Either, in a transaction; `actor`: the administrator, `None` on the machine.
pub fn decide(
    tables: &mut dyn Tables,
    now: Timestamp,
    actor: Option<AccountId>,
    client_id: &str,
    is_approved: bool,
) -> Result<Client, ApprovalError> {
    let found = tables.client(client_id)?.filter(|client| client.owner.is_some());
    let client = found.ok_or_else(|| ApprovalError::Unknown(client_id.to_owned()))?;
    tables.approve_client(client_id, is_approved)?;
    let word = if is_approved { "app_approve" } else { "app_reject" };
    tables.insert_admin_act(word, now, actor, &json!({ "app": client_id }))?;
    let ended = if is_approved {
        0
    } else {
        tables.revoke_grants_of_others(client_id, client.owner, now)?
    };
    tables.insert_act(&NewOAuthAct {
        act: if is_approved { OAuthAct::AppApproved } else { OAuthAct::AppSuspended },
        client_id: client_id.to_owned(),
        account: None,
        actor,
        at: now,
        details: Some(json!({ "scopes": client.scopes.words(), "ended_grants": ended })),
    })?;
    Ok(Client { is_approved, ..client })
}
