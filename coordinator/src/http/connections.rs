//! `/api/user/connected-apps`, for the account's owner, and `/api/external/user`, for those apps.

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::routing::{delete, get};
use axum::{Json, Router};
use buddo_shared::api::auth::Message;
use buddo_shared::api::connections::{ConnectedApps, ExternalUser};

use super::principal::{LoginPrincipal, ProfilePrincipal};
use super::problem::{self, ApiError};
use crate::service::oauth::{self, AppError};
use crate::state::AppState;

/// The endpoints of connected apps.
pub fn routes() -> Router<AppState> {
    Router::new()
        .route("/api/user/connected-apps", get(list))
        .route("/api/user/connected-apps/{app_id}", delete(disconnect))
        .route("/api/external/user", get(user))
}

async fn list(
    State(state): State<AppState>,
    LoginPrincipal(account): LoginPrincipal,
) -> Result<Json<ConnectedApps>, ApiError> {
    Ok(Json(oauth::connected_apps(&state, account.id).await?))
}

async fn disconnect(
    State(state): State<AppState>,
    LoginPrincipal(account): LoginPrincipal,
    app_id: Result<Path<String>, PathRejection>,
) -> Result<Json<Message>, ApiError> {
    let Path(app_id) = app_id.map_err(|_| AppError::NotConnected)?;
    let name = oauth::disconnect(&state, account.id, &app_id).await?;
    Ok(Json(Message { message: format!("{name} is disconnected; its tokens have ended") }))
}

async fn user(
    State(state): State<AppState>,
    ProfilePrincipal(who): ProfilePrincipal,
) -> Result<Json<ExternalUser>, ApiError> {
    let user = oauth::external_user(&state, who.account()).await?;
    let gone = || ApiError::new(problem::NOT_FOUND, "the account is gone");
    user.map(Json).ok_or_else(gone)
}
