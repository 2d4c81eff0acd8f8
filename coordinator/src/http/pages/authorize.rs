//! The authorization endpoint: login page, consent page, and the way back to the app.
//!
//! ```text
//! GET  /api/oauth/authorize?…       not logged in ─► login page      logged in ─► consent page
//! POST /api/oauth/authorize/login   ─ 303 ─► GET /api/oauth/authorize?… (the same query)
//! POST /api/oauth/authorize/consent ─ 303 ─► redirect_uri?code=…&state=…&iss=…
//! ```
//!
//! Each step reads the app's whole request again from its query, so that nothing that a form
//! carries is believed. After credentials the answer is 303 (RFC 9700, 4.12), pages cannot be
//! framed (4.16).

use axum::Form;
use axum::extract::{RawQuery, State};
use axum::response::{IntoResponse as _, Response};
use buddo_shared::secret::Secret;
use http::header::{CACHE_CONTROL, HeaderValue, LOCATION, REFERRER_POLICY, SET_COOKIE};
use http::{HeaderMap, StatusCode};
use jiff::SignedDuration;
use minijinja::context;
use serde::Deserialize;

use super::cookie;
use crate::http::caller::CallerOf;
use crate::http::problem::ApiError;
use crate::service::accounts::{self, AccountError, Offered};
use crate::service::oauth::{self, Checked, RequestError};
use crate::state::AppState;
use crate::store::StoreError;
use crate::store::contract::{Account, BrowserSession};

/// How long a browser stays logged in: for one errand.
const SESSION_LIFETIME: SignedDuration = SignedDuration::from_mins(30);
/// How long a login form may be left open.
const FORM_SECONDS: i64 = 3600;

