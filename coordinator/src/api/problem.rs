//! Errors as `application/problem+json` (RFC 9457).
//!
//! Every refusal of the API is one [`ApiError`] of one [`ProblemKind`] from the [`CATALOGUE`], the
//! table printed in `docs/api-errors.md`. A use case's error is converted by `From`, in the file of
//! the handlers that call it.

use std::error::Error;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use buddo_runtime::error_chain::chain;
use buddo_shared::api::problem::{FieldError, Problem};
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use http::{HeaderMap, StatusCode};

use crate::domain::field_error;
use crate::state::AppState;
pub use buddo_shared::api::problem::MEDIA_TYPE;

/// One line of the catalogue: what a `code` means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProblemKind {
    /// The stable identifier for programs; the last part of the problem's `type`.
    pub code: &'static str,
    /// The HTTP status.
    pub status: StatusCode,
    /// The kind for people, the same for each occurrence (RFC 9457, 3.1.3).
    pub title: &'static str,
    /// What a client should do about it; for the documentation.
    pub advice: &'static str,
}

macro_rules! catalogue {
    ($($name:ident = $status:ident $code:literal, $title:literal, $advice:literal;)*) => {
        $(
            #[doc = concat!($title, ": `", $code, "`.")]
            pub const $name: ProblemKind = ProblemKind {
                code: $code,
                status: StatusCode::$status,
                title: $title,
                advice: $advice,
            };
        )*

        /// Every kind of problem that the API answers with.
        pub const CATALOGUE: &[ProblemKind] = &[$($name),*];
    };
}

