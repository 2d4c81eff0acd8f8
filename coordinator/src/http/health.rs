//! Is the process alive, and can it serve?

use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Value, json};

use super::problem::{self, ApiError};
use crate::state::AppState;
use crate::store::StoreError;

/// `/health` and `/readyz`.
pub fn routes() -> Router<AppState> {
    Router::new().route("/health", get(alive)).route("/readyz", get(ready))
}

/// Liveness: the process answers.
async fn alive() -> Json<Value> {
    Json(json!({ "status": "ok" }))
}

/// Readiness: the database answers, and the process is not draining.
async fn ready(State(state): State<AppState>) -> Result<Json<Value>, ApiError> {
    let refused = |why: &str| ApiError::new(problem::OVERLOADED, why);
    if state.drain.is_cancelled() {
        return Err(refused("the server is shutting down; use another one"));
    }
    let tiers = state.store.read(|tables| tables.tiers()).await;
    tiers.map(|_| Json(json!({ "status": "ready" }))).map_err(|error: StoreError| {
        tracing::error!(error = %problem::chain(&error), "not ready");
        refused("the database does not answer; try again")
    })
}
