//! Requests and answers of the token endpoint and its siblings.
//!
//! Requests come as a form, as the standards say, or as JSON, as the published pages show. A
//! repeated parameter is refused, an unknown one is ignored (RFC 6749, 3.2).

use axum::Json;
use axum::extract::Request;
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use buddo_shared::api::oauth::{self as published, DEVICE_CODE, OAuthError};
use buddo_shared::model::secret::Secret;
use http::header::{
    AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, HeaderValue, PRAGMA, RETRY_AFTER, WWW_AUTHENTICATE,
};
use http::{HeaderMap, StatusCode};
use percent_encoding::percent_decode_str;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::api::extract::json;
use crate::api::problem::{self, ApiError};
use crate::service::oauth::{
    self, ClientWithSecret, Credentials, DeviceStarted, ErrorCode, TokenError, Tokens,
};
use crate::state::AppState;
use crate::store::contract::Client;

/// Why one of these endpoints refuses: an OAuth error or an HTTP problem.
pub(super) enum Refusal {
    Token(TokenError),
    Http(ApiError),
}

impl From<TokenError> for Refusal {
    fn from(error: TokenError) -> Self {
        Self::Token(error)
    }
}

/// Reads a request's parameters.
pub(super) async fn read<T: DeserializeOwned>(request: Request) -> Result<T, Refusal> {
    let headers = request.headers().clone();
    let body = json::read_body(request, &()).await.map_err(Refusal::Http)?;
    let malformed = TokenError::request("the body cannot be read; send text parameters, each once");
    if json::is_json(&headers) {
        let Ok(Value::Object(members)) = serde_json::from_slice(&body) else {
            return Err(malformed.into());
        };
        return serde_json::from_value(Value::Object(members)).map_err(|_| malformed.into());
    }
    let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let essence = content_type.unwrap_or_default().split(';').next().unwrap_or_default().trim();
    if !essence.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
        let text = "send the body as application/x-www-form-urlencoded or application/json";
        return Err(TokenError::request(text).into());
    }
    let mut members = Map::new();
    for (name, value) in url::form_urlencoded::parse(&body) {
        // An empty parameter counts as absent (RFC 6749, 3.2).
        let again = members.contains_key(name.as_ref());
        if again {
            return Err(TokenError::request("a parameter comes twice; send each once").into());
        }
        if !value.is_empty() {
            members.insert(name.into_owned(), Value::String(value.into_owned()));
        }
    }
    serde_json::from_value(Value::Object(members)).map_err(|_| malformed.into())
}

/// The client that sends a request: by HTTP Basic or in the body, never both (RFC 6749, 2.3).
pub(super) async fn authenticated(
    state: &AppState,
    headers: &HeaderMap,
    client_id: Option<String>,
    client_secret: Option<Secret>,
) -> Result<Client, Refusal> {
    let credentials = match basic(headers)? {
        Some(basic) => {
            let other = client_id.as_ref().is_some_and(|id| *id != basic.client_id);
            if client_secret.is_some() || other {
                let text = "the client authenticates twice; use HTTP Basic or the body, not both";
                return Err(TokenError::request(text).into());
            }
            basic
        }
        None => Credentials {
            client_id: client_id.ok_or(TokenError::client("client_id is missing"))?,
            secret: client_secret,
        },
    };
    Ok(oauth::authenticate(state, credentials).await?)
}

/// Credentials by HTTP Basic: both halves are form-encoded first (RFC 6749, 2.3.1).
fn basic(headers: &HeaderMap) -> Result<Option<Credentials>, TokenError> {
    let Some(value) = headers.get(AUTHORIZATION) else { return Ok(None) };
    let parsed = value.to_str().ok().and_then(|value| {
        let (scheme, encoded) = value.split_once(' ')?;
        let encoded = scheme.eq_ignore_ascii_case("basic").then(|| encoded.trim())?;
        let text = String::from_utf8(BASE64_STANDARD.decode(encoded).ok()?).ok()?;
        let (id, secret) = text.split_once(':')?;
        let decode = |half: &str| {
            let spaced = half.replace('+', " ");
            percent_decode_str(&spaced).decode_utf8_lossy().into_owned()
        };
        let secret = Some(decode(secret)).filter(|secret| !secret.is_empty());
        Some(Credentials { client_id: decode(id), secret: secret.map(Secret::new) })
    });
    parsed.map(Some).ok_or(TokenError::client(
        "the Authorization header is not HTTP Basic with client_id and client_secret",
    ))
}

