//! OAuth clients: list, approve, reject.

use super::{AdminContext, AdminError};
use crate::service::oauth;
use crate::store::StoreError;
use crate::store::contract::Client;

/// A page of clients by client id, and whether there are more.
pub async fn clients(
    context: &AdminContext,
    after: String,
    limit: u32,
) -> Result<(Vec<Client>, bool), StoreError> {
    context
        .store
        .read(move |tables| {
            let mut found = tables.clients_page(&after, limit.saturating_add(1))?;
            let more = found.len() > limit as usize;
            found.truncate(limit as usize);
            Ok((found, more))
        })
        .await
}

/// Allows a client to serve users other than its owner.
pub async fn approve_client(context: &AdminContext, client_id: &str) -> Result<Client, AdminError> {
    decide(context, client_id, true).await
}

/// Rejects it or revokes the approval: consents of users other than its owner end.
pub async fn reject_client(context: &AdminContext, client_id: &str) -> Result<Client, AdminError> {
    decide(context, client_id, false).await
}

async fn decide(
    context: &AdminContext,
    client_id: &str,
    is_approved: bool,
) -> Result<Client, AdminError> {
    let client_id = client_id.to_owned();
    context
        .write(move |tables, context| {
            Ok(oauth::decide(tables, context.now, context.actor, &client_id, is_approved)?)
        })
        .await
}
