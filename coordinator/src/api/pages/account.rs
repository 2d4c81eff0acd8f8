//! Browser logins for the API: the login page, and logging out.
//!
//! ```text
//! GET  /login?redirect=/…  not logged in ─► login page      logged in ─ 303 ─► redirect, or who it is
//! POST /login              ─ 303 with `session` ─► redirect
//! POST /logout             ─ the login ends, 303 ─► /login
//! ```

use axum::extract::State;
use axum::response::Response;
use http::header::SET_COOKIE;
use http::{HeaderMap, StatusCode};
use minijinja::context;
use serde::Deserialize;
use utoipa::ToSchema;

use super::login::{self, Errand, LoginForm};
use super::{cookie, foreign_form, see_other};
use crate::api::extract::caller::CallerOf;
use crate::api::extract::form::{ApiForm, ApiQuery};
use crate::api::problem::ApiError;
use crate::api::state::ApiState;
use crate::auth::session::{self, Session, SessionError};
use crate::auth::token::{PlainToken, PlainTokenKind};
use crate::service::accounts::{self};
use crate::state::AppState;

const LOGIN: &str = "/login";

/// Where the browser goes on to.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct Onward {
    /// A path of this server.
    #[serde(default)]
    #[param(example = "/invitation")]
    redirect: String,
}

/// A logged-in browser.
pub(super) struct Browser {
    pub(super) session: Session,
    /// The CSRF token of its forms.
    pub(super) csrf: String,
}

/// The account logged in for the API in this browser.
pub(super) async fn current(
    state: &AppState,
    headers: &HeaderMap,
) -> Result<Option<Browser>, ApiError> {
    let Some(token) = token(headers) else { return Ok(None) };
    match session::session_of_browser(&state.auth, &token).await {
        Ok(session) => Ok(Some(Browser { session, csrf: cookie::csrf(&token) })),
        Err(SessionError::Void) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// The browser that sent this form: `None` if nobody is logged in, or the form was made for another
/// browser.
pub(super) async fn of_form(
    state: &AppState,
    headers: &HeaderMap,
    csrf: &str,
) -> Result<Option<Browser>, ApiError> {
    let ours = cookie::is_ours(token(headers).as_ref(), csrf);
    Ok(current(state, headers).await?.filter(|_| ours))
}

fn token(headers: &HeaderMap) -> Option<PlainToken> {
    cookie::read_as(headers, cookie::LOGIN, PlainTokenKind::WebSession)
}

/// The login page of browsers
///
/// Where a browser logs in for the API. `redirect` is a path of this server.
#[utoipa::path(
    get,
    path = "/login",
    operation_id = "login_page",
    tag = "pages",
    security((), ("session" = [])),
    params(Onward),
    responses(
        (status = 200, body = String, content_type = "text/html", description = "The form, or who is logged in"),
        (status = 303, description = "Somebody is logged in: on to `redirect`"),
    )
)]
pub(crate) async fn show(
    State(state): State<ApiState>,
    headers: HeaderMap,
    ApiQuery(onward): ApiQuery<Onward>,
) -> Result<Response, ApiError> {
    let Some(browser) = current(&state.services, &headers).await? else {
        return Ok(login::page(&state, &headers, &errand(&onward.redirect)));
    };
    if let Some(path) = own_path(&onward.redirect) {
        return Ok(see_other(path, None));
    }
    let values = context! {
        username => browser.session.account.username.as_str(),
        csrf => browser.csrf,
    };
    Ok(state.pages.render(StatusCode::OK, "logged_in.html", values, None))
}

/// The form of that page
///
/// What the login page sends. It belongs to the browser that was shown the page.
#[utoipa::path(
    post,
    path = "/login",
    operation_id = "login_form",
    tag = "pages",
    request_body(content = LoginForm, content_type = "application/x-www-form-urlencoded"),
    responses(
        (status = 303, description = "On to where the browser came for, with a cookie"),
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
    let redirect = form.request.clone();
    let errand = errand(&redirect);
    let proved = match login::proved(&state, caller.clone(), &headers, form, &errand).await? {
        Ok(account) => account,
        Err(page) => return Ok(page),
    };
    let seconds = crate::auth::token::jwt::LIFETIME.as_secs();
    let (token, set) =
        cookie::set_as(cookie::LOGIN, PlainTokenKind::WebSession, seconds, &*state.services.random);
    accounts::log_in_browser(&state.services, &proved, caller, &token).await?;
    let mut answer = see_other(&errand.next, Some(set));
    answer.headers_mut().append(SET_COOKIE, cookie::known(&state.services, &proved.email));
    Ok(answer)
}

/// The form that ends it.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct LogoutForm {
    /// What the page gave this browser's form.
    csrf: String,
}

/// End the login of a browser
///
/// What the button of the login page sends where somebody is logged in.
#[utoipa::path(
    post,
    path = "/logout",
    operation_id = "logout_form",
    tag = "pages",
    security(("session" = [])),
    request_body(content = LogoutForm, content_type = "application/x-www-form-urlencoded"),
    responses(
        (status = 303, description = "The login has ended: on to the login page"),
        (status = 403, body = String, content_type = "text/html", description = "Nobody is logged in, or the form was made for another browser"),
    )
)]
pub(crate) async fn log_out(
    State(state): State<ApiState>,
    headers: HeaderMap,
    ApiForm(form): ApiForm<LogoutForm>,
) -> Result<Response, ApiError> {
    let Some(Browser { session, .. }) = of_form(&state.services, &headers, &form.csrf).await?
    else {
        return Ok(foreign_form(&state));
    };
    accounts::revoke_session(&state.services, &session, session.id).await?;
    Ok(see_other(LOGIN, Some(cookie::clear(cookie::LOGIN))))
}

/// Redirects to the login page, and from there to `path` on this server.
pub(super) fn login_first(path: &str) -> Response {
    let query =
        url::form_urlencoded::Serializer::new(String::new()).append_pair("redirect", path).finish();
    see_other(&format!("{LOGIN}?{query}"), None)
}

fn errand(redirect: &str) -> Errand<'_> {
    Errand {
        action: LOGIN,
        request: redirect,
        next: own_path(redirect).unwrap_or(LOGIN).to_owned(),
        purpose: "Buddo".to_owned(),
        app_name: None,
        target: None,
    }
}

/// A redirect target that stays on this server: it begins with `/` but not `//`, and contains
/// nothing that a browser would treat the same (a backslash, a line break, a tab).
fn own_path(text: &str) -> Option<&str> {
    let plain = text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\');
    (text.starts_with('/') && !text.starts_with("//") && plain).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects_stay_on_this_site() {
        for path in ["/", "/orgs?a=b%20c#d", "/invitation?token=x"] {
            assert_eq!(own_path(path), Some(path));
        }
        for elsewhere in [
            "",
            "orgs",
            "//evil.example",
            "/\\evil.example",
            "/\t/evil.example",
            "/\r\nLocation: https://evil.example",
            "https://evil.example",
            "javascript:alert(1)",
            "/ä",
            " /orgs",
        ] {
            assert_eq!(own_path(elsewhere), None, "{elsewhere:?}");
        }
    }
}