/// An app without its secret.
pub(super) fn app(client: Client) -> published::App {
    let flows = [
        ("authorization_code", !client.redirect_uris.is_empty()),
        ("refresh_token", true),
        (DEVICE_CODE, client.device_flow),
    ];
    let method = if client.secret.is_some() { "client_secret_basic" } else { "none" };
    published::App {
        id: client.id.to_string(),
        client_id: client.client_id,
        client_secret: None,
        app_name: client.name,
        app_description: client.description,
        logo_url: client.logo_url,
        website_url: client.website_url,
        redirect_uris: client.redirect_uris.iter().map(ToString::to_string).collect(),
        approved_scopes: client.scopes.offered().words(),
        allowed_scopes: client.scopes.offered().words(),
        is_approved: client.is_approved,
        token_endpoint_auth_method: method.to_owned(),
        grant_types: flows
            .iter()
            .filter(|(_, on)| *on)
            .map(|(word, _)| (*word).to_owned())
            .collect(),
        inserted_at: client.created_at,
    }
}

/// An app with its secret, the one time that it is shown.
pub(super) fn app_with_secret(made: ClientWithSecret) -> published::AppCreated {
    published::AppCreated { app: published::App { client_secret: made.secret, ..app(made.client) } }
}

/// `issued_token_type`: what a token exchange says of the access token (RFC 8693, 2.2.1).
pub(super) fn tokens(tokens: Tokens, issued_token_type: Option<&str>) -> published::Tokens {
    published::Tokens {
        access_token: tokens.access,
        token_type: "Bearer".to_owned(),
        expires_in: tokens.lifetime.as_secs(),
        refresh_token: Some(tokens.refresh),
        scope: tokens.scopes.to_string(),
        issued_token_type: issued_token_type.map(str::to_owned),
    }
}

/// The codes of a device, and the page of this server where a person types one of them.
pub(super) fn device(started: DeviceStarted, state: &AppState) -> published::DeviceAuthorization {
    let DeviceStarted { device_code, user_code, lifetime, interval } = started;
    let page = format!("{}/device", state.config.api.public_url());
    published::DeviceAuthorization {
        device_code,
        verification_uri_complete: format!("{page}?user_code={user_code}"),
        verification_uri: page,
        user_code: user_code.to_string(),
        expires_in: lifetime.as_secs(),
        interval: Some(interval),
    }
}

/// The answer, which must not be cached (RFC 6749, 5.1).
pub(super) fn answer<T: serde::Serialize>(
    result: Result<T, Refusal>,
    headers: &HeaderMap,
) -> Response {
    let mut response = match result {
        Ok(value) => Json(value).into_response(),
        Err(Refusal::Http(error)) => return error.into_response(),
        Err(Refusal::Token(TokenError::Store(error))) => {
            return ApiError::from(error).into_response();
        }
        Err(Refusal::Token(error @ TokenError::Busy)) => {
            return ApiError::new(problem::OVERLOADED, error.to_string())
                .with_header(RETRY_AFTER, HeaderValue::from_static("60"))
                .into_response();
        }
        Err(Refusal::Token(TokenError::Refused(code, description))) => {
            refused(code, description, headers)
        }
    };
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response.headers_mut().insert(PRAGMA, HeaderValue::from_static("no-cache"));
    response
}

fn refused(code: ErrorCode, description: &str, headers: &HeaderMap) -> Response {
    let body =
        OAuthError { error: code.as_str().to_owned(), error_description: description.to_owned() };
    let status = match code {
        ErrorCode::InvalidClient => StatusCode::UNAUTHORIZED,
        _ => StatusCode::BAD_REQUEST,
    };
    let mut response = (status, Json(body)).into_response();
    if status == StatusCode::UNAUTHORIZED && headers.contains_key(AUTHORIZATION) {
        let scheme = HeaderValue::from_static(r#"Basic realm="buddo""#);
        response.headers_mut().insert(WWW_AUTHENTICATE, scheme);
    }
    response
}
