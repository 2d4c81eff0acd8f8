//! Every route, and the middleware that each request passes.
//!
//! ```text
//! request id ► security headers ► trace ► count ► id into problems ► panic → 500
//!   ► CORS ► whole body ► concurrency slot, deadline ► gate ► handler
//! ```

use std::any::Any;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::{DefaultBodyLimit, MatchedPath, Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use axum::{Extension, Router};
use http::header::RETRY_AFTER;
use http::{HeaderName, HeaderValue};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tower::ServiceBuilder;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::request_id::{MakeRequestUuid, PropagateRequestIdLayer, SetRequestIdLayer};
use tower_http::trace::TraceLayer;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::openapi::{self, Document};
use super::pages;
use super::pages::docs;
use super::problem::{self, ApiError};
use crate::api::extract::{json, principal};
use crate::api::middleware::arrival::{BodyBudget, arrive};
use crate::api::middleware::cors;
use crate::api::middleware::protection::{Protection, protect};
use crate::api::middleware::rate_limit::by_address;
use crate::api::middleware::traced::{self, REQUEST_ID};
use crate::api::routes::{
    account, admin, auth, connections, deploy, health, join, keys, oauth, orgs, renew, teams,
};
use crate::api::state::ApiState;
use crate::limits::Limit;
use crate::process::metrics::Metrics;
use crate::state::AppState;

/// How long a request waits for one of the slots of concurrent requests.
const PATIENCE: Duration = Duration::from_secs(5);
/// From then until the head of its answer.
const DEADLINE: Duration = Duration::from_secs(30);

/// The whole API, and its OpenAPI document.
pub fn build(state: ApiState) -> Router {
    let (routes, _) = operations(&state.services).split_for_parts();
    let described = state.services.clone();
    // Built on demand: an unread document needs no memory.
    let api = move || operations(&described).into_openapi();
    let document = Arc::new(Document::new(api, state.services.config.api.public_url()));
    with_layers(guarded(routes.layer(Extension(document)), &state.services), state)
}

/// Every operation, with its OpenAPI description.
fn operations(state: &AppState) -> OpenApiRouter<ApiState> {
    let public = middleware::from_fn_with_state((state.clone(), Limit::Public), by_address);
    let described = OpenApiRouter::new()
        .routes(routes!(openapi::show))
        .routes(routes!(docs::show))
        .routes(routes!(docs::errors))
        .route_layer(public);
    OpenApiRouter::new()
        .merge(described)
        .merge(health::routes())
        .merge(auth::routes(state))
        .merge(account::routes(state))
        .merge(oauth::routes(state))
        .merge(connections::routes())
        .merge(orgs::routes())
        .merge(teams::routes())
        .merge(keys::routes())
        .merge(pages::routes(state))
        .merge(deploy::routes())
        .merge(admin::routes(state))
}

/// What the listener for hosts serves.
pub fn build_for_hosts(state: ApiState) -> Router {
    let routes = join::routes(&state.services).merge(renew::routes(&state.services));
    with_layers(guarded(routes, &state.services), state)
}

/// Adds the gate, which admits only requests that the route's rule allows.
fn guarded(routes: Router<ApiState>, state: &AppState) -> Router<ApiState> {
    routes.route_layer(middleware::from_fn_with_state(state.clone(), principal::gate))
}

/// The middleware of every route.
fn with_layers(routes: Router<ApiState>, state: ApiState) -> Router {
    let services = &state.services;
    let permits = Arc::new(Semaphore::new(services.config.limits.concurrent_requests));
    let request_id = HeaderName::from_static(REQUEST_ID);
    routes
        .fallback(no_route)
        .method_not_allowed_fallback(no_method)
        .layer(
            ServiceBuilder::new()
                .layer(middleware::from_fn(traced::keep_sound_ids))
                .layer(SetRequestIdLayer::new(request_id.clone(), MakeRequestUuid))
                .layer(PropagateRequestIdLayer::new(request_id))
                .layer(middleware::from_fn_with_state(
                    Protection::of(&services.config.api),
                    protect,
                ))
                .layer(
                    TraceLayer::new_for_http()
                        .make_span_with(traced::span)
                        .on_response(traced::answered())
                        // Each failure is logged where it happens, with its cause.
                        .on_failure(()),
                )
                .layer(middleware::from_fn_with_state(services.metrics.clone(), count))
                .layer(middleware::from_fn_with_state(services.clone(), problem::stamp))
                .layer(CatchPanicLayer::custom(panicked))
                .option_layer(cors::layer(&services.config.api.cors_origins))
                .layer(middleware::from_fn_with_state(BodyBudget::default(), arrive))
                .layer(middleware::from_fn_with_state(permits, admit))
                .layer(DefaultBodyLimit::max(json::MAX_BODY)),
        )
        .with_state(state)
}

/// Counts a request under its route pattern: a made-up path does not create a new series.
async fn count(State(metrics): State<Metrics>, request: Request, next: Next) -> Response {
    let (began, _present) = (Instant::now(), metrics.in_flight());
    let route = request.extensions().get::<MatchedPath>().cloned();
    let method = request.method().clone();
    let response = next.run(request).await;
    let route = route.as_ref().map_or("none", MatchedPath::as_str);
    metrics.answered(route, &method, response.status().as_u16(), began.elapsed());
    response
}

async fn no_route() -> ApiError {
    ApiError::new(problem::NOT_FOUND, "there is no such path; check its spelling")
}

async fn no_method() -> ApiError {
    ApiError::new(
        problem::METHOD_NOT_ALLOWED,
        "the path has no such method; the Allow header lists those it has",
    )
}

/// Limits concurrent requests; one more waits for a slot, but not for ever.
async fn admit(State(permits): State<Arc<Semaphore>>, request: Request, next: Next) -> Response {
    // The liveness probe matters most when all slots are taken.
    if request.uri().path() == "/health" {
        return next.run(request).await;
    }
    let Ok(Ok(_permit)) = timeout(PATIENCE, permits.acquire_owned()).await else {
        let detail = "too many requests are being served at once; try again in 5 seconds";
        return ApiError::new(problem::OVERLOADED, detail)
            .with_header(RETRY_AFTER, HeaderValue::from_static("5"))
            .into_response();
    };
    timeout(DEADLINE, next.run(request)).await.unwrap_or_else(|_| {
        let detail = format!(
            "the request was not answered within {} seconds; try again later",
            DEADLINE.as_secs()
        );
        ApiError::new(problem::REQUEST_TIMEOUT, detail).into_response()
    })
}

#[expect(clippy::needless_pass_by_value, reason = "the signature that the layer wants")]
fn panicked(panic: Box<dyn Any + Send + 'static>) -> Response {
    let text = panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied());
    tracing::error!(panic = text.unwrap_or("without a message"), "a handler panicked");
    ApiError::new(
        problem::INTERNAL,
        "the server could not do this; try again, and report the request_id",
    )
    .into_response()
}

