//! The page on which a person connects a device (RFC 8628, 3.3).
//!
//! ```text
//! GET  /device?user_code=…  not logged in ─► login page   no code ─► code form   else ─► decision
//! POST /device/login        ─ 303 ─► GET /device?user_code=… (the same)
//! POST /device              ─► "You can go back to your device"
//! ```
//!
//! The code is shown again where the person decides, even if it came in a link: somebody who sends
//! such a link to others (RFC 8628, 5.4) hopes that they do not check.

use axum::extract::State;
use axum::response::Response;
use http::{HeaderMap, StatusCode};
use minijinja::context;
use serde::Deserialize;
use utoipa::ToSchema;

use super::login::{self, Errand, LoginForm};
use super::session::{self, Session};
use super::{foreign_form, scopes};
use crate::api::extract::caller::CallerOf;
use crate::api::extract::form::{ApiForm, ApiQuery};
use crate::api::problem::ApiError;
use crate::api::state::ApiState;
use crate::auth::token::UserCode;
use crate::service::oauth::{self, DEVICE_CODE_LIFETIME, Decided, DeviceRequest};

/// The code, in the link and from the form.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct DeviceLink {
    /// The code that the device shows.
    #[serde(default)]
    #[param(example = "BCDF-GHJK")]
    user_code: String,
}

/// The page on which a device is connected (RFC 8628, 3.3)
///
/// Somebody types the code that their device shows, logs in, and decides.
#[utoipa::path(
    get,
    path = "/device",
    operation_id = "device_page",
    tag = "pages",
    params(DeviceLink),
    responses(
        (status = 200, body = String, content_type = "text/html", description = "The login page, the form for the code, or the decision"),
        (status = 404, body = String, content_type = "text/html", description = "The form for the code: no device waits with this one"),
    )
)]
pub(crate) async fn show(
    State(state): State<ApiState>,
    headers: HeaderMap,
    ApiQuery(link): ApiQuery<DeviceLink>,
) -> Result<Response, ApiError> {
    let Some(session) = session::current(&state.services, &headers).await? else {
        return Ok(login::page(&state, &headers, &errand(&link.user_code)));
    };
    if link.user_code.trim().is_empty() {
        return Ok(code_form(&state, &session, "", false));
    }
    let found = match UserCode::parse(&link.user_code) {
        Some(code) => {
            oauth::device_request(&state.services, &code).await?.map(|request| (code, request))
        }
        None => None,
    };
    Ok(match found {
        Some((code, request)) => decision_page(&state, &session, &code, &request),
        None => code_form(&state, &session, &link.user_code, true),
    })
}

/// The login form of that page
///
/// What the login page of a device sends. It belongs to the browser that was shown the page.
#[utoipa::path(
    post,
    path = "/device/login",
    operation_id = "device_login",
    tag = "pages",
    request_body(content = LoginForm, content_type = "application/x-www-form-urlencoded"),
    responses(
        (status = 303, description = "On to the decision, with a cookie"),
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
    let code = form.request.clone();
    login::attempt(&state, caller, &headers, form, &errand(&code)).await
}

/// The decision.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct DecisionForm {
    /// What the page gave this browser's form.
    csrf: String,
    /// The code that the device shows.
    #[serde(default)]
    #[schema(example = "BCDF-GHJK")]
    user_code: String,
    /// `allow`, `deny`, or `switch` to log in as somebody else.
    #[schema(example = "allow")]
    decision: String,
}

/// The decision
///
/// What the page of a device sends. It belongs to the browser that was shown the page.
#[utoipa::path(
    post,
    path = "/device",
    operation_id = "device_decision",
    tag = "pages",
    security(("browser" = [])),
    request_body(content = DecisionForm, content_type = "application/x-www-form-urlencoded"),
    responses(
        (status = 200, body = String, content_type = "text/html", description = "The device is told"),
        (status = 303, description = "Log in as somebody else"),
        (status = 403, body = String, content_type = "text/html", description = "Nobody is logged in, the form was made for another browser, or the app serves its owner only"),
        (status = 404, body = String, content_type = "text/html", description = "No device waits with this code"),
    )
)]
pub(crate) async fn decide(
    State(state): State<ApiState>,
    headers: HeaderMap,
    ApiForm(form): ApiForm<DecisionForm>,
) -> Result<Response, ApiError> {
    let Some(session) = session::of_form(&state.services, &headers, &form.csrf).await? else {
        return Ok(foreign_form(&state));
    };
    if form.decision == "switch" {
        return Ok(session::end(&same_code(&form.user_code)));
    }
    let Some(code) = UserCode::parse(&form.user_code) else {
        return Ok(code_form(&state, &session, &form.user_code, true));
    };
    let allow = form.decision == "allow";
    let decided = oauth::decide_device(&state.services, &code, &session.account, allow).await?;
    let (status, title, text) = match decided {
        Decided::Allowed => (
            StatusCode::OK,
            "Your device is connected",
            "You can close this page and go back to your device.",
        ),
        Decided::Denied => (
            StatusCode::OK,
            "Your device is not connected",
            "It was told so and can do nothing. You can close this page.",
        ),
        Decided::OwnerOnly => (
            StatusCode::FORBIDDEN,
            "This app cannot be connected",
            "It is not approved yet and serves its owner only.",
        ),
        Decided::Gone => return Ok(code_form(&state, &session, &form.user_code, true)),
    };
    Ok(state.pages.message(status, title, text))
}

fn errand(code: &str) -> Errand<'_> {
    Errand {
        action: "/device/login",
        request: code,
        next: same_code(code),
        purpose: "connect a device".to_owned(),
        app_name: None,
        target: None,
    }
}

/// The path of this page with the code as it came, valid or not.
fn same_code(code: &str) -> String {
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    if !code.is_empty() {
        query.append_pair("user_code", code);
    }
    let query = query.finish();
    if query.is_empty() { "/device".to_owned() } else { format!("/device?{query}") }
}

fn code_form(state: &ApiState, session: &Session, code: &str, is_wrong: bool) -> Response {
    let minutes = DEVICE_CODE_LIFETIME.as_mins();
    let text = format!(
        "No device waits with this code. Check it, or start again on the device: codes live for \
         {minutes} minutes and work once."
    );
    let values = context! {
        username => session.account.username.as_str(),
        code,
        error => is_wrong.then_some(text),
    };
    let status = if is_wrong { StatusCode::NOT_FOUND } else { StatusCode::OK };
    state.pages.render(status, "device_code.html", values, None)
}

fn decision_page(
    state: &ApiState,
    session: &Session,
    code: &UserCode,
    request: &DeviceRequest,
) -> Response {
    let values = context! {
        app_name => &request.client.name,
        is_approved => request.client.is_approved,
        may_serve => request.client.serves(session.account.id),
        username => session.account.username.as_str(),
        scopes => scopes(&request.scopes),
        csrf => &session.csrf,
        code => code.to_string(),
    };
    state.pages.render(StatusCode::OK, "device.html", values, None)
}
