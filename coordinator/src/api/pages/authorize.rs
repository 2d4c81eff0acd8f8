//! The authorization endpoint: login page, consent page, and the way back to the app.
//!
//! ```text
//! GET  /api/oauth/authorize?…       not logged in ─► login page      logged in ─► consent page
//! POST /api/oauth/authorize/login   ─ 303 ─► GET /api/oauth/authorize?… (the same query)
//! POST /api/oauth/authorize/consent ─ 303 ─► redirect_uri?code=…&state=…&iss=…
//! ```
//!
//! Each step parses the app's whole request again from its query, so that no form field has to be
//! trusted. After credentials the answer is 303 (RFC 9700, 4.12), and pages cannot be framed
//! (4.16).

use axum::extract::{RawQuery, State};
use axum::response::Response;
use http::{HeaderMap, StatusCode};
use minijinja::context;
use serde::Deserialize;
use utoipa::ToSchema;

use super::login::{self, Errand, LoginForm};
use super::session::{self, Session};
use super::{foreign_form, scopes, see_other};
use crate::api::extract::caller::CallerOf;
use crate::api::extract::form::ApiForm;
use crate::api::problem::ApiError;
use crate::api::state::ApiState;
use crate::service::oauth::{self, Checked, RequestError};

/// An authorization request (RFC 6749, 4.1.1; RFC 7636, 4.3), for the document alone: what is
/// wrong with one is told to its app or its person by other rules than those of a form.
#[expect(dead_code, reason = "the names and meanings of the query")]
#[derive(utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
struct AuthorizationRequest {
    /// `code`.
    #[param(example = "code")]
    response_type: Option<String>,
    /// The app.
    client_id: Option<String>,
    /// Where the code goes: one that the app registered.
    redirect_uri: Option<String>,
    /// Scopes, with a space between.
    #[param(example = "profile:read")]
    scope: Option<String>,
    /// Comes back with the code.
    state: Option<String>,
    /// The challenge (RFC 7636).
    code_challenge: Option<String>,
    /// `S256`.
    #[param(example = "S256")]
    code_challenge_method: Option<String>,
}

/// Ask somebody to allow an app something (RFC 6749, 4.1; RFC 7636)
///
/// Where an app sends a browser. Codes are given for PKCE with `S256` alone, and to registered
/// redirect URIs.
#[utoipa::path(
    get,
    path = "/api/oauth/authorize",
    operation_id = "authorize",
    tag = "oauth",
    params(AuthorizationRequest),
    responses(
        (status = 200, body = String, content_type = "text/html", description = "The login page, or where somebody is logged in the consent page"),
        (status = 303, description = "Back to the app with what is wrong with its request"),
        (status = 400, body = String, content_type = "text/html", description = "The app, or where it wants the code, is not known: nobody is sent there. Or its request is not valid, it is not approved, and nobody whom it serves is logged in"),
    )
)]
pub(crate) async fn show(
    State(state): State<ApiState>,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Result<Response, ApiError> {
    let query = query.unwrap_or_default();
    let request = match checked(&state, &headers, &query).await? {
        Ok(request) => request,
        Err(response) => return Ok(response),
    };
    match session::current(&state.services, &headers).await? {
        Some(session) => Ok(consent_page(&state, &query, &request, &session)),
        None => Ok(login::page(&state, &headers, &errand(&query, &request))),
    }
}

/// The login form
///
/// What the login page of an authorization sends. It belongs to the browser that was shown the
/// page.
#[utoipa::path(
    post,
    path = "/api/oauth/authorize/login",
    operation_id = "authorize_login",
    tag = "pages",
    request_body(content = LoginForm, content_type = "application/x-www-form-urlencoded"),
    responses(
        (status = 303, description = "On to the consent page, with a cookie; or back to the app"),
        (status = 400, body = String, content_type = "text/html", description = "The app's request is not valid"),
        (status = 401, body = String, content_type = "text/html", description = "The form again, with what is wrong"),
        (status = 403, body = String, content_type = "text/html", description = "The form was made for another browser"),
    )
)]
pub(crate) async fn log_in(
    State(state): State<ApiState>,
    CallerOf(caller): CallerOf,
    headers: HeaderMap,
    ApiForm(form): ApiForm<LoginForm>,
) -> Result<Response, ApiError> {
    let query = form.request.clone();
    match checked(&state, &headers, &query).await? {
        Ok(request) => {
            login::attempt(&state, caller, &headers, form, &errand(&query, &request)).await
        }
        Err(response) => Ok(response),
    }
}

/// The consent form.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct ConsentForm {
    /// What the page gave this browser's form.
    csrf: String,
    /// The app's request, as the page gave it.
    request: String,
    /// `allow`, `deny`, or `switch` to log in as somebody else.
    #[schema(example = "allow")]
    decision: String,
}

/// The consent form
///
/// What the consent page sends. It belongs to the browser that was shown the page.
#[utoipa::path(
    post,
    path = "/api/oauth/authorize/consent",
    operation_id = "authorize_consent",
    tag = "pages",
    security(("browser" = [])),
    request_body(content = ConsentForm, content_type = "application/x-www-form-urlencoded"),
    responses(
        (status = 303, description = "Back to the app, with a code or `access_denied`"),
        (status = 400, body = String, content_type = "text/html", description = "The app's request is not valid"),
        (status = 403, body = String, content_type = "text/html", description = "Nobody is logged in, or the form was made for another browser"),
    )
)]
pub(crate) async fn decide(
    State(state): State<ApiState>,
    headers: HeaderMap,
    ApiForm(form): ApiForm<ConsentForm>,
) -> Result<Response, ApiError> {
    let Some(Session { account, .. }) =
        session::of_form(&state.services, &headers, &form.csrf).await?
    else {
        return Ok(foreign_form(&state));
    };
    let request = match checked(&state, &headers, &form.request).await? {
        Ok(request) => request,
        Err(response) => return Ok(response),
    };
    let answer = match form.decision.as_str() {
        "allow" => oauth::approve(&state.services, request, &account).await?,
        "switch" => return Ok(session::end(&same_request(&form.request))),
        _ => oauth::deny(&state.services, &request, &account).await?,
    };
    Ok(see_other(&answer.0, None))
}

/// The app's request, or the error answer that replaces the page.
async fn checked(
    state: &ApiState,
    headers: &HeaderMap,
    query: &str,
) -> Result<Result<Checked, Response>, ApiError> {
    let title = "This app cannot be connected";
    match oauth::check_request(&state.services, query).await {
        Ok(request) => Ok(Ok(request)),
        Err(RequestError::Shown(text)) => {
            Ok(Err(state.pages.message(StatusCode::BAD_REQUEST, title, text)))
        }
        Err(RequestError::Refused { client, answer, why }) => {
            let visitor = session::current(&state.services, headers).await?;
            let serves = |visitor: Session| client.serves(visitor.account.id);
            if client.is_approved || visitor.is_some_and(serves) {
                return Ok(Err(see_other(&answer.0, None)));
            }
            let text = format!("The app's request is not valid: {why}. Tell the app's maker.");
            Ok(Err(state.pages.message(StatusCode::BAD_REQUEST, title, &text)))
        }
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

fn consent_page(state: &ApiState, query: &str, request: &Checked, session: &Session) -> Response {
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
    state.pages.render(StatusCode::OK, "consent.html", values, Some(&target))
}
