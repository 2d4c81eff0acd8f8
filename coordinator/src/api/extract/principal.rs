//! The gate that each request passes: headers → credential → what it may do, which is left for the
//! handler. [`access`] decides who may do what; this file translates it to HTTP.
//!
//! ```text
//! Authorization: Bearer …
//!   buddo_at_…   OAuth access token ─► DeployPrincipal, ProfilePrincipal, MemberPrincipal
//!   buddo_key_…  API key            ─► DeployPrincipal
//!   a JWT        login              ─► SessionPrincipal, MemberPrincipal
//! Cookie: session=buddo_ws_…        ─► the same; changes must come from our pages
//! ```
//!
//! Refusals follow RFC 6750, 3: no error code if no credentials were sent, `invalid_token` (401),
//! `insufficient_scope` (403) with the scope. A handler that takes one of these extractors cannot
//! run without the gate: nothing else makes them.

use axum::extract::{FromRequestParts, MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use http::header::{AUTHORIZATION, HeaderValue, WWW_AUTHENTICATE};
use http::request::Parts;
use http::{Extensions, HeaderMap, Method};

use crate::api::middleware::cross_site;
use crate::api::middleware::rate_limit::{check, client_address, stamp};
use crate::api::pages::cookie;
use crate::api::problem::{self, ApiError, ProblemKind};
use crate::auth::access::policy::{self, Admitted, Denied, Rule};
use crate::auth::access::{
    self, AdminCheck, ClientCheck, DeployCheck, MemberCheck, Presented, StreamAuthorization,
    Unknown,
};
use crate::auth::session::Session;
use crate::auth::token::{PlainToken, PlainTokenKind};
use crate::limits::shown::{Fingerprint, Who};
use crate::limits::{Key, Limit, RateLimitStatus};
use crate::service::admin::AdminError;
use crate::state::AppState;
use crate::store::contract::Account;

/// A principal that may use the deploy endpoints.
#[derive(Debug, Clone, Copy)]
pub struct DeployPrincipal(pub DeployCheck);

/// The same, for an answer that outlasts the request: it can be rechecked.
#[derive(Debug, Clone, Copy)]
pub struct StreamPrincipal(pub StreamAuthorization);

/// A principal that may read the profile.
#[derive(Debug, Clone, Copy)]
pub struct ProfilePrincipal(pub ClientCheck);

/// A principal that acts directly in organisations and teams.
#[derive(Debug, Clone, Copy)]
pub struct MemberPrincipal(pub MemberCheck);

/// A principal that is a platform administrator.
#[derive(Debug, Clone)]
pub struct AdmittedAdmin(pub AdminCheck);

/// A principal that logged in, with the login it used.
#[derive(Debug, Clone)]
pub struct SessionPrincipal(pub Session);

/// The account of a [`SessionPrincipal`].
#[derive(Debug, Clone)]
pub struct LoginPrincipal(pub Account);

/// Middleware of every route: admits by the route's rule, counts the request, and leaves for the
/// handler what it may do.
pub async fn gate(State(state): State<AppState>, mut request: Request, next: Next) -> Response {
    let path = request.extensions().get::<MatchedPath>().cloned();
    let path = path.as_ref().map_or("", MatchedPath::as_str);
    let Some(rule) = policy::rule(request.method().as_str(), path) else {
        // A route missing from the table serves nobody.
        tracing::error!(method = %request.method(), path, "the route has no rule");
        let detail = "the server could not do this; report the request_id";
        return ApiError::new(problem::INTERNAL, detail).into_response();
    };
    if matches!(rule, Rule::Public | Rule::Host) {
        return next.run(request).await;
    }
    let parts = Shown {
        method: request.method(),
        extensions: request.extensions(),
        headers: request.headers(),
    };
    let (admitted, rate_limit) = match counted_admission(&state, rule, parts, path).await {
        Ok(admitted) => admitted,
        Err(refusal) => return refusal.into_response(),
    };
    let extensions = request.extensions_mut();
    match admitted {
        Admitted::Owner(session) => drop(extensions.insert(SessionPrincipal(session))),
        Admitted::Member(check) => drop(extensions.insert(MemberPrincipal(check))),
        Admitted::Client(check) => drop(extensions.insert(ProfilePrincipal(check))),
        Admitted::Deploy(authorization) => {
            extensions.insert(DeployPrincipal(authorization.check()));
            extensions.insert(StreamPrincipal(authorization));
        }
        Admitted::Admin(check) => drop(extensions.insert(AdmittedAdmin(check))),
    }
    let answer = next.run(request).await;
    // If the handler counts, its answer says what is left of its limit.
    if rule == Rule::OwnerCountedApart { answer } else { stamp(rate_limit, answer) }
}

/// Admits and counts a request. A recently seen token is counted before it is looked up, so that a
/// principal over its limit no longer reaches the database; tokens not seen recently get a limited
/// number of look-ups per address.
async fn counted_admission(
    state: &AppState,
    rule: Rule,
    shown: Shown<'_>,
    path: &str,
) -> Result<(Admitted, RateLimitStatus), ApiError> {
    let limiters = &state.limiters;
    let limit = limit_of(shown.method);
    let presented = fingerprint(shown, rule);
    let known = presented.and_then(|presented| state.shown.get(&presented));
    let mut counted = None;
    match (known, presented) {
        (Some(who), _) => {
            let key = who.key(rule, path);
            counted = Some((key.clone(), check(limiters, limit, key)?));
        }
        (None, Some(_)) => {
            let proxies = &state.config.api.trusted_proxies;
            let address = client_address(shown.extensions, shown.headers, proxies);
            check(limiters, Limit::Lookups, Key::address(address))?;
        }
        (None, None) => {}
    }
    let admitted = authorise(state, rule, shown).await.inspect_err(|_| {
        if let Some(presented) = presented {
            state.shown.forget(&presented);
        }
    })?;
    let who = Who::of(&admitted);
    if let Some(presented) = presented {
        state.shown.note(presented, who);
    }
    let key = who.key(rule, path);
    let rate_limit = match counted {
        Some((before, rate_limit)) if before == key => rate_limit,
        _ => check(limiters, limit, key)?,
    };
    Ok((admitted, rate_limit))
}

/// The credential, as it is remembered. `None`: nothing that is looked up.
fn fingerprint(shown: Shown<'_>, rule: Rule) -> Option<Fingerprint> {
    match bearer(shown.headers, rule) {
        Ok(Some(token)) => Some(Fingerprint::of(token)),
        Ok(None) if takes_cookies(rule) => {
            let text = cookie::text(shown.headers, cookie::LOGIN)?;
            browser_session(shown.headers).map(|_| Fingerprint::of(text))
        }
        _ => None,
    }
}

impl Who {
    fn of(admitted: &Admitted) -> Self {
        match admitted {
            Admitted::Owner(session) => Self::Account(session.account.id),
            Admitted::Member(check) => Self::Account(check.account()),
            Admitted::Admin(check) => Self::Account(check.session().account.id),
            Admitted::Client(check) => Self::Account(check.account()),
            Admitted::Deploy(authorization) => match authorization.check().keys_of() {
                Some(payer) => Self::Payer(payer),
                None => Self::Account(authorization.check().actor()),
            },
        }
    }

    /// The key that a request counts against. Endpoints for programs have a published limit each,
    /// and so has what is counted apart; the keys of one payer share theirs.
    fn key(self, rule: Rule, path: &str) -> Key {
        match (self, rule) {
            (Self::Payer(payer), _) => Key::Keys(payer, path.into()),
            (
                Self::Account(account),
                Rule::Client(_) | Rule::Deploy(_) | Rule::OwnerCountedApart,
            ) => Key::Endpoint(account, path.into()),
            (Self::Account(account), _) => Key::Account(account),
        }
    }
}

fn limit_of(method: &Method) -> Limit {
    if is_safe(method) { Limit::Reads } else { Limit::Writes }
}

/// Whether requests with this method change nothing (RFC 9110, 9.2.1).
fn is_safe(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS)
}