#[cfg(test)]
mod tests {
    use axum::body::{Body, Bytes};
    use futures_util::stream;
    use http::StatusCode;
    use http::header::CONTENT_TYPE;
    use tower::ServiceExt as _;

    use super::*;
    use crate::testing::World;

    fn slow() -> Request {
        let body = Body::from_stream(stream::pending::<Result<Bytes, std::io::Error>>());
        Request::post("/api/auth/verify-email")
            .header(CONTENT_TYPE, "application/json")
            .body(body)
            .unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_without_a_slot_gets_503_and_health_still_answers() {
        let world = World::with(|config| config.limits.concurrent_requests = 1);
        let forever = axum::routing::get(std::future::pending::<()>);
        let routes = health::routes().split_for_parts().0.route("/forever", forever);
        let router = with_layers(routes, world.api_state());
        let ask = |path| router.clone().oneshot(Request::get(path).body(Body::empty()).unwrap());
        let started = tokio::time::Instant::now();
        let (slow, (refused, alive)) = tokio::join!(ask("/forever"), async {
            let refused = ask("/readyz").await.unwrap();
            assert!(started.elapsed() < DEADLINE);
            (refused, ask("/health").await.unwrap())
        });
        assert_eq!(
            (refused.status(), &refused.headers()[RETRY_AFTER]),
            (StatusCode::SERVICE_UNAVAILABLE, &HeaderValue::from_static("5"))
        );
        assert_eq!(alive.status(), StatusCode::OK);
        assert_eq!(slow.unwrap().status(), StatusCode::REQUEST_TIMEOUT);
    }

    /// Bodies that never end take no slot.
    #[tokio::test(start_paused = true)]
    async fn fm_49_slow_bodies_take_no_request_slots_and_time_out() {
        let world = World::with(|config| config.limits.concurrent_requests = 1);
        let router = build(world.api_state());
        let crowd = (0..100).map(|_| router.clone().oneshot(slow()));
        let (crowd, served) = tokio::join!(futures_util::future::join_all(crowd), async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            // It takes a slot, and must not wait for anything outside the runtime: paused time would jump ahead meanwhile.
            let request = Request::get("/api/deploy/tiers").body(Body::empty()).unwrap();
            let began = tokio::time::Instant::now();
            let served = router.clone().oneshot(request).await.unwrap();
            assert!(began.elapsed() < Duration::from_secs(1));
            served
        });
        assert_eq!(served.status(), StatusCode::UNAUTHORIZED);
        for answer in crowd {
            assert_eq!(answer.unwrap().status(), StatusCode::REQUEST_TIMEOUT);
        }
    }
}
