//! Administrators' decisions on apps; works beside a serving coordinator.

use buddo_shared::model::id::AccountId;
use jiff::Timestamp;
use serde_json::json;

use crate::store::contract::{Act, ActRow, Client, NewAct};
use crate::store::{Store, StoreError, Tables};

/// Number of audit entries of an app that are shown.
const SHOWN: u32 = 100;

/// Why no decision was recorded.
#[derive(Debug, thiserror::Error)]
pub enum ApprovalError {
    /// No account made an app with this id.
    #[error("there is no app {0}; `buddo-coordinator app list` shows all of them")]
    Unknown(String),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// All apps made by accounts.
pub async fn apps(store: &Store) -> Result<Vec<Client>, StoreError> {
    store.read(|tables| tables.clients()).await
}

/// The newest entries of the audit log about an app, oldest first.
pub async fn acts(store: &Store, client_id: &str) -> Result<Vec<ActRow>, StoreError> {
    let client_id = client_id.to_owned();
    store.read(move |tables| tables.acts_of(&client_id, SHOWN)).await
}

/// Allows an app to serve users other than its owner.
pub async fn approve_app(
    store: &Store,
    now: Timestamp,
    client_id: &str,
) -> Result<Client, ApprovalError> {
    let client_id = client_id.to_owned();
    store.write(move |tables| decide(tables, now, None, &client_id, true)).await
}

/// Revokes that: consents of users other than its owner end.
pub async fn suspend_app(
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
    tables.insert_act(&NewAct {
        act: if is_approved { Act::AppApproved } else { Act::AppSuspended },
        client_id: client_id.to_owned(),
        account: None,
        actor,
        at: now,
        details: Some(json!({ "scopes": client.scopes.words(), "ended_grants": ended })),
    })?;
    Ok(Client { is_approved, ..client })
}
