//! `/api/oauth/*` and the server's metadata.

mod apps;
mod device;
mod metadata;
mod token;
mod wire;

use axum::routing::{delete, get, post};
use axum::{Router, middleware};

use super::pages::{authorize, device as device_page};
use super::rate_limit::{Limit, by_address};
use crate::state::AppState;

/// The OAuth endpoints. None of them answers to other origins' scripts (CORS).
pub fn routes(state: &AppState) -> Router<AppState> {
    let limit = |limit| middleware::from_fn_with_state((state.clone(), limit), by_address);
    let app = get(apps::show)
        .route_layer(limit(Limit::Public))
        .merge(delete(apps::remove).patch(apps::edit));
    let page = get(device_page::show).post(device_page::decide);
    Router::new()
        .route("/api/oauth/apps", post(apps::create))
        .route("/api/oauth/apps/{client_id}", app)
        .route("/api/oauth/apps/{client_id}/secret", post(apps::rotate))
        .route("/api/oauth/my-apps", get(apps::mine))
        .route("/api/oauth/authorize", get(authorize::show).route_layer(limit(Limit::Public)))
        .route(
            "/api/oauth/authorize/login",
            post(authorize::log_in).route_layer(limit(Limit::Login)),
        )
        .route(
            "/api/oauth/authorize/consent",
            post(authorize::decide).route_layer(limit(Limit::Public)),
        )
        .route("/device", page.route_layer(limit(Limit::Public)))
        .route("/device/login", post(device_page::log_in).route_layer(limit(Limit::Login)))
        .route(
            "/api/oauth/device_authorization",
            post(device::start).route_layer(limit(Limit::Token)),
        )
        .route("/api/oauth/token", post(token::token).route_layer(limit(Limit::Token)))
        .route("/api/oauth/revoke", post(token::revoke).route_layer(limit(Limit::Token)))
        .route("/api/oauth/introspect", post(token::introspect).route_layer(limit(Limit::Token)))
        .route("/.well-known/oauth-authorization-server", get(metadata::show))
}