/// Extractors for what the gate left in the request.
macro_rules! left_by_the_gate {
    ($($principal:ty),*) => {$(
        impl<S: Send + Sync> FromRequestParts<S> for $principal {
            type Rejection = ApiError;

            async fn from_request_parts(
                parts: &mut Parts,
                _: &S,
            ) -> Result<Self, ApiError> {
                parts.extensions.get::<Self>().cloned().ok_or_else(|| {
                    tracing::error!(path = parts.uri.path(), "the route's rule is another one");
                    let detail = "the server could not do this; report the request_id";
                    ApiError::new(problem::INTERNAL, detail)
                })
            }
        }
    )*};
}

left_by_the_gate!(
    AdmittedAdmin,
    DeployPrincipal,
    StreamPrincipal,
    ProfilePrincipal,
    MemberPrincipal,
    SessionPrincipal
);

impl<S: Send + Sync> FromRequestParts<S> for LoginPrincipal {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let SessionPrincipal(session) = SessionPrincipal::from_request_parts(parts, state).await?;
        Ok(Self(session.account))
    }
}

/// The parts of a request that identify its sender.
#[derive(Clone, Copy)]
struct Shown<'a> {
    method: &'a Method,
    extensions: &'a Extensions,
    headers: &'a HeaderMap,
}

async fn authorise(state: &AppState, rule: Rule, shown: Shown<'_>) -> Result<Admitted, ApiError> {
    let browser = takes_cookies(rule).then(|| browser_session(shown.headers)).flatten();
    let presented = if let Some(token) = bearer(shown.headers, rule)? {
        // A page of another site cannot set this header, no matter which cookies are sent along.
        Presented::bearer(token)
    } else {
        let Some(token) = browser.as_ref() else {
            let detail = format!("the request has no token; {}", in_words(rule));
            return Err(challenge(problem::TOKEN_MISSING, detail, ""));
        };
        if !is_safe(shown.method) {
            cross_site::refuse(shown.headers, &state.config.api.public_url())?;
        }
        Presented::Cookie(token)
    };
    if !is_for(rule, presented) {
        return Err(wrong_kind(presented, rule));
    }
    let principal = match access::identify(&state.auth, presented).await {
        Ok(principal) => principal,
        Err(Unknown::Invalid(detail)) => return Err(denied(state, shown, &detail)),
        Err(Unknown::Session(error)) => return Err(error.into()),
        Err(Unknown::Store(error)) => return Err(error.into()),
    };
    rule.admit(principal).map_err(|denied| match denied {
        Denied::WrongKind => wrong_kind(presented, rule),
        Denied::NotAdmin => AdminError::NotAdmin.into(),
        Denied::Scope(scope) => insufficient_scope(scope),
    })
}