/// `GET /api/oauth/authorize`.
pub(crate) async fn show(
    State(state): State<AppState>,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Result<Response, ApiError> {
    let query = query.unwrap_or_default();
    let request = match checked(&state, &query).await? {
        Ok(request) => request,
        Err(response) => return Ok(response),
    };
    match session(&state, &headers).await? {
        Some((account, csrf)) => Ok(consent_page(&state, &query, &request, &account, &csrf)),
        None => Ok(login_page(&state, &headers, &query, &request, None)),
    }
}

/// The login form.
#[derive(Debug, Deserialize)]
pub(crate) struct LoginForm {
    csrf: String,
    request: String,
    email: String,
    password: Secret,
    totp_code: Option<Secret>,
}

/// `POST /api/oauth/authorize/login`.
pub(crate) async fn log_in(
    State(state): State<AppState>,
    CallerOf(caller): CallerOf,
    headers: HeaderMap,
    Form(form): Form<LoginForm>,
) -> Result<Response, ApiError> {
    if !cookie::is_ours(cookie::read(&headers, cookie::FORM).as_ref(), &form.csrf) {
        return Ok(foreign_form(&state));
    }
    let request = match checked(&state, &form.request).await? {
        Ok(request) => request,
        Err(response) => return Ok(response),
    };
    let LoginForm { request: query, email, password, totp_code, .. } = form;
    let offered = Offered { email: email.clone(), password, totp_code, caller };
    let account = match accounts::prove(&state, offered).await {
        Ok(account) => account,
        Err(error) => {
            let Some(text) = in_words(&error) else { return Err(error.into()) };
            let failed = Some((email.as_str(), text));
            return Ok(login_page(&state, &headers, &query, &request, failed));
        }
    };
    let seconds = SESSION_LIFETIME.as_secs();
    let (token, cookie) = cookie::set(cookie::SESSION, seconds, &*state.random);
    let session = BrowserSession {
        hash: token.hashed(),
        account: account.id,
        token_epoch: account.token_epoch,
        expires_at: state.clock.now() + SESSION_LIFETIME,
    };
    let stored: Result<(), StoreError> =
        state.store.write(move |tables| tables.insert_session(&session)).await;
    stored.map_err(ApiError::from)?;
    Ok(see_other(&format!("/api/oauth/authorize?{query}"), Some(cookie)))
}

/// What the page says of a refused login; `None`: the server failed.
fn in_words(error: &AccountError) -> Option<String> {
    let text = match error {
        AccountError::Credentials => "Email or password is wrong. Check both and try again.",
        AccountError::TotpRequired => {
            "Your account wants a one-time code. Type your password again, and the code beside it."
        }
        AccountError::TotpCode => {
            "The one-time code is wrong or was used. Wait for your app's next one."
        }
        AccountError::TooSoon(wait) => {
            let seconds = accounts::seconds(*wait);
            return Some(format!("Too many wrong tries. Wait {seconds} seconds, then try again."));
        }
        _ => return None,
    };
    Some(text.to_owned())
}

/// The consent form.
#[derive(Debug, Deserialize)]
pub(crate) struct ConsentForm {
    csrf: String,
    request: String,
    decision: String,
}

/// `POST /api/oauth/authorize/consent`.
pub(crate) async fn decide(
    State(state): State<AppState>,
    headers: HeaderMap,
    Form(form): Form<ConsentForm>,
) -> Result<Response, ApiError> {
    let ours = cookie::is_ours(cookie::read(&headers, cookie::SESSION).as_ref(), &form.csrf);
    let session = session(&state, &headers).await?;
    let Some((account, _)) = session.filter(|_| ours) else {
        return Ok(foreign_form(&state));
    };
    let request = match checked(&state, &form.request).await? {
        Ok(request) => request,
        Err(response) => return Ok(response),
    };
    let answer = match form.decision.as_str() {
        "allow" => oauth::approve(&state, request, &account).await.map_err(ApiError::from)?,
        "switch" => {
            let again = format!("/api/oauth/authorize?{}", form.request);
            return Ok(see_other(&again, Some(cookie::clear(cookie::SESSION))));
        }
        _ => oauth::deny(&state, &request),
    };
    Ok(see_other(&answer.0, None))
}

/// The app's request, or the answer that it gets instead of a page.
async fn checked(state: &AppState, query: &str) -> Result<Result<Checked, Response>, ApiError> {
    match oauth::check_request(state, query).await {
        Ok(request) => Ok(Ok(request)),
        Err(RequestError::Shown(text)) => {
            let title = "This app cannot be connected";
            Ok(Err(state.door.pages.message(StatusCode::BAD_REQUEST, title, text)))
        }
        Err(RequestError::Answered(answer)) => Ok(Err(see_other(&answer.0, None))),
        Err(RequestError::Store(error)) => Err(error.into()),
    }
}

/// Who is logged in in this browser, and the token of its forms.
async fn session(
    state: &AppState,
    headers: &HeaderMap,
) -> Result<Option<(Account, String)>, ApiError> {
    let Some(token) = cookie::read(headers, cookie::SESSION) else { return Ok(None) };
    let (hash, now) = (token.hashed(), state.clock.now());
    let account: Result<Option<Account>, StoreError> = state
        .store
        .read(move |tables| {
            let Some(session) = tables.session(&hash)?.filter(|s| now < s.expires_at) else {
                return Ok(None);
            };
            let account = tables.account(session.account)?;
            Ok(account.filter(|account| account.token_epoch == session.token_epoch))
        })
        .await;
    let account = account.map_err(ApiError::from)?;
    Ok(account.map(|account| (account, cookie::csrf(&token))))
}

fn login_page(
    state: &AppState,
    headers: &HeaderMap,
    query: &str,
    request: &Checked,
    failed: Option<(&str, String)>,
) -> Response {
    let (token, set) = cookie::read(headers, cookie::FORM).map_or_else(
        || {
            let (token, header) = cookie::set(cookie::FORM, FORM_SECONDS, &*state.random);
            (token, Some(header))
        },
        |token| (token, None),
    );
    let status = if failed.is_some() { StatusCode::UNAUTHORIZED } else { StatusCode::OK };
    let (email, error) = failed.unzip();
    let values = context! {
        app_name => &request.client.name,
        csrf => cookie::csrf(&token),
        request => query,
        email => email.unwrap_or_default(),
        error,
    };
    let target = request.redirect_uri.origin();
    let mut response = state.door.pages.render(status, "login.html", values, Some(&target));
    if let Some(header) = set {
        response.headers_mut().append(SET_COOKIE, header);
    }
    response
}

fn consent_page(
    state: &AppState,
    query: &str,
    request: &Checked,
    account: &Account,
    csrf: &str,
) -> Response {
    let scopes: Vec<_> = request
        .scopes
        .iter()
        .map(|scope| context! { name => scope.as_str(), words => scope.in_words() })
        .collect();
    let values = context! {
        app_name => &request.client.name,
        is_approved => request.client.is_approved,
        username => account.username.as_str(),
        host => request.redirect_uri.host(),
        scopes, csrf,
        request => query,
    };
    let target = request.redirect_uri.origin();
    state.door.pages.render(StatusCode::OK, "consent.html", values, Some(&target))
}

fn foreign_form(state: &AppState) -> Response {
    state.door.pages.message(
        StatusCode::FORBIDDEN,
        "This form has expired",
        "Go back to the app and start again. Cookies have to be allowed for this site.",
    )
}

fn see_other(location: &str, cookie: Option<HeaderValue>) -> Response {
    let Ok(location) = HeaderValue::try_from(location) else {
        return StatusCode::BAD_REQUEST.into_response();
    };
    let headers = [
        (LOCATION, location),
        (CACHE_CONTROL, HeaderValue::from_static("no-store")),
        (REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    ];
    let mut response = (StatusCode::SEE_OTHER, headers).into_response();
    if let Some(cookie) = cookie {
        response.headers_mut().append(SET_COOKIE, cookie);
    }
    response
}
