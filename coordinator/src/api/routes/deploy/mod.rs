//! `/api/deploy/*`: the nine published endpoints; and in addition a stream of status changes, the
//! revisions of a deployment, and rollback to one of them.

mod events;
pub(crate) mod wire;

use axum::Json;
use axum::extract::{FromRequestParts, Path, State};
use buddo_shared::api::deploy::{
    AuditEntry, AuditLog, CreateDeployment, DeploymentEnvelope, DeploymentList, Destroyed,
    Registries, Revision, RevisionList, Rollback, StatusAnswer, Tier,
};
use buddo_shared::model::id::{DeploymentId, Revision as RevisionNumber, TeamId};
use buddo_shared::model::spec::AppSpec;
use http::request::Parts;
use http::{HeaderMap, HeaderName, StatusCode};
use serde::{Deserialize, Serialize};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::api::extract::form::ApiQuery;
use crate::api::extract::json::ApiJson;
use crate::api::extract::paging::Listing;
use crate::api::extract::principal::DeployPrincipal;
use crate::api::problem::{self, ApiError};
use crate::api::state::ApiState;
use crate::service::deployments::{self, Asked, DeployError, IdempotencyKey, Shown};
use crate::state::AppState;
use crate::store::contract::Page;

/// The deploy endpoints: for tokens with `deploy:manage` and API keys.
pub fn routes() -> OpenApiRouter<ApiState> {
    OpenApiRouter::new()
        .routes(routes!(tiers))
        .routes(routes!(registries))
        .routes(routes!(list, create))
        .routes(routes!(show, destroy))
        .routes(routes!(status))
        .routes(routes!(logs))
        .routes(routes!(events::stream))
        .routes(routes!(revisions))
        .routes(routes!(restart))
        .routes(routes!(rollback))
        .routes(routes!(stop))
}

type Answer<T> = Result<Json<T>, ApiError>;

/// The tiers
///
/// Those that a deployment can be made on, with limits and prices.
#[utoipa::path(
    get,
    path = "/api/deploy/tiers",
    operation_id = "tiers",
    tag = "deploy",
    security(("oauth" = ["deploy:manage"]), ("key" = ["deployments:read"])),
    responses((status = 200, body = Vec<Tier>, description = "Cheapest first"))
)]
async fn tiers(State(state): State<AppState>, _: DeployPrincipal) -> Answer<Vec<Tier>> {
    Ok(Json(deployments::tiers(&state).await?.into_iter().map(wire::tier).collect()))
}

/// Where images may come from
///
/// Registries, or namespaces in them. A deployment with an image from elsewhere is refused.
#[utoipa::path(
    get,
    path = "/api/deploy/registries",
    operation_id = "registries",
    tag = "deploy",
    security(("oauth" = ["deploy:manage"]), ("key" = ["deployments:read"])),
    responses((status = 200, body = Registries, description = "The list of the platform"))
)]
async fn registries(State(state): State<AppState>, _: DeployPrincipal) -> Json<Registries> {
    Json(Registries { registries: state.config.deploy.images.entries().collect() })
}

/// Create a deployment
///
/// It is placed on a host and begins at once. Follow it by its status or its events. With an
/// `Idempotency-Key` it is safe to send again.
#[utoipa::path(
    post,
    path = "/api/deploy/apps",
    operation_id = "create_deployment",
    tag = "deploy",
    security(("oauth" = ["deploy:manage"]), ("key" = ["deployments:write"])),
    params(InTeam, IdempotencyHeader),
    request_body = CreateDeployment,
    responses(
        (status = 201, body = DeploymentEnvelope, description = "The deployment, `pending`"),
        (status = 403, description = "`forbidden`, `role_required`, `email_unverified`, `tier_not_allowed`"),
        (status = 404, description = "`tier_not_found`"),
        (status = 409, description = "`limit_reached`: the account's environments on one host"),
        (status = 422, description = "`validation_failed`, `idempotency_key_reused`"),
        (status = 429, description = "`deployment_limit_reached`"),
        (status = 503, description = "`no_capacity`, `no_host_available`"),
    )
)]
async fn create(
    State(state): State<AppState>,
    who: DeployPrincipal,
    ApiQuery(InTeam { team_id }): ApiQuery<InTeam>,
    headers: HeaderMap,
    ApiJson(request): ApiJson<CreateDeployment>,
) -> Result<(StatusCode, Json<DeploymentEnvelope>), ApiError> {
    let (team, asked) = (team_of(team_id)?, asked(&headers, &request)?);
    let spec = AppSpec::parse(request).map_err(ApiError::invalid)?;
    let made = deployments::create(&state, who.0, team, spec, asked).await?;
    Ok((StatusCode::CREATED, envelope(&state, made)))
}

