//! `/api/deploy/*`: the nine published endpoints; and beside them a stream of status changes, the
//! revisions of a deployment, and the way back to one of them.

mod events;

use axum::extract::rejection::QueryRejection;
use axum::extract::{FromRequestParts, Path, Query, State};
use axum::routing::{get, post};
use axum::{Json, Router};
use buddo_shared::api::deploy::{
    AuditLog, CreateDeployment, DeploymentEnvelope, DeploymentList, Destroyed, RevisionList,
    Rollback, StatusAnswer, Tier,
};
use buddo_shared::id::{DeploymentId, TeamId};
use http::header::LINK;
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use serde::Deserialize;

use super::json::ApiJson;
use super::principal::DeployPrincipal;
use super::problem::{self, ApiError};
use crate::service::deployments::{self, DeployError, IdempotencyKey};
use crate::state::AppState;
use crate::store::contract::Page;

/// Deployments on one page, at most and where no limit is asked.
const PAGE: u32 = 100;

/// The deploy endpoints: for tokens with `deploy:manage` and API keys.
pub fn routes() -> Router<AppState> {
    Router::new()
        .route("/api/deploy/tiers", get(tiers))
        .route("/api/deploy/apps", get(list).post(create))
        .route("/api/deploy/apps/{id}", get(show).delete(destroy))
        .route("/api/deploy/apps/{id}/status", get(status))
        .route("/api/deploy/apps/{id}/logs", get(logs))
        .route("/api/deploy/apps/{id}/events", get(events::stream))
        .route("/api/deploy/apps/{id}/revisions", get(revisions))
        .route("/api/deploy/apps/{id}/restart", post(restart))
        .route("/api/deploy/apps/{id}/rollback", post(rollback))
        .route("/api/deploy/apps/{id}/stop", post(stop))
}

type Answer<T> = Result<Json<T>, ApiError>;

async fn tiers(State(state): State<AppState>, _: DeployPrincipal) -> Answer<Vec<Tier>> {
    Ok(Json(deployments::tiers(&state).await?))
}

async fn create(
    State(state): State<AppState>,
    who: DeployPrincipal,
    query: Result<Query<InTeam>, QueryRejection>,
    headers: HeaderMap,
    ApiJson(request): ApiJson<CreateDeployment>,
) -> Result<(StatusCode, Json<DeploymentEnvelope>), ApiError> {
    let Query(InTeam { team_id }) = query.map_err(|_| {
        ApiError::new(problem::INVALID_REQUEST, "the query is malformed; use ?team_id=ID")
    })?;
    let (team, key) = (team_of(team_id)?, idempotency_key(&headers)?);
    let made = deployments::create(&state, who.0, team, request, key).await?;
    Ok((StatusCode::CREATED, Json(made)))
}

fn idempotency_key(headers: &HeaderMap) -> Result<Option<IdempotencyKey>, ApiError> {
    headers
        .get(HeaderName::from_static("idempotency-key"))
        .map(|value| IdempotencyKey::parse(value.as_bytes()))
        .transpose()
        .map_err(|error| ApiError::new(problem::INVALID_REQUEST, error.to_string()))
}

/// Which team is meant; the own one if absent.
#[derive(Debug, Deserialize)]
struct InTeam {
    team_id: Option<String>,
}

fn team_of(text: Option<String>) -> Result<Option<TeamId>, ApiError> {
    let team = text.map(|text| text.parse()).transpose();
    team.map_err(|error| ApiError::field("/team_id", error))
}

/// What a list may be asked.
#[derive(Debug, Deserialize)]
struct Listing {
    limit: Option<String>,
    after: Option<String>,
    team_id: Option<String>,
}

impl Listing {
    fn page(self) -> Result<Page, ApiError> {
        let limit = match self.limit {
            None => PAGE,
            Some(text) => text
                .parse()
                .ok()
                .filter(|limit| (1..=PAGE).contains(limit))
                .ok_or_else(|| ApiError::field("/limit", "is out of range; use 1 to 100"))?,
        };
        let after = self
            .after
            .map(|text| text.parse())
            .transpose()
            .map_err(|error| ApiError::field("/after", error))?;
        Ok(Page { limit, after })
    }
}

async fn list(
    State(state): State<AppState>,
    who: DeployPrincipal,
    query: Result<Query<Listing>, QueryRejection>,
) -> Result<(HeaderMap, Json<DeploymentList>), ApiError> {
    let Query(listing) = query.map_err(|_| {
        ApiError::new(problem::INVALID_REQUEST, "the query is malformed; use ?limit=N&after=ID")
    })?;
    let team = team_of(listing.team_id.clone())?;
    let page = listing.page()?;
    let found = deployments::list(&state, who.0, team, page).await?;
    let mut headers = HeaderMap::new();
    if let Some(next) = found.next {
        let team = team.map(|team| format!("&team_id={team}")).unwrap_or_default();
        let link =
            format!("</api/deploy/apps?limit={}&after={next}{team}>; rel=\"next\"", page.limit);
        // Numbers and hyphens: always a header value.
        if let Ok(link) = HeaderValue::try_from(link) {
            headers.insert(LINK, link);
        }
    }
    Ok((headers, Json(found.deployments)))
}

async fn show(
    State(state): State<AppState>,
    who: DeployPrincipal,
    Id(id): Id,
) -> Answer<DeploymentEnvelope> {
    Ok(Json(deployments::get(&state, who.0, id).await?))
}

async fn status(
    State(state): State<AppState>,
    who: DeployPrincipal,
    Id(id): Id,
) -> Answer<StatusAnswer> {
    Ok(Json(deployments::status(&state, who.0, id).await?))
}

async fn logs(State(state): State<AppState>, who: DeployPrincipal, Id(id): Id) -> Answer<AuditLog> {
    Ok(Json(deployments::logs(&state, who.0, id).await?))
}

async fn revisions(
    State(state): State<AppState>,
    who: DeployPrincipal,
    Id(id): Id,
) -> Answer<RevisionList> {
    Ok(Json(deployments::revisions(&state, who.0, id).await?))
}

async fn rollback(
    State(state): State<AppState>,
    who: DeployPrincipal,
    Id(id): Id,
    headers: HeaderMap,
    body: Option<ApiJson<Rollback>>,
) -> Answer<DeploymentEnvelope> {
    let ApiJson(request) = body.unwrap_or_default();
    let key = idempotency_key(&headers)?;
    Ok(Json(deployments::rollback(&state, who.0, id, request, key).await?))
}

async fn restart(
    State(state): State<AppState>,
    who: DeployPrincipal,
    Id(id): Id,
) -> Answer<DeploymentEnvelope> {
    Ok(Json(deployments::restart(&state, who.0, id).await?))
}

async fn stop(
    State(state): State<AppState>,
    who: DeployPrincipal,
    Id(id): Id,
) -> Answer<DeploymentEnvelope> {
    Ok(Json(deployments::stop(&state, who.0, id).await?))
}

async fn destroy(
    State(state): State<AppState>,
    who: DeployPrincipal,
    Id(id): Id,
) -> Answer<Destroyed> {
    Ok(Json(deployments::destroy(&state, who.0, id).await?))
}

/// The deployment that a path names. A text that is no id, or no text at all, names none.
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
