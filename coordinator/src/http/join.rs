//! The listener for hosts: one route, for one request in a host's life.

use axum::extract::State;
use axum::routing::post;
use axum::{Json, Router};
use buddo_shared::api::host::{JoinRequest, Joined};

use super::json::ApiJson;
use super::problem::ApiError;
use crate::service::hosts;
use crate::state::AppState;

/// `POST /v1/join`.
pub fn routes() -> Router<AppState> {
    Router::new().route("/v1/join", post(join))
}

async fn join(
    State(state): State<AppState>,
    ApiJson(request): ApiJson<JoinRequest>,
) -> Result<Json<Joined>, ApiError> {
    Ok(Json(hosts::join(&state, request).await?))
}
