//! `/api/teams/{team_id}/keys`.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use buddo_shared::api::auth::Message;
use buddo_shared::api::teams::{ApiKey, CreateKey, KeyCreated};
use buddo_shared::model::secret::Secret;
use http::StatusCode;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::api::extract::json::ApiJson;
use crate::api::extract::paging::Listing;
use crate::api::extract::path::{InTeam, TeamKey};
use crate::api::extract::principal::MemberPrincipal;
use crate::api::problem::ApiError;
use crate::api::routes::auth::NO_STORE;
use crate::api::routes::orgs::{Answer, Page, message, page, wire};
use crate::api::state::ApiState;
use crate::service::accounts::{self, Repeated};
use crate::service::teams;
use crate::state::AppState;

/// The endpoints.
pub fn routes() -> OpenApiRouter<ApiState> {
    OpenApiRouter::new().routes(routes!(list, create)).routes(routes!(revoke))
}

/// The API keys of a team
///
/// Never the keys themselves: how each begins, what it may do, when it was last used and when it
/// ends.
#[utoipa::path(
    get,
    path = "/api/teams/{team_id}/keys",
    operation_id = "api_keys",
    tag = "teams",
    security(("login" = []), ("session" = []), ("oauth" = ["teams:manage"])),
    params(("team_id" = uuid::Uuid, Path, description = "Team id"), Listing),
    responses(
        (status = 200, body = Vec<ApiKey>, description = "Newest first: all for an admin of the team, for others those that they made"),
        (status = 404, description = "`not_found`"),
    )
)]
async fn list(
    State(state): State<AppState>,
    MemberPrincipal(check): MemberPrincipal,
    InTeam { team }: InTeam,
    listing: Listing,
) -> Page<ApiKey> {
    let keys = teams::api_keys(&state, check, team).await?;
    page(&listing, keys.into_iter().map(wire::api_key).collect(), |key| key.id.clone())
}

/// Make an API key
///
/// A key can do no more than its maker, who is told by mail. Asks for the password again, and for a
/// one-time code where the account has them.
#[utoipa::path(
    post,
    path = "/api/teams/{team_id}/keys",
    operation_id = "create_api_key",
    tag = "teams",
    security(("login" = []), ("session" = []), ("oauth" = ["teams:manage"])),
    params(("team_id" = uuid::Uuid, Path, description = "Team id")),
    request_body = CreateKey,
    responses(
        (status = 201, body = KeyCreated, description = "The key, shown this once"),
        (status = 403, description = "`role_required`, `reauthentication_failed`"),
        (status = 404, description = "`not_found`"),
        (status = 409, description = "`limit_reached`"),
    )
)]
async fn create(
    State(state): State<AppState>,
    MemberPrincipal(check): MemberPrincipal,
    InTeam { team }: InTeam,
    ApiJson(mut request): ApiJson<CreateKey>,
) -> Result<Response, ApiError> {
    let password = std::mem::replace(&mut request.password, Secret::new(""));
    let repeated = Repeated { password, totp_code: request.totp_code.take() };
    let proved = accounts::prove_again(&state, check.account(), repeated).await?;
    let made = teams::create_key(&state, check, proved, team, wire::new_key(&request)?).await?;
    Ok((StatusCode::CREATED, NO_STORE, Json(wire::made_key(made))).into_response())
}

/// End an API key
///
/// For who made it, and for admins of the team.
#[utoipa::path(
    delete,
    path = "/api/teams/{team_id}/keys/{key_id}",
    operation_id = "revoke_api_key",
    tag = "teams",
    security(("login" = []), ("session" = []), ("oauth" = ["teams:manage"])),
    params(("team_id" = uuid::Uuid, Path, description = "Team id"), ("key_id" = uuid::Uuid, Path, description = "Key id")),
    responses(
        (status = 200, body = Message, description = "It is no longer valid"),
        (status = 404, description = "`not_found`"),
    )
)]
async fn revoke(
    State(state): State<AppState>,
    MemberPrincipal(check): MemberPrincipal,
    TeamKey { team, key }: TeamKey,
) -> Answer<Message> {
    teams::revoke_key(&state, check, team, key).await?;
    Ok(message("API key revoked"))
}