catalogue! {
    MALFORMED_JSON = BAD_REQUEST "malformed_json", "The body is not JSON",
        "Send one JSON value; the detail names line and column of the mistake.";
    INVALID_REQUEST = BAD_REQUEST "invalid_request", "The request is malformed",
        "The detail says which part cannot be read and what to send instead.";
    INVALID_VERIFICATION_TOKEN = BAD_REQUEST "invalid_verification_token",
        "The verification link is not valid",
        "Ask for a new mail with `POST /api/auth/send-verification`; each link works once, for as long as its mail says.";
    INVALID_LINK = BAD_REQUEST "invalid_link", "The mailed link is not valid",
        "Ask for a new mail; each link works once, for as long as its mail says, and the newest replaces those before.";
    TOKEN_MISSING = UNAUTHORIZED "token_missing", "A token is needed",
        "Send `Authorization: Bearer TOKEN`; the detail says which kind of token.";
    INVALID_TOKEN = UNAUTHORIZED "invalid_token", "The token is not valid",
        "It is malformed, expired or revoked: log in or refresh, then try again.";
    WRONG_TOKEN_KIND = UNAUTHORIZED "wrong_token_kind", "Another kind of token is needed",
        "Deploy endpoints take OAuth access tokens or API keys, account endpoints the JWT of a login.";
    INVALID_CREDENTIALS = UNAUTHORIZED "invalid_credentials", "Email or password is wrong",
        "Check both; the answer is the same for an unknown email.";
    TOTP_REQUIRED = UNAUTHORIZED "totp_required", "A one-time code is needed",
        "Send the app's code, or a recovery code, as `totp_code` with email and password.";
    INVALID_TOTP_CODE = UNAUTHORIZED "invalid_totp_code", "The one-time code is not valid",
        "Each code works once: wait for the app's next one; check that the device's clock is right.";
    REAUTHENTICATION_FAILED = FORBIDDEN "reauthentication_failed", "The owner is not proved",
        "Send the account's password, and `totp_code` where `totp_required` is true.";
    FORBIDDEN = FORBIDDEN "forbidden", "Not yours",
        "The object belongs to another account; check the id and whose token was sent.";
    NOT_A_HOST = FORBIDDEN "not_a_host", "Not a host of this coordinator",
        "Let the host join again with a token of `buddo-coordinator host add NAME`.";
    HOST_LOCKED = FORBIDDEN "host_locked", "There are two copies of the host",
        "Stop the wrong one, run `buddo-coordinator host unlock NAME`, and join again on the right one.";
    INSUFFICIENT_SCOPE = FORBIDDEN "insufficient_scope", "The token lacks a scope",
        "Ask for a token with the scope that the detail and `WWW-Authenticate` name.";
    ROLE_REQUIRED = FORBIDDEN "role_required", "The role does not allow this",
        "The detail names the role that it takes; an admin or owner can give it.";
    CROSS_SITE_REQUEST = FORBIDDEN "cross_site_request", "The request comes from another site",
        "Browsers: ask from a page of this server. Programs: send a token, not the cookie.";
    EMAIL_UNVERIFIED = FORBIDDEN "email_unverified", "The email address is not verified",
        "Open the link in the verification mail, or ask for a new one.";
    TIER_NOT_ALLOWED = FORBIDDEN "tier_not_allowed", "The tier is not open to this account",
        "Choose another tier, or ask the platform's operator: `buddo-coordinator admin tier allow` lets an account use it.";
    ACCOUNT_SUSPENDED = FORBIDDEN "account_suspended", "The account is suspended",
        "Ask the platform's operator; what the account has is kept, and works again once it is resumed.";
    ADMIN_REQUIRED = FORBIDDEN "admin_required", "For administrators only",
        "Log in as an administrator; `buddo-coordinator admin account promote` makes one.";
    ADMIN_LOGIN_REQUIRED = FORBIDDEN "admin_login_required", "A recent login with a one-time code is needed",
        "Enable one-time codes if they are not, then log in with one: it is good for 12 hours of administration.";
    NOT_FOUND = NOT_FOUND "not_found", "There is no such thing",
        "Check the path and the id.";
    TIER_NOT_FOUND = NOT_FOUND "tier_not_found", "There is no such tier",
        "Use a `slug` that `GET /api/deploy/tiers` lists.";
    REVISION_NOT_FOUND = NOT_FOUND "revision_not_found", "There is no such revision",
        "Use a `revision` that `GET /api/deploy/apps/{id}/revisions` lists.";
    METHOD_NOT_ALLOWED = METHOD_NOT_ALLOWED "method_not_allowed", "The path has no such method",
        "The `Allow` header lists those it has.";
    REQUEST_TIMEOUT = REQUEST_TIMEOUT "request_timeout", "The request took too long",
        "Send the whole request faster, or try again later.";
    CONFLICT = CONFLICT "conflict", "Another request got there first",
        "Read the object again, then decide whether to repeat the request.";
    IN_USE = CONFLICT "in_use", "Something else has to change first",
        "The detail says what; nothing was changed.";
    LIMIT_REACHED = CONFLICT "limit_reached", "There are as many as there may be",
        "The detail says of what, and how many; remove one that is not needed.";
    TOTP_ALREADY_ENABLED = CONFLICT "totp_already_enabled", "One-time codes are enabled already",
        "Disable them first with `POST /api/auth/totp/disable`.";
    TOTP_NOT_ENABLED = CONFLICT "totp_not_enabled", "One-time codes are not enabled",
        "Begin with `POST /api/auth/totp/enroll`.";
    PAYLOAD_TOO_LARGE = PAYLOAD_TOO_LARGE "payload_too_large", "The body is too large",
        "Send at most the number of bytes that the detail names.";
    UNSUPPORTED_MEDIA_TYPE = UNSUPPORTED_MEDIA_TYPE "unsupported_media_type",
        "The body has the wrong content type",
        "Send `Content-Type: application/json`.";
    VALIDATION_FAILED = UNPROCESSABLE_ENTITY "validation_failed", "Some fields are not valid",
        "`errors` names each field by pointer, with what is wrong and what to write instead.";
    ILLEGAL_STATE = UNPROCESSABLE_ENTITY "illegal_state",
        "The deployment's state does not allow this",
        "The detail says what is possible in this state.";
    IDEMPOTENCY_KEY_REUSED = UNPROCESSABLE_ENTITY "idempotency_key_reused",
        "The Idempotency-Key was used for another request",
        "Use a fresh key for each new request.";
    RATE_LIMITED = TOO_MANY_REQUESTS "rate_limited", "Too many requests",
        "Wait for the seconds in `Retry-After`; `RateLimit` shows what is left.";
    DEPLOYMENT_LIMIT_REACHED = TOO_MANY_REQUESTS "deployment_limit_reached",
        "The account has as many deployments as it may have",
        "Destroy one that is not needed, or choose another tier.";
    INTERNAL = INTERNAL_SERVER_ERROR "internal", "The server failed",
        "It is not the request's fault: try again; if it stays, report the `request_id`.";
    NO_CAPACITY = SERVICE_UNAVAILABLE "no_capacity", "No host has room",
        "Try again later or choose a smaller tier; nothing was created.";
    NO_HOST_AVAILABLE = SERVICE_UNAVAILABLE "no_host_available", "No host takes new apps",
        "Every host is lost, locked or drained; nothing was created: try again later, or ask the platform's operator.";
    CLOCK_DOUBTED = SERVICE_UNAVAILABLE "clock_doubted", "The server does not believe its clock",
        "Try again later; its administrator sets the clock right or runs `buddo-coordinator clock confirm`.";
    STORAGE_FULL = SERVICE_UNAVAILABLE "storage_full", "The server has no room left",
        "Nothing was changed, and reading goes on: try again later.";
    OVERLOADED = SERVICE_UNAVAILABLE "overloaded", "The server is busy",
        "Wait for the seconds in `Retry-After`, then try again.";
}

