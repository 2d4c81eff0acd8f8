//! OAuth apps: which wait, and what is decided about them.

use super::{AdminError, Desk};
use crate::service::oauth;
use crate::store::StoreError;
use crate::store::contract::Client;

/// A page of apps by client id, and whether there are more.
pub async fn apps(
    desk: &Desk,
    after: String,
    limit: u32,
) -> Result<(Vec<Client>, bool), StoreError> {
    desk.store
        .read(move |tables| {
            let mut found = tables.clients_page(&after, limit.saturating_add(1))?;
            let more = found.len() > limit as usize;
            found.truncate(limit as usize);
            Ok((found, more))
        })
        .await
}

/// Lets an app serve others than its owner.
pub async fn approve_app(desk: &Desk, client_id: &str) -> Result<Client, AdminError> {
    Ok(oauth::approve_app(&desk.store, desk.now, desk.actor, client_id).await?)
}

/// Does not, or not any more: what others than its owner have allowed to it ends.
pub async fn reject_app(desk: &Desk, client_id: &str) -> Result<Client, AdminError> {
    Ok(oauth::suspend_app(&desk.store, desk.now, desk.actor, client_id).await?)
}
