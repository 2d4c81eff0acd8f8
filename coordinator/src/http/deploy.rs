//! `/api/deploy/*`.

use axum::Router;

use crate::state::AppState;

/// The deploy endpoints.
pub fn routes(_state: &AppState) -> Router<AppState> {
    Router::new()
}