/// A refusal: the problem and the headers that go with it.
#[derive(Debug, Clone)]
pub struct ApiError(Box<Inner>);

#[derive(Debug, Clone)]
struct Inner {
    problem: Problem,
    headers: HeaderMap,
}

impl From<field_error::FieldError> for FieldError {
    fn from(error: field_error::FieldError) -> Self {
        Self { pointer: error.pointer, detail: error.detail }
    }
}

impl ApiError {
    /// A problem of `kind`. `detail` says what is wrong here and what to do about it.
    pub fn new(kind: ProblemKind, detail: impl Into<String>) -> Self {
        let problem = Problem::new(kind.status.as_u16(), kind.code, kind.title, detail);
        Self(Box::new(Inner { problem, headers: HeaderMap::new() }))
    }

    /// 422 that names every bad field. The detail joins them, for people who read nothing else.
    pub fn invalid(errors: impl IntoIterator<Item: Into<FieldError>>) -> Self {
        let errors: Vec<FieldError> = errors.into_iter().map(Into::into).collect();
        let lines: Vec<String> = errors
            .iter()
            .map(|error| format!("{} {}", error.pointer.trim_start_matches('/'), error.detail))
            .collect();
        let mut answer = Self::new(VALIDATION_FAILED, lines.join("; "));
        answer.0.problem.errors = errors;
        answer
    }

    /// 422 for one bad field.
    pub fn field(pointer: impl Into<String>, detail: impl ToString) -> Self {
        Self::invalid([FieldError::new(pointer, detail)])
    }

    /// 500. The cause is logged with its chain of sources; the client does not see it.
    pub fn internal(cause: &(dyn Error + 'static)) -> Self {
        tracing::error!(error = %chain(cause), "request failed");
        Self::new(INTERNAL, "the server could not do this; try again, and report the request_id")
    }

    /// Adds a header.
    #[must_use]
    pub fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.0.headers.append(name, value);
        self
    }

    /// Says whether the account requires a one-time code.
    #[must_use]
    pub fn with_totp_required(mut self, required: bool) -> Self {
        self.0.problem.totp_required = Some(required);
        self
    }

    /// The problem itself.
    pub fn problem(&self) -> &Problem {
        &self.0.problem
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let Inner { problem, headers } = *self.0;
        let mut response = render(&problem);
        response.headers_mut().extend(headers);
        response.extensions_mut().insert(problem);
        response
    }
}

fn render(problem: &Problem) -> Response {
    let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let media_type = HeaderValue::from_static(MEDIA_TYPE);
    (status, [(CONTENT_TYPE, media_type)], serde_json::to_string(problem).unwrap_or_default())
        .into_response()
}

