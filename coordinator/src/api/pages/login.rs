//! The login form, shared by all pages that need a login.
//!
//! ```text
//! page ─► POST form.action ─► attempt ─► account ─► session::begin ─ 303 ─► errand.next
//!   ▲                            │
//!   └── the form again, with why ┘
//! ```

use axum::response::Response;
use buddo_shared::model::secret::Secret;
use http::header::SET_COOKIE;
use http::{HeaderMap, StatusCode};
use minijinja::context;
use serde::Deserialize;
use utoipa::ToSchema;

use super::{cookie, foreign_form, session};
use crate::api::problem::ApiError;
use crate::api::state::ApiState;
use crate::service::accounts::{self, AccountError, Caller, Offered};
use crate::store::contract::Account;

/// How long a login form may be left open.
const FORM_SECONDS: i64 = 3600;

/// What somebody logs in for.
pub(super) struct Errand<'a> {
    /// Where the form is sent.
    pub(super) action: &'static str,
    /// What the form carries, so that the errand is recognised afterwards.
    pub(super) request: &'a str,
    /// Where the browser goes after the login.
    pub(super) next: String,
    /// The purpose in words: "continue to My App".
    pub(super) purpose: String,
    /// The app that wants something; it never gets the password.
    pub(super) app_name: Option<&'a str>,
    /// Where redirects after the form may lead, besides this server.
    pub(super) target: Option<String>,
}

/// The form.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct LoginForm {
    /// What the page gave this browser's form.
    csrf: String,
    /// What the person came for, as the page gave it.
    #[serde(default)]
    pub(super) request: String,
    /// Mail address.
    email: String,
    /// Password.
    #[schema(value_type = String, format = "password")]
    password: Secret,
    /// One-time code, where the account has them.
    #[schema(value_type = Option<String>)]
    totp_code: Option<Secret>,
}

/// What the page says about a refused login; `None`: the server failed.
fn in_words(error: &AccountError) -> Option<String> {
    let text = match error {
        AccountError::Credentials => "Email or password is wrong. Check both and try again.",
        AccountError::TotpRequired => {
            "Your account wants a one-time code. Type your password again, and the code beside it."
        }
        AccountError::TotpCode => {
            "The one-time code is wrong or was used. Wait for your app's next one."
        }
        AccountError::Suspended(_) => return Some(format!("Sorry: {error}.")),
        AccountError::TooSoon(wait) => {
            let seconds = accounts::seconds(*wait);
            return Some(format!("Too many wrong tries. Wait {seconds} seconds, then try again."));
        }
        _ => return None,
    };
    Some(text.to_owned())
}

/// The form, shown for the first time.
pub(super) fn page(state: &ApiState, headers: &HeaderMap, errand: &Errand<'_>) -> Response {
    render(state, headers, errand, "", None)
}

/// A login attempt for an errand on these pages.
pub(super) async fn attempt(
    state: &ApiState,
    caller: Caller,
    headers: &HeaderMap,
    form: LoginForm,
    errand: &Errand<'_>,
) -> Result<Response, ApiError> {
    match proved(state, caller, headers, form, errand).await? {
        Ok(account) => session::begin(&state.services, &account, &errand.next).await,
        Err(page) => Ok(page),
    }
}

/// The account that a form proves, or the page that says why it does not.
pub(super) async fn proved(
    state: &ApiState,
    caller: Caller,
    headers: &HeaderMap,
    form: LoginForm,
    errand: &Errand<'_>,
) -> Result<Result<Account, Response>, ApiError> {
    if !cookie::is_ours(cookie::read(headers, cookie::FORM).as_ref(), &form.csrf) {
        return Ok(Err(foreign_form(state)));
    }
    let LoginForm { email, password, totp_code, .. } = form;
    let offered = Offered { email: email.clone(), password, totp_code, caller };
    match accounts::prove(&state.services, offered).await {
        Ok(account) => Ok(Ok(account)),
        Err(error) => match in_words(&error) {
            Some(text) => Ok(Err(render(state, headers, errand, &email, Some(text)))),
            None => Err(error.into()),
        },
    }
}

fn render(
    state: &ApiState,
    headers: &HeaderMap,
    errand: &Errand<'_>,
    email: &str,
    error: Option<String>,
) -> Response {
    let (token, set) = cookie::read(headers, cookie::FORM).map_or_else(
        || {
            let (token, header) = cookie::set(cookie::FORM, FORM_SECONDS, &*state.services.random);
            (token, Some(header))
        },
        |token| (token, None),
    );
    let is_again = error.is_some();
    let values = context! {
        action => errand.action,
        request => errand.request,
        purpose => &errand.purpose,
        app_name => errand.app_name,
        csrf => cookie::csrf(&token),
        email,
        error,
    };
    let status = if is_again { StatusCode::UNAUTHORIZED } else { StatusCode::OK };
    let target = errand.target.as_deref();
    let mut response = state.pages.render(status, "login.html", values, target);
    if let Some(header) = set {
        response.headers_mut().append(SET_COOKIE, header);
    }
    response
}