fn envelope(state: &AppState, shown: Shown) -> Json<DeploymentEnvelope> {
    Json(DeploymentEnvelope { deployment: wire::deployment(shown, &state.config.zone) })
}

/// The idempotency key and fingerprint of a request that may be repeated.
fn asked(headers: &HeaderMap, request: &impl Serialize) -> Result<Option<Asked>, ApiError> {
    let Some(value) = headers.get(HeaderName::from_static("idempotency-key")) else {
        return Ok(None);
    };
    let key = IdempotencyKey::parse(value.as_bytes())
        .map_err(|error| ApiError::new(problem::INVALID_REQUEST, error.to_string()))?;
    let body = serde_json::to_vec(request).map_err(DeployError::from)?;
    Ok(Some(Asked { key, body: body.into() }))
}

/// Which team is meant.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
struct InTeam {
    /// The team; the account's own, or the key's, if absent. A list without it shows all.
    #[param(value_type = Option<uuid::Uuid>, nullable = false)]
    team_id: Option<String>,
}

fn team_of(text: Option<String>) -> Result<Option<TeamId>, ApiError> {
    let team = text.map(|text| text.parse()).transpose();
    team.map_err(|error| ApiError::field("/team_id", error))
}

/// For the document: the header that [`asked`] reads.
#[expect(dead_code, reason = "a schema alone")]
#[derive(utoipa::IntoParams)]
#[into_params(parameter_in = Header)]
struct IdempotencyHeader {
    /// Makes the request safe to send twice: for 24 hours it is answered as it was at first.
    #[param(
        rename = "Idempotency-Key",
        nullable = false,
        min_length = 1,
        max_length = 255,
        pattern = "^[ -~]+$"
    )]
    idempotency_key: Option<String>,
}

/// The deployments of the account
///
/// Of all teams that the token reaches, or of the one in `team_id`. Destroyed ones are shown by id
/// alone.
#[utoipa::path(
    get,
    path = "/api/deploy/apps",
    operation_id = "deployments",
    tag = "deploy",
    security(("oauth" = ["deploy:manage"]), ("key" = ["deployments:read"])),
    params(InTeam, Listing),
    responses(
        (status = 200, body = DeploymentList, description = "Newest first, without destroyed ones"),
        (status = 403, description = "`forbidden`"),
    )
)]
async fn list(
    State(state): State<AppState>,
    who: DeployPrincipal,
    ApiQuery(InTeam { team_id }): ApiQuery<InTeam>,
    listing: Listing,
) -> Result<(HeaderMap, Json<DeploymentList>), ApiError> {
    let team = team_of(team_id)?;
    let listing = listing.keeping("team_id", team.map(|team| team.to_string()));
    let page = Page { limit: listing.limit()?, after: listing.after()? };
    let found = deployments::list(&state, who.0, team, page).await?;
    let headers = match found.next {
        Some(next) => listing.next(&next.to_string())?,
        None => HeaderMap::new(),
    };
    let zone = &state.config.zone;
    let deployments = found.deployments.into_iter().map(|shown| wire::deployment(shown, zone));
    Ok((headers, Json(DeploymentList { deployments: deployments.collect() })))
}

/// One deployment
///
/// All published fields, with what is wrong at the moment and how often it went down lately.
#[utoipa::path(
    get,
    path = "/api/deploy/apps/{id}",
    operation_id = "deployment",
    tag = "deploy",
    security(("oauth" = ["deploy:manage"]), ("key" = ["deployments:read"])),
    params(("id" = uuid::Uuid, Path, description = "Deployment id")),
    responses(
        (status = 200, body = DeploymentEnvelope, description = "The deployment"),
        (status = 403, description = "`forbidden`"),
        (status = 404, description = "`not_found`"),
    )
)]
async fn show(
    State(state): State<AppState>,
    who: DeployPrincipal,
    Id(id): Id,
) -> Answer<DeploymentEnvelope> {
    Ok(envelope(&state, deployments::get(&state, who.0, id).await?))
}

