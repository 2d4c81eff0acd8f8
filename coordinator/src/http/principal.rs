//! Who sends a request: bearer token → [`Principal`]. Authorisation is a value: a handler that
//! takes a [`DeployPrincipal`] or a [`LoginPrincipal`] cannot run without it.
//!
//! ```text
//! Authorization: Bearer …
//!   buddo_at_…  OAuth access token ─► DeployPrincipal   (/api/deploy/*; scope deploy:manage)
//!                                  ─► ProfilePrincipal  (/api/external/user; scope profile:read)
//!   a JWT       login              ─► LoginPrincipal    (/api/auth/*, /api/oauth/apps …)
//! ```
//!
//! Refusals follow RFC 6750, 3: no error code where no credentials came, `invalid_token` (401),
//! `insufficient_scope` (403) with the scope.

use axum::extract::{FromRequestParts, MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use buddo_shared::id::AccountId;
use http::header::{AUTHORIZATION, HeaderValue, WWW_AUTHENTICATE};
use http::request::Parts;
use http::{Extensions, HeaderMap, Method};

use super::problem::{self, ApiError, Kind};
use super::rate_limit::{Key, Limit, client_address};
use crate::identity::{Scope, Scopes};
use crate::service::accounts::{self, AccountError, Session};
use crate::service::oauth;
use crate::state::AppState;
use crate::store::contract::Account;

/// Who sends a request, and what the token is good for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    /// The account that the request acts for.
    pub account: AccountId,
    /// How it proved that.
    pub credential: Credential,
}

/// What a request was authorised by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Credential {
    /// The JWT of a login.
    Login,
    /// An OAuth access token.
    OAuth {
        /// The app that acts.
        client_id: String,
        /// What the account allowed it.
        scopes: Scopes,
    },
}

/// A principal that may use the deploy endpoints: an OAuth access token with `deploy:manage`.
#[derive(Debug, Clone)]
pub struct DeployPrincipal(pub Principal);

impl DeployPrincipal {
    /// The account that the request acts for.
    pub fn account(&self) -> AccountId {
        self.0.account
    }
}

/// A principal that may read the profile: an OAuth access token with `profile:read`.
#[derive(Debug, Clone)]
pub struct ProfilePrincipal(pub Principal);

/// A principal that logged in: the account behind a JWT.
#[derive(Debug, Clone)]
pub struct LoginPrincipal(pub Account);

/// The same, and which of the account's logins it is.
#[derive(Debug, Clone)]
pub struct SessionPrincipal(pub Session);

/// Which token an endpoint wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wanted {
    Login,
    OAuth(Scope),
}

impl Wanted {
    fn in_words(self) -> String {
        match self {
            Self::Login => "send the JWT that POST /api/auth/login answers".to_owned(),
            Self::OAuth(scope) => format!(
                "send an OAuth access token with the scope {scope}: `buddo login` gets one, \
                 or an OAuth app by POST /api/oauth/token"
            ),
        }
    }
}

/// Middleware of the deploy endpoints: authorises once, counts the request against the account's
/// reads or writes of this endpoint (each has its published limit to itself), and leaves the [`DeployPrincipal`] for the handler.
pub async fn deploy_guard(
    State(state): State<AppState>,
    mut request: Request,
    next: Next,
) -> Response {
    let principal = match authorise_deploy(&state, request.extensions(), request.headers()).await {
        Ok(principal) => principal,
        Err(refusal) => return refusal.into_response(),
    };
    let limit = limit_of(request.method());
    let endpoint = request.extensions().get::<MatchedPath>().map_or("", MatchedPath::as_str);
    let key = Key::Endpoint(principal.account(), endpoint.into());
    request.extensions_mut().insert(principal);
    state.door.limiters.limited(limit, key, next.run(request)).await
}

/// Middleware of the endpoints that show the profile, as [`deploy_guard`] is of deploys.
pub async fn profile_guard(
    State(state): State<AppState>,
    mut request: Request,
    next: Next,
) -> Response {
    let (extensions, headers) = (request.extensions(), request.headers());
    let principal = match authorise_profile(&state, extensions, headers).await {
        Ok(principal) => principal,
        Err(refusal) => return refusal.into_response(),
    };
    let endpoint = request.extensions().get::<MatchedPath>().map_or("", MatchedPath::as_str);
    let key = Key::Endpoint(principal.0.account, endpoint.into());
    let limit = limit_of(request.method());
    request.extensions_mut().insert(principal);
    state.door.limiters.limited(limit, key, next.run(request)).await
}

/// Middleware of the endpoints that want a login, as [`deploy_guard`] is of deploys.
pub async fn login_guard(
    State(state): State<AppState>,
    mut request: Request,
    next: Next,
) -> Response {
    let principal = match authorise_login(&state, request.extensions(), request.headers()).await {
        Ok(principal) => principal,
        Err(refusal) => return refusal.into_response(),
    };
    let limit = limit_of(request.method());
    let key = Key::Account(principal.0.account.id);
    request.extensions_mut().insert(principal);
    state.door.limiters.limited(limit, key, next.run(request)).await
}

fn limit_of(method: &Method) -> Limit {
    if matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS) {
        Limit::Reads
    } else {
        Limit::Writes
    }
}

impl FromRequestParts<AppState> for DeployPrincipal {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, ApiError> {
        match parts.extensions.get::<Self>() {
            Some(principal) => Ok(principal.clone()),
            None => authorise_deploy(state, &parts.extensions, &parts.headers).await,
        }
    }
}

