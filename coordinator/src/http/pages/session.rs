//! Browsers that logged in.

use axum::response::Response;
use http::HeaderMap;
use jiff::SignedDuration;

use super::{cookie, see_other};
use crate::http::problem::ApiError;
use crate::state::AppState;
use crate::store::StoreError;
use crate::store::contract::{Account, BrowserSession};

/// How long a browser stays logged in: for one errand.
const LIFETIME: SignedDuration = SignedDuration::from_mins(30);

/// A browser's session.
pub(super) struct Session {
    /// Who logged in.
    pub(super) account: Account,
    /// What its forms carry.
    pub(super) csrf: String,
}

/// Who is logged in in this browser.
pub(super) async fn current(
    state: &AppState,
    headers: &HeaderMap,
) -> Result<Option<Session>, ApiError> {
    let Some(token) = cookie::read(headers, cookie::SESSION) else { return Ok(None) };
    let (hash, now) = (token.hashed(), state.clock.now());
    let account: Result<Option<Account>, StoreError> = state
        .store
        .read(move |tables| {
            let Some(session) = tables.session(&hash)?.filter(|s| now < s.expires_at) else {
                return Ok(None);
            };
            let account = tables.account(session.account)?;
            Ok(account.filter(|account| {
                account.token_epoch == session.token_epoch && account.suspended.is_none()
            }))
        })
        .await;
    let csrf = cookie::csrf(&token);
    Ok(account?.map(|account| Session { account, csrf }))
}

/// The session whose form this is: `None` where nobody is logged in, or the form was made for
/// another browser.
pub(super) async fn of_form(
    state: &AppState,
    headers: &HeaderMap,
    csrf: &str,
) -> Result<Option<Session>, ApiError> {
    let ours = cookie::is_ours(cookie::read(headers, cookie::SESSION).as_ref(), csrf);
    Ok(current(state, headers).await?.filter(|_| ours))
}

/// Logs the browser in and sends it on. The token is new, so that nobody knows it beforehand; the
/// status is 303, so that the browser does not send the password on (RFC 9700, 4.12).
pub(super) async fn begin(
    state: &AppState,
    account: &Account,
    next: &str,
) -> Result<Response, ApiError> {
    let (token, cookie) = cookie::set(cookie::SESSION, LIFETIME.as_secs(), &*state.random);
    let session = BrowserSession {
        hash: token.hashed(),
        account: account.id,
        token_epoch: account.token_epoch,
        expires_at: state.clock.now() + LIFETIME,
    };
    let stored: Result<(), StoreError> =
        state.store.write(move |tables| tables.insert_session(&session)).await;
    stored?;
    Ok(see_other(next, Some(cookie)))
}

/// Forgets who is logged in in this browser and sends it on.
pub(super) fn end(next: &str) -> Response {
    see_other(next, Some(cookie::clear(cookie::SESSION)))
}
