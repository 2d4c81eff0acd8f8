//! Liveness and readiness.

use axum::Json;
use axum::extract::State;
use buddo_runtime::error_chain::chain;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::api::problem::{self, ApiError};
use crate::api::state::ApiState;
use crate::state::AppState;
use crate::store::StoreError;

/// `/health` and `/readyz`.
pub fn routes() -> OpenApiRouter<ApiState> {
    OpenApiRouter::new().routes(routes!(alive)).routes(routes!(ready))
}

/// How the server is.
#[derive(Debug, Serialize, ToSchema)]
struct Condition {
    /// `ok`, or `ready`.
    #[schema(example = "ok")]
    status: &'static str,
}

/// Whether the process lives
///
/// It asks nothing of the database, and answers also when all places for requests are taken.
#[utoipa::path(
    get,
    path = "/health",
    operation_id = "health",
    tag = "server",
    responses((status = 200, body = Condition, description = "It answers"))
)]
async fn alive() -> Json<Condition> {
    Json(Condition { status: "ok" })
}

/// Whether the server can serve
///
/// The database answers, and the process is not shutting down.
#[utoipa::path(
    get,
    path = "/readyz",
    tag = "server",
    responses((status = 200, body = Condition, description = "It can"))
)]
async fn ready(State(state): State<AppState>) -> Result<Json<Condition>, ApiError> {
    let refused = |why: &str| ApiError::new(problem::OVERLOADED, why);
    if state.drain.is_cancelled() {
        return Err(refused("the server is shutting down; use another one"));
    }
    let tiers = state.store.read(|tables| tables.tiers()).await;
    tiers.map(|_| Json(Condition { status: "ready" })).map_err(|error: StoreError| {
        tracing::error!(error = %chain(&error), "not ready");
        refused("the database does not answer; try again")
    })
}
