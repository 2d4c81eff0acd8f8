//! The token endpoint, revocation (RFC 7009) and introspection (RFC 7662).

use axum::extract::{Request, State};
use axum::response::Response;
use buddo_shared::api::oauth::{DEVICE_CODE, TOKEN_EXCHANGE, TokenRequest, Tokens};
use buddo_shared::secret::Secret;
use serde_json::{Map, Value};

use super::wire::{Refusal, answer, authenticated, read};
use crate::service::oauth::{self, ErrorCode, TokenError};
use crate::state::AppState;
use crate::store::contract::Client;

/// `POST /api/oauth/token`.
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
    match request.grant_type.as_deref() {
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
            oauth::exchange(state, client, &subject, &kind, request.scope).await
        }
        Some(_) => Err(TokenError::Refused(
            ErrorCode::UnsupportedGrantType,
            "grant_type must be authorization_code, refresh_token, the device_code of RFC 8628, or \
             the token exchange of RFC 8693",
        )),
        None => Err(TokenError::request("grant_type is missing")),
    }
}

/// A request about one token.
#[derive(serde::Deserialize)]
struct AboutToken {
    token: Option<Secret>,
    client_id: Option<String>,
    client_secret: Option<Secret>,
}

/// `POST /api/oauth/revoke`.
pub(super) async fn revoke(State(state): State<AppState>, request: Request) -> Response {
    let headers = request.headers().clone();
    let result = async {
        let about: AboutToken = read(request).await?;
        let client = authenticated(&state, &headers, about.client_id, about.client_secret).await?;
        let token = about.token.ok_or(TokenError::request("token is missing"))?;
        oauth::revoke(&state, client, &token).await.map_err(TokenError::Store)?;
        Ok(Value::Object(Map::new()))
    };
    answer(result.await, &headers)
}

/// `POST /api/oauth/introspect`, for confidential clients about their own tokens.
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
