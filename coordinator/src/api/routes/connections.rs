//! `/api/user/connected-apps`, for the account's owner, and `/api/external/user`, for those apps.

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use buddo_shared::api::auth::Message;
use buddo_shared::api::connections::{
    ConnectedApp, ConnectedApps, ExternalProfile, ExternalUser, GrantedScope,
};
use http::HeaderMap;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::api::extract::paging::{Listing, MOST};
use crate::api::extract::principal::{LoginPrincipal, ProfilePrincipal};
use crate::api::problem::{self, ApiError};
use crate::api::state::ApiState;
use crate::service::oauth::{self, ClientError};
use crate::state::AppState;
use crate::store::contract::{Account, Connection};

/// The endpoints of connected apps.
pub fn routes() -> OpenApiRouter<ApiState> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(disconnect)).routes(routes!(user))
}

/// The apps that can act for the account
///
/// What the account allowed to each, and when it last got a token.
#[utoipa::path(
    get,
    path = "/api/user/connected-apps",
    operation_id = "connected_apps",
    tag = "oauth",
    security(("login" = []), ("session" = [])),
    params(Listing),
    responses((status = 200, body = ConnectedApps, description = "Last used first"))
)]
async fn list(
    State(state): State<AppState>,
    LoginPrincipal(account): LoginPrincipal,
    listing: Listing,
) -> Result<(HeaderMap, Json<ConnectedApps>), ApiError> {
    let found = oauth::connected_apps(&state, account.id).await?;
    let (headers, found) = listing.cut(found, MOST, |found| found.client.id.to_string())?;
    let connected_apps = found.into_iter().map(connected_app).collect();
    Ok((headers, Json(ConnectedApps { connected_apps })))
}

/// Disconnect an app
///
/// What the account allowed to the app ends with its tokens. It can be allowed again.
#[utoipa::path(
    delete,
    path = "/api/user/connected-apps/{app_id}",
    tag = "oauth",
    security(("login" = []), ("session" = [])),
    params(("app_id" = uuid::Uuid, Path, description = "App id")),
    responses(
        (status = 200, body = Message, description = "Every token that the app held has ended"),
        (status = 404, description = "`not_found`"),
    )
)]
async fn disconnect(
    State(state): State<AppState>,
    LoginPrincipal(account): LoginPrincipal,
    app_id: Result<Path<String>, PathRejection>,
) -> Result<Json<Message>, ApiError> {
    let Path(app_id) = app_id.map_err(|_| ClientError::NotConnected)?;
    let name = oauth::disconnect(&state, account.id, &app_id).await?;
    Ok(Json(Message { message: format!("{name} is disconnected; its tokens have ended") }))
}

/// The account, as an app sees it
///
/// What an app with `profile:read` is told: the name, and no mail address.
#[utoipa::path(
    get,
    path = "/api/external/user",
    operation_id = "external_user",
    tag = "oauth",
    security(("oauth" = ["profile:read"])),
    responses(
        (status = 200, body = ExternalUser, description = "The account that the app acts for"),
        (status = 404, description = "`not_found`"),
    )
)]
async fn user(
    State(state): State<AppState>,
    ProfilePrincipal(who): ProfilePrincipal,
) -> Result<Json<ExternalUser>, ApiError> {
    let user = oauth::external_user(&state, who.account()).await?;
    let gone = || ApiError::new(problem::NOT_FOUND, "the account is gone");
    user.map(|account| Json(external_user(account))).ok_or_else(gone)
}

fn connected_app(connection: Connection) -> ConnectedApp {
    let Connection { client, scopes, since, last_token_at } = connection;
    let scopes = scopes.iter().map(|scope| GrantedScope {
        name: scope.as_str().to_owned(),
        description: scope.in_words().to_owned(),
    });
    ConnectedApp {
        app_id: client.id.to_string(),
        client_id: client.client_id,
        app_name: client.name,
        app_description: client.description,
        logo_url: client.logo_url,
        website_url: client.website_url,
        scopes: scopes.collect(),
        connected_at: since,
        last_token_at,
    }
}

fn external_user(account: Account) -> ExternalUser {
    ExternalUser {
        user: ExternalProfile {
            id: account.id.to_string(),
            username: account.username.to_string(),
            tier: account.tier,
            email_verified: account.email_verified_at.is_some(),
            inserted_at: account.created_at,
        },
    }
}