impl FromRequestParts<AppState> for ProfilePrincipal {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, ApiError> {
        match parts.extensions.get::<Self>() {
            Some(principal) => Ok(principal.clone()),
            None => authorise_profile(state, &parts.extensions, &parts.headers).await,
        }
    }
}

impl FromRequestParts<AppState> for LoginPrincipal {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, ApiError> {
        let SessionPrincipal(session) = SessionPrincipal::from_request_parts(parts, state).await?;
        Ok(Self(session.account))
    }
}

impl FromRequestParts<AppState> for SessionPrincipal {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, ApiError> {
        match parts.extensions.get::<Self>() {
            Some(principal) => Ok(principal.clone()),
            None => authorise_login(state, &parts.extensions, &parts.headers).await,
        }
    }
}

async fn authorise_deploy(
    state: &AppState,
    extensions: &Extensions,
    headers: &HeaderMap,
) -> Result<DeployPrincipal, ApiError> {
    authorise(state, extensions, headers, Scope::DeployManage).await.map(DeployPrincipal)
}

async fn authorise_profile(
    state: &AppState,
    extensions: &Extensions,
    headers: &HeaderMap,
) -> Result<ProfilePrincipal, ApiError> {
    authorise(state, extensions, headers, Scope::ProfileRead).await.map(ProfilePrincipal)
}

/// Who acts by an access token that has `scope`.
async fn authorise(
    state: &AppState,
    extensions: &Extensions,
    headers: &HeaderMap,
    scope: Scope,
) -> Result<Principal, ApiError> {
    let token = bearer(headers, Wanted::OAuth(scope))?;
    let Some(access) = oauth::access(state, token).await? else {
        let detail = "the access token is not valid, has expired or was revoked; refresh it or \
                      log in again";
        return Err(denied(state, extensions, headers, detail));
    };
    if let Some(suspension) = access.suspended {
        return Err(AccountError::Suspended(suspension.reason).into());
    }
    if !access.scopes.contains(scope) {
        return Err(insufficient_scope(scope));
    }
    let credential = Credential::OAuth { client_id: access.client_id, scopes: access.scopes };
    Ok(Principal { account: access.account, credential })
}

async fn authorise_login(
    state: &AppState,
    extensions: &Extensions,
    headers: &HeaderMap,
) -> Result<SessionPrincipal, ApiError> {
    let token = bearer(headers, Wanted::Login)?;
    match accounts::session_of(state, token).await {
        Ok(session) => Ok(SessionPrincipal(session)),
        Err(error @ AccountError::Void) => {
            Err(denied(state, extensions, headers, &error.to_string()))
        }
        Err(error) => Err(error.into()),
    }
}

/// The refusal of a token that nobody has; too many of them from one address, and it is 429.
/// Who sends a valid token is never held up by what others at the same address send.
fn denied(
    state: &AppState,
    extensions: &Extensions,
    headers: &HeaderMap,
    detail: &str,
) -> ApiError {
    let address = client_address(extensions, headers, &state.config.api.trusted_proxies);
    let counted = state.door.limiters.check(Limit::Denied, Key::address(address));
    counted.err().unwrap_or_else(|| invalid_token(detail))
}

/// The bearer token of a request (RFC 6750, 2.1), if it is of the kind that is wanted.
fn bearer(headers: &HeaderMap, wanted: Wanted) -> Result<&str, ApiError> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        if headers.contains_key(AUTHORIZATION) {
            return Err(invalid_token("the request has two Authorization headers; send one"));
        }
        let detail = format!("the request has no token; {}", wanted.in_words());
        return Err(challenge(problem::TOKEN_MISSING, detail, ""));
    };
    let token = value.to_str().ok().and_then(|value| {
        let (scheme, token) = value.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
    });
    let Some(token) = token.filter(|token| !token.is_empty()) else {
        let detail =
            format!("the Authorization header is no `Bearer TOKEN`; {}", wanted.in_words());
        return Err(challenge(problem::TOKEN_MISSING, detail, ""));
    };
    let what = match (wanted, token.starts_with("eyJ")) {
        (Wanted::Login, true) | (Wanted::OAuth(_), false) => return Ok(token),
        (_, true) => "the token is a login JWT, which this endpoint does not take",
        (_, false) => "the token is no login JWT, and this endpoint takes nothing else",
    };
    let detail = format!("{what}; {}", wanted.in_words());
    Err(challenge(problem::WRONG_TOKEN_KIND, detail, INVALID_TOKEN))
}

const INVALID_TOKEN: &str = r#", error="invalid_token""#;

fn invalid_token(detail: &str) -> ApiError {
    challenge(problem::INVALID_TOKEN, detail.to_owned(), INVALID_TOKEN)
}

fn insufficient_scope(scope: Scope) -> ApiError {
    let detail = format!("the token lacks the scope {scope}; ask for a token that has it");
    let parameters = format!(r#", error="insufficient_scope", scope="{scope}""#);
    challenge(problem::INSUFFICIENT_SCOPE, detail, &parameters)
}

fn challenge(kind: Kind, detail: String, parameters: &str) -> ApiError {
    let value = format!(r#"Bearer realm="buddo"{parameters}"#);
    let value = HeaderValue::try_from(value).unwrap_or(HeaderValue::from_static("Bearer"));
    ApiError::new(kind, detail).with_header(WWW_AUTHENTICATE, value)
}
