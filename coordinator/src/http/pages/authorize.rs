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
use axum::response::Response;
use http::{HeaderMap, StatusCode};
use minijinja::context;
use serde::Deserialize;

use super::login::{self, Errand, LoginForm};
use super::session::{self, Session};
use super::{foreign_form, scopes, see_other};
use crate::http::caller::CallerOf;
use crate::http::problem::ApiError;
use crate::service::oauth::{self, Checked, RequestError};
use crate::state::AppState;

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
    match session::current(&state, &headers).await? {
        Some(session) => Ok(consent_page(&state, &query, &request, &session)),
        None => Ok(login::page(&state, &headers, &errand(&query, &request))),
    }
}

/// `POST /api/oauth/authorize/login`.
pub(crate) async fn log_in(
    State(state): State<AppState>,
    CallerOf(caller): CallerOf,
    headers: HeaderMap,
    Form(form): Form<LoginForm>,
) -> Result<Response, ApiError> {
    let query = form.request.clone();
    match checked(&state, &query).await? {
        Ok(request) => {
            login::attempt(&state, caller, &headers, form, &errand(&query, &request)).await
        }
        Err(response) => Ok(response),
    }
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
    let Some(Session { account, .. }) = session::of_form(&state, &headers, &form.csrf).await?
    else {
        return Ok(foreign_form(&state));
    };
    let request = match checked(&state, &form.request).await? {
        Ok(request) => request,
        Err(response) => return Ok(response),
    };
    let answer = match form.decision.as_str() {
        "allow" => oauth::approve(&state, request, &account).await?,
        "switch" => return Ok(session::end(&same_request(&form.request))),
        _ => oauth::deny(&state, &request, &account).await?,
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

fn same_request(query: &str) -> String {
    format!("/api/oauth/authorize?{query}")
}

fn errand<'a>(query: &'a str, request: &'a Checked) -> Errand<'a> {
    Errand {
        action: "/api/oauth/authorize/login",
        request: query,
        next: same_request(query),
        purpose: format!("continue to {}", request.client.name),
        app_name: Some(&request.client.name),
        target: Some(request.redirect_uri.form_source()),
    }
}

fn consent_page(state: &AppState, query: &str, request: &Checked, session: &Session) -> Response {
    let values = context! {
        app_name => &request.client.name,
        is_approved => request.client.is_approved,
        may_serve => request.client.serves(session.account.id),
        username => session.account.username.as_str(),
        host => request.redirect_uri.host(),
        scopes => scopes(&request.scopes),
        csrf => &session.csrf,
        request => query,
    };
    let target = request.redirect_uri.form_source();
    state.door.pages.render(StatusCode::OK, "consent.html", values, Some(&target))
}
