//! `/v1/renew` on the listener for hosts: renews their certificates.

use axum::extract::{Request, State};
use axum::middleware::from_fn_with_state;
use axum::routing::post;
use axum::{Json, Router};
use buddo_runtime::error_chain::chain;
use buddo_shared::host_wire::renewal::Binding;
use buddo_shared::host_wire::renewal::Renewed;

use crate::api::extract::json::read_body;
use crate::api::middleware::rate_limit::by_address;
use crate::api::problem::{self, ApiError};
use crate::api::state::ApiState;
use crate::limits::Limit;
use crate::service::hosts::renewal::{self, RenewError};
use crate::state::AppState;

/// `POST /v1/renew`. Rate-limited by address, like joins.
pub fn routes(state: &AppState) -> Router<ApiState> {
    let limit = from_fn_with_state((state.clone(), Limit::Public), by_address);
    Router::new().route("/v1/renew", post(renew).route_layer(limit))
}

async fn renew(State(state): State<AppState>, request: Request) -> Result<Json<Renewed>, ApiError> {
    // Set by the listener, since only it sees the TLS connection.
    let binding = request.extensions().get::<Binding>().copied();
    let binding = binding.ok_or_else(|| RenewError::Stranger(None))?;
    let body = read_body(request, &state).await?;
    Ok(Json(renewal::renew(&state, &body, binding).await?))
}

impl From<RenewError> for ApiError {
    fn from(error: RenewError) -> Self {
        match error {
            RenewError::Stranger(_) => {
                tracing::warn!(error = %chain(&error), "a renewal was refused");
                Self::new(problem::NOT_A_HOST, error.to_string())
            }
            RenewError::Locked(_) => Self::new(problem::HOST_LOCKED, error.to_string()),
            RenewError::Clock(doubted) => Self::new(problem::CLOCK_DOUBTED, doubted.to_string()),
            RenewError::Ca(_) => Self::internal(&error),
            RenewError::Store(error) => error.into(),
        }
    }
}
