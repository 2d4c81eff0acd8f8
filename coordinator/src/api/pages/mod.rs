//! The pages for browsers: server-rendered, without JavaScript.

pub(crate) mod account;
pub mod authorize;
pub(super) mod cookie;
pub mod device;
pub mod docs;
pub mod email_change;
pub(crate) mod invitation;
mod login;
pub mod reset;
mod session;
pub mod verify;

use aws_lc_rs::digest::{SHA256, digest};
use axum::middleware;
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http::StatusCode;
use http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderValue, LOCATION, REFERRER_POLICY,
    SET_COOKIE, X_FRAME_OPTIONS,
};
use minijinja::{Environment, Value, context};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::problem::ApiError;
use crate::api::middleware::rate_limit::by_address;
use crate::api::state::ApiState;
use crate::domain::identity::{Scope, Scopes};
use crate::limits::Limit;
use crate::state::AppState;

/// The pages of accounts: login, logout, invitations.
pub fn routes(state: &AppState) -> OpenApiRouter<ApiState> {
    let limit = |limit| middleware::from_fn_with_state((state.clone(), limit), by_address);
    let public = OpenApiRouter::new()
        .routes(routes!(account::show))
        .routes(routes!(account::log_out))
        .routes(routes!(invitation::show, invitation::accept))
        .route_layer(limit(Limit::Public));
    OpenApiRouter::new()
        .routes(routes!(account::log_in))
        .route_layer(limit(Limit::Login))
        .merge(public)
}

const STYLE: &str = include_str!("style.css");

/// The templates.
#[derive(Debug)]
pub struct Pages {
    templates: Environment<'static>,
    style_hash: String,
}

impl Pages {
    /// Reads the built-in templates.
    pub fn new() -> Result<Self, minijinja::Error> {
        let mut templates = Environment::new();
        templates.add_template("base.html", include_str!("base.html"))?;
        templates.add_template("login.html", include_str!("login.html"))?;
        templates.add_template("scopes.html", include_str!("scopes.html"))?;
        templates.add_template("consent.html", include_str!("consent.html"))?;
        templates.add_template("device_code.html", include_str!("device_code.html"))?;
        templates.add_template("device.html", include_str!("device.html"))?;
        templates.add_template("verify.html", include_str!("verify.html"))?;
        templates.add_template("reset.html", include_str!("reset.html"))?;
        templates.add_template("email_change.html", include_str!("email_change.html"))?;
        templates.add_template("logged_in.html", include_str!("logged_in.html"))?;
        templates.add_template("invitation.html", include_str!("invitation.html"))?;
        templates.add_template("message.html", include_str!("message.html"))?;
        docs::fit(&mut templates)?;
        templates.add_global("style", STYLE);
        let style_hash = BASE64_STANDARD.encode(digest(&SHA256, STYLE.as_bytes()));
        Ok(Self { templates, style_hash })
    }

    /// A page. Its forms may lead to this server, and by redirect to `form_target` (browsers apply
    /// the policy to redirects after a form as well).
    fn render(
        &self,
        status: StatusCode,
        template: &str,
        values: Value,
        form_target: Option<&str>,
    ) -> Response {
        let page = match self.templates.get_template(template).and_then(|t| t.render(values)) {
            Ok(page) => page,
            Err(error) => return ApiError::internal(&error).into_response(),
        };
        let policy = format!(
            "default-src 'none'; style-src 'sha256-{}'; form-action 'self' {}; \
             frame-ancestors 'none'; base-uri 'none'",
            self.style_hash,
            form_target.unwrap_or_default(),
        );
        let policy = HeaderValue::try_from(policy)
            .unwrap_or(HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'"));
        let headers = [
            (CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8")),
            (CONTENT_SECURITY_POLICY, policy),
            (X_FRAME_OPTIONS, HeaderValue::from_static("DENY")),
            (REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
            (CACHE_CONTROL, HeaderValue::from_static("no-store")),
        ];
        (status, headers, page).into_response()
    }

    /// A page with just a message.
    fn message(&self, status: StatusCode, title: &str, text: &str) -> Response {
        let is_error = !status.is_success();
        self.render(status, "message.html", context! { title, text, is_error }, None)
    }
}

/// Scopes as pages show them.
fn scopes(scopes: &Scopes) -> Vec<Value> {
    let shown = |scope: Scope| context! { name => scope.as_str(), words => scope.in_words() };
    scopes.iter().map(shown).collect()
}

/// The answer to a form made for another browser, or too long ago.
fn foreign_form(state: &ApiState) -> Response {
    state.pages.message(
        StatusCode::FORBIDDEN,
        "This form has expired",
        "Go back to where you came from and start again. Cookies have to be allowed for this site.",
    )
}

/// Redirects a browser with a GET, no matter which method it used (RFC 9700, 4.12).
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
