//! The device authorization endpoint (RFC 8628, 3.1). Its page is [`crate::api::pages::device`].

use axum::extract::{Request, State};
use axum::response::Response;
use buddo_shared::api::oauth::{DeviceAuthorization, OAuthError};
use buddo_shared::model::secret::Secret;

use super::wire::{self, Refusal, answer, authenticated, read};
use crate::service::oauth;
use crate::state::AppState;

/// What a device sends.
#[derive(serde::Deserialize, utoipa::ToSchema)]
#[schema(as = DeviceRequest)]
struct Start {
    /// The client, unless it authenticates by Basic.
    client_id: Option<String>,
    /// The client's secret, unless it authenticates by Basic or is public.
    #[schema(value_type = Option<String>)]
    client_secret: Option<Secret>,
    /// Scopes wanted, with a space between.
    scope: Option<String>,
}

/// Begin to connect a device (RFC 8628, 3.1)
///
/// The device shows the user code and asks for tokens with the device code until somebody has
/// decided.
#[utoipa::path(
    post,
    path = "/api/oauth/device_authorization",
    operation_id = "device_authorization",
    tag = "oauth",
    security((), ("client" = [])),
    request_body(content = Start, content_type = "application/x-www-form-urlencoded"),
    responses(
        (status = 200, body = DeviceAuthorization, description = "The codes"),
        (status = 400, body = OAuthError, description = "An error of RFC 6749, 5.2"),
        (status = 401, body = OAuthError, description = "`invalid_client`"),
    )
)]
pub(super) async fn start(State(state): State<AppState>, request: Request) -> Response {
    let headers = request.headers().clone();
    let result = async {
        let start: Start = read(request).await?;
        let client = authenticated(&state, &headers, start.client_id, start.client_secret).await?;
        let started = oauth::start_device(&state, client, start.scope).await;
        started.map(|started| wire::device(started, &state)).map_err(Refusal::Token)
    };
    answer(result.await, &headers)
}