/// Status and health of a deployment, for frequent polls
///
/// The short answer, with how far a deploy under way is.
#[utoipa::path(
    get,
    path = "/api/deploy/apps/{id}/status",
    operation_id = "deployment_status",
    tag = "deploy",
    security(("oauth" = ["deploy:manage"]), ("key" = ["deployments:read"])),
    params(("id" = uuid::Uuid, Path, description = "Deployment id")),
    responses(
        (status = 200, body = StatusAnswer, description = "Status and health"),
        (status = 403, description = "`forbidden`"),
        (status = 404, description = "`not_found`"),
    )
)]
async fn status(
    State(state): State<AppState>,
    who: DeployPrincipal,
    Id(id): Id,
) -> Answer<StatusAnswer> {
    Ok(Json(wire::status_answer(deployments::status(&state, who.0, id).await?)))
}

/// The audit log of a deployment
///
/// Who did what to it, when, and how that ended. What the app itself prints is not in it.
#[utoipa::path(
    get,
    path = "/api/deploy/apps/{id}/logs",
    operation_id = "deployment_logs",
    tag = "deploy",
    security(("oauth" = ["deploy:manage"]), ("key" = ["deployments:read"])),
    params(("id" = uuid::Uuid, Path, description = "Deployment id"), Listing),
    responses(
        (status = 200, body = AuditLog, description = "The newest thousand, oldest first"),
        (status = 403, description = "`forbidden`"),
        (status = 404, description = "`not_found`"),
    )
)]
async fn logs(
    State(state): State<AppState>,
    who: DeployPrincipal,
    Id(id): Id,
    listing: Listing,
) -> Result<(HeaderMap, Json<AuditLog>), ApiError> {
    let logs = deployments::logs(&state, who.0, id).await?;
    let logs = logs.into_iter().map(wire::audit_entry).collect();
    // The newest are last: without a limit they are shown, too.
    let (headers, logs) = listing.cut(logs, u32::MAX, |entry: &AuditEntry| entry.id.clone())?;
    Ok((headers, Json(AuditLog { logs })))
}

/// The revisions of a deployment
///
/// Those that are kept, with what became of each. Environments are never shown.
#[utoipa::path(
    get,
    path = "/api/deploy/apps/{id}/revisions",
    operation_id = "deployment_revisions",
    tag = "deploy",
    security(("oauth" = ["deploy:manage"]), ("key" = ["deployments:read"])),
    params(("id" = uuid::Uuid, Path, description = "Deployment id"), Listing),
    responses(
        (status = 200, body = RevisionList, description = "Newest first"),
        (status = 403, description = "`forbidden`"),
        (status = 404, description = "`not_found`"),
    )
)]
async fn revisions(
    State(state): State<AppState>,
    who: DeployPrincipal,
    Id(id): Id,
    listing: Listing,
) -> Result<(HeaderMap, Json<RevisionList>), ApiError> {
    let (deployment, records) = deployments::revisions(&state, who.0, id).await?;
    let revisions = records.into_iter().map(|record| wire::revision(&deployment, record)).collect();
    let number = |revision: &Revision| revision.revision.to_string();
    let (headers, revisions) = listing.cut(revisions, u32::MAX, number)?;
    Ok((headers, Json(RevisionList { revisions })))
}

/// Bring an earlier revision back
///
/// Makes a new revision with all of an earlier one, and exactly the bytes that it ran. Without a
/// body it goes to the newest good one before.
#[utoipa::path(
    post,
    path = "/api/deploy/apps/{id}/rollback",
    operation_id = "roll_back_deployment",
    tag = "deploy",
    security(("oauth" = ["deploy:manage"]), ("key" = ["deployments:write"])),
    params(("id" = uuid::Uuid, Path, description = "Deployment id"), IdempotencyHeader),
    request_body = Option<Rollback>,
    responses(
        (status = 200, body = DeploymentEnvelope, description = "The deployment, `deploying` the revision again"),
        (status = 403, description = "`forbidden`, `role_required`, `email_unverified`, `tier_not_allowed`"),
        (status = 404, description = "`not_found`, `revision_not_found`"),
        (status = 422, description = "`illegal_state`, `idempotency_key_reused`"),
    )
)]
async fn rollback(
    State(state): State<AppState>,
    who: DeployPrincipal,
    Id(id): Id,
    headers: HeaderMap,
    body: Option<ApiJson<Rollback>>,
) -> Answer<DeploymentEnvelope> {
    let ApiJson(request) = body.unwrap_or_default();
    let asked = asked(&headers, &request)?;
    let named = request.revision.map(RevisionNumber::new);
    Ok(envelope(&state, deployments::rollback(&state, who.0, id, named, asked).await?))
}

