//! The token endpoint, revocation (RFC 7009) and introspection (RFC 7662).

use axum::extract::{Request, State};
use axum::response::Response;
use buddo_shared::api::oauth::{
    DEVICE_CODE, OAuthError, TOKEN_EXCHANGE, TOKEN_TYPE_JWT, TokenRequest, Tokens,
};
use buddo_shared::model::secret::Secret;

use super::wire::{self, Refusal, answer, authenticated, read};
use crate::service::oauth::{self, ErrorCode, Introspection, Subject, TokenError};
use crate::state::AppState;
use crate::store::contract::Client;

/// `issued_token_type` of a token exchange (RFC 8693, 3).
const ACCESS_TOKEN_TYPE: &str = "urn:ietf:params:oauth:token-type:access_token";

/// Get tokens (RFC 6749, 3.2)
///
/// Grants: `authorization_code`, `refresh_token`, `urn:ietf:params:oauth:grant-type:device_code` (RFC 8628),
/// `urn:ietf:params:oauth:grant-type:token-exchange` (RFC 8693). The form is the standard's; JSON with
/// the same members is taken as well.
#[utoipa::path(
    post,
    path = "/api/oauth/token",
    tag = "oauth",
    security((), ("client" = [])),
    request_body(content = TokenRequest, content_type = "application/x-www-form-urlencoded"),
    responses(
        (status = 200, body = Tokens, description = "The tokens"),
        (status = 400, body = OAuthError, description = "An error of RFC 6749, 5.2"),
        (status = 401, body = OAuthError, description = "`invalid_client`"),
    )
)]
pub(super) async fn token(State(state): State<AppState>, request: Request) -> Response {
    let headers = request.headers().clone();
    let result = async {
        let request: TokenRequest = read(request).await?;
        let client = authenticated(
            &state,
            &headers,
            request.client_id.clone(),
            request.client_secret.clone(),
        );
        let client = client.await?;
        grant(&state, client, request).await.map_err(Refusal::Token)
    };
    answer(result.await, &headers)
}

async fn grant(
    state: &AppState,
    client: Client,
    request: TokenRequest,
) -> Result<Tokens, TokenError> {
    let tokens = match request.grant_type.as_deref() {
        Some("authorization_code") => {
            let code = request.code.ok_or(TokenError::request("code is missing"))?;
            let verifier = request.code_verifier.ok_or(TokenError::request(
                "code_verifier is missing; every code has a challenge",
            ))?;
            oauth::redeem(state, client, &code, request.redirect_uri, verifier).await
        }
        Some("refresh_token") => {
            let token =
                request.refresh_token.ok_or(TokenError::request("refresh_token is missing"))?;
            oauth::refresh(state, client, &token, request.scope).await
        }
        Some(DEVICE_CODE) => {
            let code = request.device_code.ok_or(TokenError::request("device_code is missing"))?;
            oauth::redeem_device(state, client, &code).await
        }
        Some(TOKEN_EXCHANGE) => {
            let subject =
                request.subject_token.ok_or(TokenError::request("subject_token is missing"))?;
            let kind = request
                .subject_token_type
                .ok_or(TokenError::request("subject_token_type is missing"))?;
            let subject =
                if kind == TOKEN_TYPE_JWT { Subject::Login(subject) } else { Subject::Other };
            return oauth::exchange(state, client, subject, request.scope)
                .await
                .map(|tokens| wire::tokens(tokens, Some(ACCESS_TOKEN_TYPE)));
        }
        Some(_) => Err(TokenError::Refused(
            ErrorCode::UnsupportedGrantType,
            "grant_type must be authorization_code, refresh_token, the device_code of RFC 8628, or \
             the token exchange of RFC 8693",
        )),
        None => Err(TokenError::request("grant_type is missing")),
    };
    tokens.map(|tokens| wire::tokens(tokens, None))
}

/// `{}`.
#[derive(serde::Serialize, utoipa::ToSchema)]
struct Empty {}

/// A request about one token.
#[derive(serde::Deserialize, utoipa::ToSchema)]
struct AboutToken {
    /// The token.
    #[schema(value_type = String, required)]
    token: Option<Secret>,
    /// The client, unless it authenticates by Basic.
    client_id: Option<String>,
    /// The client's secret, unless it authenticates by Basic or is public.
    #[schema(value_type = Option<String>)]
    client_secret: Option<Secret>,
}

/// End a token (RFC 7009)
///
/// With a refresh token all that came of it ends. JSON is taken as well as the form.
#[utoipa::path(
    post,
    path = "/api/oauth/revoke",
    operation_id = "revoke_token",
    tag = "oauth",
    security((), ("client" = [])),
    request_body(content = AboutToken, content_type = "application/x-www-form-urlencoded"),
    responses(
        (status = 200, body = Empty, description = "The token is void, whether there was one or not"),
        (status = 400, body = OAuthError, description = "An error of RFC 6749, 5.2"),
        (status = 401, body = OAuthError, description = "`invalid_client`"),
    )
)]
pub(super) async fn revoke(State(state): State<AppState>, request: Request) -> Response {
    let headers = request.headers().clone();
    let result = async {
        let about: AboutToken = read(request).await?;
        let client = authenticated(&state, &headers, about.client_id, about.client_secret).await?;
        let token = about.token.ok_or(TokenError::request("token is missing"))?;
        oauth::revoke(&state, client, &token).await.map_err(TokenError::Store)?;
        Ok(Empty {})
    };
    answer(result.await, &headers)
}

/// Ask what a token is good for (RFC 7662)
///
/// For confidential clients, about their own tokens. JSON is taken as well as the form.
#[utoipa::path(
    post,
    path = "/api/oauth/introspect",
    tag = "oauth",
    security((), ("client" = [])),
    request_body(content = AboutToken, content_type = "application/x-www-form-urlencoded"),
    responses(
        (status = 200, body = Introspection, description = "What the token is good for"),
        (status = 400, body = OAuthError, description = "An error of RFC 6749, 5.2"),
        (status = 401, body = OAuthError, description = "`invalid_client`"),
    )
)]
pub(super) async fn introspect(State(state): State<AppState>, request: Request) -> Response {
    let headers = request.headers().clone();
    let result = async {
        let about: AboutToken = read(request).await?;
        let client = authenticated(&state, &headers, about.client_id, about.client_secret).await?;
        if client.secret.is_none() {
            let text = "only a client with a secret may ask about tokens";
            return Err(TokenError::client(text).into());
        }
        let token = about.token.ok_or(TokenError::request("token is missing"))?;
        Ok(oauth::introspect(&state, &client, &token).await.map_err(TokenError::Store)?)
    };
    answer(result.await, &headers)
}
