//! What an OAuth access token allows.

use buddo_shared::model::id::AccountId;
use jiff::Timestamp;

use crate::auth::authentication::Authentication;
use crate::domain::identity::{HashedToken, Scopes};
use crate::store::StoreError;
use crate::store::contract::{Grant, Suspension, Token, TokenKind};

/// What a valid access token allows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Access {
    /// The account it acts for.
    pub account: AccountId,
    /// The app that acts.
    pub client_id: String,
    /// What it may do.
    pub scopes: Scopes,
    /// Why the account may not act at all, where it may not.
    pub suspended: Option<Suspension>,
}

/// Looks up an access token; `None` if it is not valid, for any reason.
pub async fn access(
    auth: &Authentication,
    hash: HashedToken,
) -> Result<Option<Access>, StoreError> {
    let now = auth.clock.now();
    let version = auth.store.version();
    if let Some((until, access)) = auth.access.get(&hash, version) {
        return Ok((now < until).then_some(access));
    }
    let found: Option<(Token, Grant, Option<Suspension>)> = auth
        .store
        .read(move |tables| {
            let live = |token: &Token, grant: &Grant| {
                token.kind == TokenKind::Access && is_live(token, grant, now)
            };
            let found = tables.token(&hash)?.filter(|(token, grant)| live(token, grant));
            let Some((token, grant)) = found else { return Ok(None) };
            let suspended = tables.account(grant.account)?.and_then(|account| account.suspended);
            Ok(Some((token, grant, suspended)))
        })
        .await?;
    let Some((token, grant, suspended)) = found else { return Ok(None) };
    let access = Access {
        account: grant.account,
        client_id: grant.client_id,
        scopes: token.scopes,
        suspended,
    };
    auth.access.put(hash, version, (token.expires_at, access.clone()));
    Ok(Some(access))
}

/// Whether the token can be used now.
pub(crate) fn is_live(token: &Token, grant: &Grant, now: Timestamp) -> bool {
    now < token.expires_at && token.used_at.is_none() && grant.revoked_at.is_none()
}
