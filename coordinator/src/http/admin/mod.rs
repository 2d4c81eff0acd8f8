//! `/api/admin/*`: for accounts that administer the platform, by a recent login with a one-time
//! code. See `service/admin`.

mod accounts;
mod platform;

use axum::extract::rejection::QueryRejection;
use axum::extract::{FromRequestParts, Query, Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{delete, get, patch, post};
use axum::{Json, Router};
use http::header::LINK;
use http::request::Parts;
use http::{HeaderMap, HeaderValue};
use serde::Deserialize;

use super::principal::AdminPrincipal;
use super::problem::{self, ApiError};
use crate::service::admin::{self, AdminError, Desk};
use crate::service::hosts::HostError;
use crate::service::oauth::ApprovalError;
use crate::state::AppState;

/// Rows on one page, at most and where no limit is asked.
const PAGE: u32 = 100;

/// The endpoints.
pub fn routes(state: &AppState) -> Router<AppState> {
    Router::new()
        .route("/api/admin/accounts", get(accounts::list))
        .route("/api/admin/accounts/{id}", get(accounts::show))
        .route("/api/admin/accounts/{id}/suspend", post(accounts::suspend))
        .route("/api/admin/accounts/{id}/resume", post(accounts::resume))
        .route("/api/admin/accounts/{id}/promote", post(accounts::promote))
        .route("/api/admin/accounts/{id}/demote", post(accounts::demote))
        .route("/api/admin/accounts/{id}/clear-second-factor", post(accounts::clear))
        .route("/api/admin/tiers", get(platform::tiers).post(platform::add_tier))
        .route("/api/admin/tiers/{slug}", patch(platform::change_tier))
        .route("/api/admin/hosts", get(platform::hosts))
        .route("/api/admin/hosts/{name}", delete(platform::remove_host))
        .route("/api/admin/hosts/{name}/drain", post(platform::drain))
        .route("/api/admin/hosts/{name}/undrain", post(platform::undrain))
        .route("/api/admin/apps", get(platform::apps))
        .route("/api/admin/apps/{client_id}/approve", post(platform::approve))
        .route("/api/admin/apps/{client_id}/reject", post(platform::reject))
        .route("/api/admin/audit", get(platform::audit))
        .route_layer(middleware::from_fn_with_state(state.clone(), guard))
}

/// An administrator, who may do all of it. It is made by the guard alone: a handler that takes it
/// does not run without.
#[derive(Clone)]
struct AtDesk(Desk);

impl FromRequestParts<AppState> for AtDesk {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &AppState) -> Result<Self, ApiError> {
        let missing = || ApiError::new(problem::ADMIN_REQUIRED, AdminError::NotAdmin.to_string());
        parts.extensions.get::<Self>().cloned().ok_or_else(missing)
    }
}

/// Asks of an administrator whom the gate let in for a recent login with a one-time code, and leaves
/// the desk for the handler.
async fn guard(State(state): State<AppState>, request: Request, next: Next) -> Response {
    let (mut parts, body) = request.into_parts();
    let check = match AdminPrincipal::from_request_parts(&mut parts, &state).await {
        Ok(AdminPrincipal(check)) => check,
        Err(refusal) => return refusal.into_response(),
    };
    match admin::authorise(&state, check).await {
        Ok(account) => {
            parts.extensions.insert(AtDesk(admin::desk(&state, &account)));
            next.run(Request::from_parts(parts, body)).await
        }
        Err(error) => ApiError::from(error).into_response(),
    }
}

impl From<AdminError> for ApiError {
    fn from(error: AdminError) -> Self {
        let kind = match error {
            AdminError::Invalid(errors) => return Self::invalid(errors),
            AdminError::Store(error) => return error.into(),
            AdminError::Host(HostError::Store(error))
            | AdminError::App(ApprovalError::Store(error)) => {
                return error.into();
            }
            AdminError::NotAdmin => problem::ADMIN_REQUIRED,
            AdminError::Login => problem::ADMIN_LOGIN_REQUIRED,
            AdminError::NoAccount(_)
            | AdminError::App(_)
            | AdminError::Host(HostError::Unknown(_)) => problem::NOT_FOUND,
            AdminError::NoTier(_) => problem::TIER_NOT_FOUND,
            AdminError::Conflict(_) | AdminError::Host(_) => problem::CONFLICT,
        };
        Self::new(kind, error.to_string())
    }
}

/// What a list may be asked.
#[derive(Debug, Default, Deserialize)]
struct Listing {
    limit: Option<String>,
    after: Option<String>,
    q: Option<String>,
}

impl Listing {
    fn of(query: Result<Query<Self>, QueryRejection>) -> Result<Self, ApiError> {
        let malformed = "the query is malformed; use ?limit=N&after=CURSOR";
        let Query(listing) =
            query.map_err(|_| ApiError::new(problem::INVALID_REQUEST, malformed))?;
        Ok(listing)
    }

    fn limit(&self) -> Result<u32, ApiError> {
        let Some(text) = &self.limit else { return Ok(PAGE) };
        let limit = text.parse().ok().filter(|limit| (1..=PAGE).contains(limit));
        limit.ok_or_else(|| ApiError::field("/limit", "is out of range; use 1 to 100"))
    }

    /// A cursor that is a number.
    fn after_number(&self) -> Result<Option<i64>, ApiError> {
        let parsed = self.after.as_deref().map(str::parse).transpose();
        parsed.map_err(|_| ApiError::field("/after", "is no cursor; follow the Link header"))
    }
}

/// A page, and where the next one is (RFC 8288).
fn page<T>(next: Option<String>, body: T) -> (HeaderMap, Json<T>) {
    let mut headers = HeaderMap::new();
    let link = next.and_then(|next| HeaderValue::try_from(format!("<{next}>; rel=\"next\"")).ok());
    if let Some(link) = link {
        headers.insert(LINK, link);
    }
    (headers, Json(body))
}