/// Pull the image again and replace the container
///
/// Makes a new revision of the newest image of the tag, also of a stopped deployment. What serves
/// goes on until the new one answers, unless the strategy is `recreate`.
#[utoipa::path(
    post,
    path = "/api/deploy/apps/{id}/restart",
    operation_id = "restart_deployment",
    tag = "deploy",
    security(("oauth" = ["deploy:manage"]), ("key" = ["deployments:write"])),
    params(("id" = uuid::Uuid, Path, description = "Deployment id")),
    responses(
        (status = 200, body = DeploymentEnvelope, description = "The deployment, `deploying`"),
        (status = 403, description = "`forbidden`, `role_required`, `email_unverified`, `tier_not_allowed`"),
        (status = 404, description = "`not_found`"),
        (status = 422, description = "`illegal_state`"),
        (status = 429, description = "`deployment_limit_reached`"),
    )
)]
async fn restart(
    State(state): State<AppState>,
    who: DeployPrincipal,
    Id(id): Id,
) -> Answer<DeploymentEnvelope> {
    Ok(envelope(&state, deployments::restart(&state, who.0, id).await?))
}

/// Stop the container
///
/// Its name, image and environment are kept; a restart starts it again.
#[utoipa::path(
    post,
    path = "/api/deploy/apps/{id}/stop",
    operation_id = "stop_deployment",
    tag = "deploy",
    security(("oauth" = ["deploy:manage"]), ("key" = ["deployments:write"])),
    params(("id" = uuid::Uuid, Path, description = "Deployment id")),
    responses(
        (status = 200, body = DeploymentEnvelope, description = "The deployment, `stopped`"),
        (status = 403, description = "`forbidden`, `role_required`"),
        (status = 404, description = "`not_found`"),
        (status = 422, description = "`illegal_state`"),
    )
)]
async fn stop(
    State(state): State<AppState>,
    who: DeployPrincipal,
    Id(id): Id,
) -> Answer<DeploymentEnvelope> {
    Ok(envelope(&state, deployments::stop(&state, who.0, id).await?))
}

/// Destroy a deployment
///
/// Its container, its environment and its revisions go; its name is free at once. It cannot be
/// undone.
#[utoipa::path(
    delete,
    path = "/api/deploy/apps/{id}",
    operation_id = "destroy_deployment",
    tag = "deploy",
    security(("oauth" = ["deploy:manage"]), ("key" = ["deployments:write"])),
    params(("id" = uuid::Uuid, Path, description = "Deployment id")),
    responses(
        (status = 200, body = Destroyed, description = "It is gone for good"),
        (status = 403, description = "`forbidden`, `role_required`"),
        (status = 404, description = "`not_found`"),
        (status = 422, description = "`illegal_state`"),
    )
)]
async fn destroy(
    State(state): State<AppState>,
    who: DeployPrincipal,
    Id(id): Id,
) -> Answer<Destroyed> {
    deployments::destroy(&state, who.0, id).await?;
    Ok(Json(Destroyed { message: "Deployment destroyed".to_owned(), id: id.to_string() }))
}

/// The deployment that a path names. A malformed or missing id names none.
#[derive(Debug)]
struct Id(DeploymentId);

impl<S: Send + Sync> FromRequestParts<S> for Id {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let text = Path::<String>::from_request_parts(parts, state).await.ok();
        let id = text.and_then(|Path(text)| text.parse().ok());
        id.map(Self).ok_or_else(|| DeployError::NotFound.into())
    }
}

#[cfg(test)]
mod tests;
