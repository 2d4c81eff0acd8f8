//! The device authorization endpoint (RFC 8628, 3.1). Its page is [`crate::http::pages::device`].

use axum::extract::{Request, State};
use axum::response::Response;
use buddo_shared::secret::Secret;

use super::wire::{Refusal, answer, authenticated, read};
use crate::service::oauth;
use crate::state::AppState;

/// What a device sends.
#[derive(serde::Deserialize)]
struct Start {
    client_id: Option<String>,
    client_secret: Option<Secret>,
    scope: Option<String>,
}

/// `POST /api/oauth/device_authorization`.
pub(super) async fn start(State(state): State<AppState>, request: Request) -> Response {
    let headers = request.headers().clone();
    let result = async {
        let start: Start = read(request).await?;
        let client = authenticated(&state, &headers, start.client_id, start.client_secret).await?;
        oauth::start_device(&state, client, start.scope).await.map_err(Refusal::Token)
    };
    answer(result.await, &headers)
}
