//! `/api/oauth/apps` and `/api/oauth/my-apps`.

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::response::{IntoResponse as _, Response};
use buddo_shared::api::oauth::{AppCreated, AppList, AppRemoved, CreateApp, EditApp, RotateSecret};
use http::header::{CACHE_CONTROL, HeaderName, HeaderValue};
use http::{HeaderMap, StatusCode};
use jiff::SignedDuration;

use super::{app_form, wire};
use crate::api::extract::json::ApiJson;
use crate::api::extract::paging::{Listing, MOST};
use crate::api::extract::principal::LoginPrincipal;
use crate::api::middleware::rate_limit::limited;
use crate::api::problem::{self, ApiError};
use crate::limits::{Key, Limit};
use crate::service::oauth::{self, ClientError};
use crate::state::AppState;

impl From<ClientError> for ApiError {
    fn from(error: ClientError) -> Self {
        let detail = error.to_string();
        match error {
            ClientError::Invalid(errors) => Self::invalid(errors),
            ClientError::EmailUnverified => Self::new(problem::EMAIL_UNVERIFIED, detail),
            ClientError::Forbidden => Self::new(problem::FORBIDDEN, detail),
            ClientError::Public => Self::new(problem::INVALID_REQUEST, detail),
            ClientError::NotFound | ClientError::NotConnected => {
                Self::new(problem::NOT_FOUND, detail)
            }
            ClientError::Store(error) => error.into(),
        }
    }
}

/// Headers of answers that hold a secret.
const NO_STORE: [(HeaderName, HeaderValue); 1] =
    [(CACHE_CONTROL, HeaderValue::from_static("no-store"))];

/// Register an app
///
/// A request that is refused for an unconfirmed address is not counted.
#[utoipa::path(
    post,
    path = "/api/oauth/apps",
    operation_id = "create_app",
    tag = "oauth",
    security(("login" = []), ("session" = [])),
    request_body = CreateApp,
    responses(
        (status = 201, body = AppCreated, description = "The app, with its secret this one time"),
        (status = 403, description = "`email_unverified`"),
    )
)]
pub(super) async fn create(
    State(state): State<AppState>,
    LoginPrincipal(owner): LoginPrincipal,
    ApiJson(request): ApiJson<CreateApp>,
) -> Result<Response, ApiError> {
    if owner.email_verified_at.is_none() {
        return Err(ClientError::EmailUnverified.into());
    }
    let key = Key::Account(owner.id);
    let create = async {
        let made = match app_form::parse(request) {
            Ok(new) => oauth::create_client(&state, &owner, new).await.map_err(ApiError::from),
            Err(error) => Err(error),
        };
        match made {
            Ok(made) => {
                let app = Json(wire::app_with_secret(made));
                (StatusCode::CREATED, NO_STORE, app).into_response()
            }
            Err(error) => error.into_response(),
        }
    };
    Ok(limited(&state.limiters, Limit::OauthApps, key, create).await)
}

/// An app, as everybody sees it
///
/// What somebody who is asked to allow it something may want to know.
#[utoipa::path(
    get,
    path = "/api/oauth/apps/{client_id}",
    operation_id = "app",
    tag = "oauth",
    params(("client_id" = String, Path, description = "The app's client id")),
    responses(
        (status = 200, body = AppCreated, description = "The app, without its secret"),
        (status = 404, description = "`not_found`"),
    )
)]
pub(super) async fn show(
    State(state): State<AppState>,
    client_id: Result<Path<String>, PathRejection>,
) -> Result<Json<AppCreated>, ApiError> {
    let Path(client_id) = client_id.map_err(|_| ClientError::NotFound)?;
    let client = oauth::client(&state, client_id).await?;
    Ok(Json(AppCreated { app: wire::app(client) }))
}

