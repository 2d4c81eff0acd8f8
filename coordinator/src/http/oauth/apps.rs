//! `/api/oauth/apps` and `/api/oauth/my-apps`.

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::response::{IntoResponse as _, Response};
use buddo_shared::api::oauth::{AppCreated, AppList, CreateApp};
use http::StatusCode;
use http::header::{CACHE_CONTROL, HeaderValue};

use crate::http::json::ApiJson;
use crate::http::principal::LoginPrincipal;
use crate::http::problem::{self, ApiError};
use crate::http::rate_limit::{Key, Limit};
use crate::service::oauth::{self, AppError};
use crate::state::AppState;

impl From<AppError> for ApiError {
    fn from(error: AppError) -> Self {
        let detail = error.to_string();
        match error {
            AppError::Invalid(errors) => Self::invalid(errors),
            AppError::EmailUnverified => Self::new(problem::EMAIL_UNVERIFIED, detail),
            AppError::NotFound => Self::new(problem::NOT_FOUND, detail),
            AppError::Store(error) => error.into(),
        }
    }
}

/// `POST /api/oauth/apps`. A request that is refused for an unconfirmed address is not counted.
pub(super) async fn create(
    State(state): State<AppState>,
    LoginPrincipal(owner): LoginPrincipal,
    ApiJson(request): ApiJson<CreateApp>,
) -> Result<Response, ApiError> {
    if owner.email_verified_at.is_none() {
        return Err(AppError::EmailUnverified.into());
    }
    let key = Key::Account(owner.id);
    let create = async {
        match oauth::create_app(&state, &owner, request).await {
            Ok(app) => {
                let no_store = [(CACHE_CONTROL, HeaderValue::from_static("no-store"))];
                (StatusCode::CREATED, no_store, Json(app)).into_response()
            }
            Err(error) => ApiError::from(error).into_response(),
        }
    };
    Ok(state.door.limiters.limited(Limit::OauthApps, key, create).await)
}

/// `GET /api/oauth/apps/{client_id}`.
pub(super) async fn show(
    State(state): State<AppState>,
    client_id: Result<Path<String>, PathRejection>,
) -> Result<Json<AppCreated>, ApiError> {
    let Path(client_id) = client_id.map_err(|_| AppError::NotFound)?;
    Ok(Json(oauth::app(&state, client_id).await?))
}

/// `GET /api/oauth/my-apps`.
pub(super) async fn mine(
    State(state): State<AppState>,
    LoginPrincipal(owner): LoginPrincipal,
) -> Result<Json<AppList>, ApiError> {
    Ok(Json(oauth::my_apps(&state, &owner).await?))
}
