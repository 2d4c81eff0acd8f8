//! `/api/oauth/*` and the server's metadata.

mod app_form;
mod apps;
mod device;
mod metadata;
mod token;
mod wire;

use axum::middleware;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::api::middleware::rate_limit::by_address;
use crate::api::pages::{authorize, device as device_page};
use crate::api::state::ApiState;
use crate::limits::Limit;
use crate::state::AppState;

/// The OAuth endpoints. Those that people decide on never answer to other origins' scripts (CORS).
pub fn routes(state: &AppState) -> OpenApiRouter<ApiState> {
    let limit = |limit| middleware::from_fn_with_state((state.clone(), limit), by_address);
    let (public, password, token) =
        (limit(Limit::Public), limit(Limit::Login), limit(Limit::Token));
    let people = OpenApiRouter::new()
        .routes(routes!(authorize::show))
        .routes(routes!(authorize::decide))
        .routes(routes!(device_page::show, device_page::decide))
        .routes(routes!(apps::show))
        .routes(routes!(metadata::show))
        .route_layer(public);
    let passwords = OpenApiRouter::new()
        .routes(routes!(authorize::log_in))
        .routes(routes!(device_page::log_in))
        .route_layer(password);
    let devices =
        OpenApiRouter::new().routes(routes!(device::start)).route_layer(limit(Limit::DeviceCodes));
    let programs = OpenApiRouter::new()
        .routes(routes!(token::token))
        .routes(routes!(token::revoke))
        .routes(routes!(token::introspect))
        .route_layer(token);
    let owners = OpenApiRouter::new()
        .routes(routes!(apps::remove, apps::edit))
        .routes(routes!(apps::rotate))
        .routes(routes!(apps::mine));
    OpenApiRouter::new()
        .routes(routes!(apps::create))
        .merge(people)
        .merge(passwords)
        .merge(devices)
        .merge(programs)
        .merge(owners)
}