/// Replace the secret of an app
///
/// For its owner. The old secret is void at once, unless `keep_old_seconds` lets both be used for a
/// while, a day at most.
#[utoipa::path(
    post,
    path = "/api/oauth/apps/{client_id}/secret",
    operation_id = "rotate_secret",
    tag = "oauth",
    security(("login" = []), ("session" = [])),
    params(("client_id" = String, Path, description = "The app's client id")),
    request_body = Option<RotateSecret>,
    responses(
        (status = 200, body = AppCreated, description = "The app, with its new secret this one time"),
        (status = 400, description = "`invalid_request`: a public client has no secret"),
        (status = 403, description = "`forbidden`"),
        (status = 404, description = "`not_found`"),
    )
)]
pub(super) async fn rotate(
    State(state): State<AppState>,
    LoginPrincipal(owner): LoginPrincipal,
    client_id: Result<Path<String>, PathRejection>,
    request: Option<ApiJson<RotateSecret>>,
) -> Result<Response, ApiError> {
    let Path(client_id) = client_id.map_err(|_| ClientError::NotFound)?;
    let ApiJson(request) = request.unwrap_or_default();
    let overlap = SignedDuration::from_secs(request.keep_old_seconds.unwrap_or_default());
    let made = oauth::rotate_secret(&state, owner.id, client_id, overlap).await?;
    Ok((NO_STORE, Json(wire::app_with_secret(made))).into_response())
}

/// Change where an app may send codes
///
/// For its owner: replaces all redirect URIs. Each is compared as a whole (RFC 9700, 2.1).
#[utoipa::path(
    patch,
    path = "/api/oauth/apps/{client_id}",
    operation_id = "edit_app",
    tag = "oauth",
    security(("login" = []), ("session" = [])),
    params(("client_id" = String, Path, description = "The app's client id")),
    request_body = EditApp,
    responses(
        (status = 200, body = AppCreated, description = "The app as it is now"),
        (status = 403, description = "`forbidden`"),
        (status = 404, description = "`not_found`"),
    )
)]
pub(super) async fn edit(
    State(state): State<AppState>,
    LoginPrincipal(owner): LoginPrincipal,
    client_id: Result<Path<String>, PathRejection>,
    ApiJson(request): ApiJson<EditApp>,
) -> Result<Json<AppCreated>, ApiError> {
    let Path(client_id) = client_id.map_err(|_| ClientError::NotFound)?;
    let client = oauth::edit_client(&state, owner.id, client_id, request.redirect_uris).await?;
    Ok(Json(AppCreated { app: wire::app(client) }))
}

/// Remove an app
///
/// For its owner. It cannot be undone.
#[utoipa::path(
    delete,
    path = "/api/oauth/apps/{client_id}",
    operation_id = "remove_app",
    tag = "oauth",
    security(("login" = []), ("session" = [])),
    params(("client_id" = String, Path, description = "The app's client id")),
    responses(
        (status = 200, body = AppRemoved, description = "Every token that the app held has ended"),
        (status = 403, description = "`forbidden`"),
        (status = 404, description = "`not_found`"),
    )
)]
pub(super) async fn remove(
    State(state): State<AppState>,
    LoginPrincipal(owner): LoginPrincipal,
    client_id: Result<Path<String>, PathRejection>,
) -> Result<Json<AppRemoved>, ApiError> {
    let Path(client_id) = client_id.map_err(|_| ClientError::NotFound)?;
    oauth::remove_client(&state, owner.id, client_id).await?;
    let message = "The app is removed, and every token that it held has ended".to_owned();
    Ok(Json(AppRemoved { message }))
}

/// The apps of the account
///
/// Those that the account registered, with their state.
#[utoipa::path(
    get,
    path = "/api/oauth/my-apps",
    operation_id = "my_apps",
    tag = "oauth",
    security(("login" = []), ("session" = [])),
    params(Listing),
    responses((status = 200, body = AppList, description = "The apps, without their secrets"))
)]
pub(super) async fn mine(
    State(state): State<AppState>,
    LoginPrincipal(owner): LoginPrincipal,
    listing: Listing,
) -> Result<(HeaderMap, Json<AppList>), ApiError> {
    let apps = oauth::clients_of(&state, &owner).await?;
    let (headers, apps) = listing.cut(apps, MOST, |app| app.id.to_string())?;
    Ok((headers, Json(AppList { apps: apps.into_iter().map(wire::app).collect() })))
}