/// Middleware: writes the request id into the problem of an answer, so that a person can quote just
/// the body, and makes its `type` a URL that can be opened. It must be inside the layer that sets
/// `x-request-id` on requests.
pub async fn stamp(State(state): State<AppState>, request: Request, next: Next) -> Response {
    let id = request.headers().get("x-request-id").cloned();
    let mut response = next.run(request).await;
    let Some(mut problem) = response.extensions_mut().remove::<Problem>() else {
        return response;
    };
    problem.request_id = id.and_then(|id| id.to_str().map(str::to_owned).ok());
    problem.kind = format!("{}{}", state.config.api.public_url(), problem.kind);
    let (mut parts, _) = response.into_parts();
    let (stamped, body) = render(&problem).into_parts();
    parts.headers.remove(http::header::CONTENT_LENGTH);
    parts.headers.extend(stamped.headers);
    Response::from_parts(parts, body)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fmt::Write as _;

    use axum::Router;
    use axum::body::Body;
    use axum::routing::get;
    use http_body_util::BodyExt as _;
    use tower::ServiceExt as _;

    use super::*;
    use crate::testing::World;

    #[test]
    fn codes_are_unique_words() {
        let codes: BTreeSet<&str> = CATALOGUE.iter().map(|kind| kind.code).collect();
        assert_eq!(codes.len(), CATALOGUE.len());
        for code in codes {
            assert!(code.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{code}");
        }
    }

    #[test]
    fn the_documentation_lists_the_catalogue() {
        let mut table = String::from("| code | status | title | what to do |\n|---|---|---|---|\n");
        for kind in CATALOGUE {
            let ProblemKind { code, status, title, advice } = kind;
            writeln!(table, "| `{code}` | {} | {title} | {advice} |", status.as_u16()).unwrap();
        }
        let page = include_str!("../../../docs/api-errors.md");
        assert!(page.contains(&table), "docs/api-errors.md must hold this table:\n\n{table}");
    }

    #[test]
    fn invalid_input_names_every_field() {
        let error = ApiError::invalid([
            FieldError::new("/port", "is 0; use 1 to 65535"),
            FieldError::new("/env_vars/A B", "contains a space; remove it"),
        ]);
        insta::assert_json_snapshot!(error.problem(), @r#"
        {
          "type": "/docs/errors#validation_failed",
          "title": "Some fields are not valid",
          "status": 422,
          "detail": "port is 0; use 1 to 65535; env_vars/A B contains a space; remove it",
          "code": "validation_failed",
          "error": "port is 0; use 1 to 65535; env_vars/A B contains a space; remove it",
          "errors": [
            {
              "pointer": "/port",
              "detail": "is 0; use 1 to 65535"
            },
            {
              "pointer": "/env_vars/A B",
              "detail": "contains a space; remove it"
            }
          ]
        }
        "#);
    }

    #[tokio::test]
    async fn the_body_has_the_request_id_and_a_type_url_that_resolves() {
        let world = World::new();
        let refuse = || async {
            ApiError::new(NOT_FOUND, "no such page")
                .with_header(HeaderName::from_static("x-more"), HeaderValue::from_static("kept"))
        };
        let app = Router::new()
            .route("/", get(refuse))
            .layer(axum::middleware::from_fn_with_state(world.state.clone(), stamp));
        let request =
            Request::builder().uri("/").header("x-request-id", "r-1").body(Body::empty()).unwrap();
        let response = app.oneshot(request).await.unwrap();
        assert_eq!(response.status(), StatusCode::NOT_FOUND);
        assert_eq!(response.headers()[CONTENT_TYPE], MEDIA_TYPE);
        assert_eq!(response.headers()["x-more"], "kept");
        let body = response.into_body().collect().await.unwrap().to_bytes();
        let problem: Problem = serde_json::from_slice(&body).unwrap();
        assert_eq!(problem.request_id.as_deref(), Some("r-1"));
        assert_eq!(problem.error, "no such page");
        assert_eq!(problem.kind, "https://api.test/docs/errors#not_found");
        let page = world.get("/docs/errors", "").await;
        assert!(page.text.contains("id=\"not_found\""), "{page:?}");
    }

    #[test]
    fn an_internal_error_hides_its_cause_from_the_client() {
        let cause = std::io::Error::other("disk /dev/sda1 at 10.0.0.1");
        let error = ApiError::internal(&cause);
        assert!(!serde_json::to_string(error.problem()).unwrap().contains("sda1"));
        assert_eq!(error.problem().status, 500);
    }
}
