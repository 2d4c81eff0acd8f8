//! Sessions of logged-in browsers.

use axum::response::Response;
use http::HeaderMap;
use http::header::SET_COOKIE;
use jiff::SignedDuration;

use super::{cookie, see_other};
use crate::api::problem::ApiError;
use crate::service::accounts::{self, AccountError};
use crate::state::AppState;
use crate::store::StoreError;
use crate::store::contract::{Account, BrowserSession};

/// How long a browser stays logged in: long enough for one errand.
const LIFETIME: SignedDuration = SignedDuration::from_mins(30);

/// A browser's session.
pub(super) struct Session {
    /// Who logged in.
    pub(super) account: Account,
    /// The CSRF token of its forms.
    pub(super) csrf: String,
}

/// The account logged in in this browser.
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

/// The session that this form belongs to: `None` if nobody is logged in, or the form was made for
/// another browser.
pub(super) async fn of_form(
    state: &AppState,
    headers: &HeaderMap,
    csrf: &str,
) -> Result<Option<Session>, ApiError> {
    let ours = cookie::is_ours(cookie::read(headers, cookie::SESSION).as_ref(), csrf);
    Ok(current(state, headers).await?.filter(|_| ours))
}

/// Logs the browser in and redirects it. The token is new, so that nobody can know it beforehand
/// (session fixation); the status is 303, so that the browser does not resend the password (RFC
/// 9700, 4.12).
pub(super) async fn begin(
    state: &AppState,
    account: &Account,
    next: &str,
) -> Result<Response, ApiError> {
    let (token, set) = cookie::set(cookie::SESSION, LIFETIME.as_secs(), &*state.random);
    let session = BrowserSession {
        hash: token.hashed(),
        account: account.id,
        token_epoch: account.token_epoch,
        expires_at: state.clock.now() + LIFETIME,
    };
    let proved = account.clone();
    let stored: Result<(), AccountError> = state
        .store
        .write(move |tables| {
            // The password may have changed since it was checked: that ended all sessions of that
            // time, but would miss this one.
            accounts::unchanged(tables, &proved)?;
            Ok(tables.insert_session(&session)?)
        })
        .await;
    stored?;
    let mut answer = see_other(next, Some(set));
    answer.headers_mut().append(SET_COOKIE, cookie::known(state, &account.email));
    Ok(answer)
}

/// Logs this browser out and redirects it.
pub(super) fn end(next: &str) -> Response {
    see_other(next, Some(cookie::clear(cookie::SESSION)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::domain::identity::Email;
    use crate::testing::{PASSWORD, World};

    #[tokio::test]
    async fn a_login_in_progress_fails_if_the_password_changes() {
        let world = World::new();
        let jwt = world.member("one").await;
        let email = Email::parse("one@example.com").unwrap();
        let found: Result<Option<Account>, StoreError> =
            world.state.store.read(move |tables| tables.account_by_email(&email)).await;
        // Proved by the old password.
        let account = found.unwrap().unwrap();
        begin(&world.state, &account, "/device").await.unwrap();
        let body = json!({ "current_password": PASSWORD, "new_password": "canary-password-2" });
        let changed = world.post("/api/auth/change-password", &jwt, body).await;
        assert_eq!(changed.status, 200, "{changed:?}");
        let late = begin(&world.state, &account, "/device").await.unwrap_err();
        assert_eq!(late.problem().status, 401);
    }
}
