//! `/api/teams/{team_id}/keys`.

use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use axum::routing::{delete, get};
use axum::{Json, Router};
use buddo_shared::api::auth::Message;
use buddo_shared::api::teams::{ApiKey, CreateKey};
use http::StatusCode;

use super::auth::NO_STORE;
use super::json::ApiJson;
use super::orgs::{Answer, message};
use super::path::{InTeam, TeamKey};
use super::principal::MemberPrincipal;
use super::problem::ApiError;
use crate::service::teams;
use crate::state::AppState;

/// The endpoints.
pub fn routes() -> Router<AppState> {
    Router::new()
        .route("/api/teams/{team_id}/keys", get(list).post(create))
        .route("/api/teams/{team_id}/keys/{key_id}", delete(revoke))
}

async fn list(
    State(state): State<AppState>,
    MemberPrincipal(check): MemberPrincipal,
    InTeam { team }: InTeam,
) -> Answer<Vec<ApiKey>> {
    Ok(Json(teams::api_keys(&state, check, team).await?))
}

async fn create(
    State(state): State<AppState>,
    MemberPrincipal(check): MemberPrincipal,
    InTeam { team }: InTeam,
    ApiJson(request): ApiJson<CreateKey>,
) -> Result<Response, ApiError> {
    let made = teams::create_key(&state, check, team, request).await?;
    Ok((StatusCode::CREATED, NO_STORE, Json(made)).into_response())
}

async fn revoke(
    State(state): State<AppState>,
    MemberPrincipal(check): MemberPrincipal,
    TeamKey { team, key }: TeamKey,
) -> Answer<Message> {
    teams::revoke_key(&state, check, team, key).await?;
    Ok(message("API key revoked"))
}