fn takes_cookies(rule: Rule) -> bool {
    matches!(rule, Rule::Owner | Rule::OwnerCountedApart | Rule::Member)
}

/// Whether a token of this form can be valid here at all: others are refused right away.
fn is_for(rule: Rule, presented: Presented<'_>) -> bool {
    match presented {
        Presented::Jwt(_) => takes_cookies(rule) || rule == Rule::Admin,
        Presented::Cookie(_) => takes_cookies(rule),
        Presented::Access(_) => matches!(rule, Rule::Client(_) | Rule::Deploy(_) | Rule::Member),
        Presented::Key(_) => matches!(rule, Rule::Deploy(_)),
    }
}

/// The token of a browser's login.
fn browser_session(headers: &HeaderMap) -> Option<PlainToken> {
    cookie::read_as(headers, cookie::LOGIN, PlainTokenKind::WebSession)
}

/// The bearer token of a request (RFC 6750, 2.1), if it has an `Authorization` header.
fn bearer(headers: &HeaderMap, rule: Rule) -> Result<Option<&str>, ApiError> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(invalid_token("the request has two Authorization headers; send one"));
    }
    let token = value.to_str().ok().and_then(|value| {
        let (scheme, token) = value.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
    });
    let Some(token) = token.filter(|token| !token.is_empty()) else {
        let detail = format!("the Authorization header is not `Bearer TOKEN`; {}", in_words(rule));
        return Err(challenge(problem::TOKEN_MISSING, detail, ""));
    };
    Ok(Some(token))
}

/// Which token a route requires.
fn in_words(rule: Rule) -> String {
    match rule {
        Rule::Public | Rule::Host => "none is needed".to_owned(),
        Rule::Owner | Rule::OwnerCountedApart | Rule::Admin => {
            "send the JWT that POST /api/auth/login answers".to_owned()
        }
        Rule::Member => "send the JWT that POST /api/auth/login answers, or the access token of \
                         `buddo login`"
            .to_owned(),
        Rule::Client(scope) => format!(
            "send an OAuth access token with the scope {scope}: `buddo login` gets one, \
             or an OAuth app by POST /api/oauth/token"
        ),
        Rule::Deploy(_) => {
            "send an OAuth access token with the scope deploy:manage: `buddo login` \
                            gets one, or an OAuth app by POST /api/oauth/token; or an API key of \
                            `buddo keys create`"
                .to_owned()
        }
    }
}

fn wrong_kind(presented: Presented<'_>, rule: Rule) -> ApiError {
    let what = match (presented, rule) {
        (_, Rule::Owner | Rule::OwnerCountedApart | Rule::Admin) => {
            "the token is not a login JWT, and this endpoint takes nothing else"
        }
        (Presented::Jwt(_) | Presented::Cookie(_), _) => {
            "the token is a login JWT, which this endpoint does not take"
        }
        (Presented::Key(_), _) => "the token is an API key, which this endpoint does not take",
        (Presented::Access(_), _) => {
            "the token is an OAuth access token, which this endpoint does not take"
        }
    };
    let detail = format!("{what}; {}", in_words(rule));
    challenge(problem::WRONG_TOKEN_KIND, detail, INVALID_TOKEN)
}

/// The refusal of an invalid token; 429 after too many from one address. A valid token is never
/// affected by what others at the same address send.
fn denied(state: &AppState, shown: Shown<'_>, detail: &str) -> ApiError {
    let proxies = &state.config.api.trusted_proxies;
    let address = client_address(shown.extensions, shown.headers, proxies);
    let counted = check(&state.limiters, Limit::Denied, Key::address(address));
    counted.err().unwrap_or_else(|| invalid_token(detail))
}

const INVALID_TOKEN: &str = r#", error="invalid_token""#;

fn invalid_token(detail: &str) -> ApiError {
    challenge(problem::INVALID_TOKEN, detail.to_owned(), INVALID_TOKEN)
}

fn insufficient_scope(scope: &str) -> ApiError {
    let detail = format!("the token lacks the scope {scope}; ask for a token that has it");
    let parameters = format!(r#", error="insufficient_scope", scope="{scope}""#);
    challenge(problem::INSUFFICIENT_SCOPE, detail, &parameters)
}

fn challenge(kind: ProblemKind, detail: String, parameters: &str) -> ApiError {
    let value = format!(r#"Bearer realm="buddo"{parameters}"#);
    let value = HeaderValue::try_from(value).unwrap_or(HeaderValue::from_static("Bearer"));
    ApiError::new(kind, detail).with_header(WWW_AUTHENTICATE, value)
}
