//! Token introspection and revocation.

use buddo_shared::model::secret::Secret;
use serde::Serialize;

use super::consent;
use crate::auth::access_token::is_live;
use crate::auth::token::{PlainToken, PlainTokenKind};
use crate::domain::identity::HashedToken;
use crate::state::AppState;
use crate::store::contract::{Client, Grant, TokenKind};
use crate::store::{StoreError, Tables};

/// Whether a grant's account is suspended: then none of its tokens is valid, until it is resumed.
pub(super) fn is_suspended(tables: &dyn Tables, grant: &Grant) -> Result<bool, StoreError> {
    Ok(tables.account(grant.account)?.is_some_and(|account| account.suspended.is_some()))
}

/// Answer of introspection (RFC 7662, 2.2); of a token that is not active, nothing more.
#[derive(Debug, Default, Serialize, utoipa::ToSchema)]
pub struct Introspection {
    /// Whether it can be used now.
    pub active: bool,
    /// What for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scope: Option<String>,
    /// Whose app.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_id: Option<String>,
    /// Which account.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sub: Option<String>,
    /// Seconds since 1970 when it ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exp: Option<i64>,
    /// Seconds since 1970 when it was made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub iat: Option<i64>,
    /// Always `Bearer`, on access tokens.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_type: Option<&'static str>,
    /// The issuer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub iss: Option<String>,
}

/// What `client` may know about a token: everything about its own; others' appear inactive.
pub async fn introspect(
    state: &AppState,
    client: &Client,
    token: &Secret,
) -> Result<Introspection, StoreError> {
    let Some(hash) = parse(token) else { return Ok(Introspection::default()) };
    let now = state.clock.now();
    let found = state.store.read(move |tables| {
        let Some((token, grant)) = tables.token(&hash)? else { return Ok(None) };
        let may_act = !is_suspended(tables, &grant)?;
        Ok::<_, StoreError>(may_act.then_some((token, grant)))
    });
    let found = found.await?;
    let own = found
        .filter(|(token, grant)| grant.client_id == client.client_id && is_live(token, grant, now));
    let Some((token, grant)) = own else { return Ok(Introspection::default()) };
    Ok(Introspection {
        active: true,
        scope: Some(token.scopes.to_string()),
        client_id: Some(grant.client_id),
        sub: Some(grant.account.to_string()),
        exp: Some(token.expires_at.as_second()),
        iat: Some(token.issued_at.as_second()),
        token_type: (token.kind == TokenKind::Access).then_some("Bearer"),
        iss: Some(state.config.api.public_url()),
    })
}

/// Revokes a token of `client` (RFC 7009): a refresh token with its whole grant, an access token
/// alone. A token that is unknown or another's is ignored, without an error (2.2).
pub async fn revoke(state: &AppState, client: Client, token: &Secret) -> Result<(), StoreError> {
    let Some(hash) = parse(token) else { return Ok(()) };
    let now = state.clock.now();
    state
        .store
        .write(move |tables| {
            let found = tables.token(&hash)?;
            match found.filter(|(_, grant)| grant.client_id == client.client_id) {
                None => Ok(()),
                Some((token, _)) if token.kind == TokenKind::Access => tables.delete_token(&hash),
                Some((_, grant)) => consent::end(tables, &grant, now, "the app revoked its token"),
            }
        })
        .await
}

fn parse(token: &Secret) -> Option<HashedToken> {
    let text = token.expose();
    let token = PlainToken::parse(PlainTokenKind::Access, text)
        .or_else(|| PlainToken::parse(PlainTokenKind::Refresh, text))?;
    Some(token.hashed())
}
