//! Every route, and what each request passes on its way.
//!
//! ```text
//! request id ► trace ► id into problems ► panic → 500 ► concurrency ► deadline ► body limit ► handler
//! ```

use std::any::Any;
use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use http::HeaderName;
use tower::ServiceBuilder;
use tower::limit::GlobalConcurrencyLimitLayer;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::request_id::{MakeRequestUuid, PropagateRequestIdLayer, SetRequestIdLayer};
use tower_http::trace::TraceLayer;

use super::problem::{self, ApiError};
use super::{auth, deploy, health, join, json, oauth};
use crate::state::AppState;

/// From the first byte of a request's head to the head of its answer.
const DEADLINE: Duration = Duration::from_secs(30);

/// The whole API.
pub fn build(state: AppState) -> Router {
    let routes = Router::new()
        .merge(health::routes())
        .merge(auth::routes(&state))
        .merge(oauth::routes(&state))
        .merge(deploy::routes(&state));
    dress(routes, state)
}

/// What the listener for hosts serves.
pub fn build_for_hosts(state: AppState) -> Router {
    dress(join::routes(), state)
}

fn dress(routes: Router<AppState>, state: AppState) -> Router {
    let concurrent = state.config.limits.concurrent_requests;
    let request_id = HeaderName::from_static("x-request-id");
    routes
        .fallback(no_route)
        .method_not_allowed_fallback(no_method)
        .layer(
            ServiceBuilder::new()
                .layer(SetRequestIdLayer::new(request_id.clone(), MakeRequestUuid))
                .layer(PropagateRequestIdLayer::new(request_id))
                .layer(TraceLayer::new_for_http().make_span_with(span))
                .layer(middleware::from_fn(problem::stamp_request_id))
                .layer(CatchPanicLayer::custom(panicked))
                .layer(GlobalConcurrencyLimitLayer::new(concurrent))
                .layer(middleware::from_fn(deadline))
                .layer(DefaultBodyLimit::max(json::MAX_BODY)),
        )
        .with_state(state)
}

/// No query: it may hold a code or a token.
fn span(request: &Request) -> tracing::Span {
    let id = request.headers().get("x-request-id").and_then(|id| id.to_str().ok());
    tracing::info_span!(
        "request",
        method = %request.method(),
        path = request.uri().path(),
        id = id.unwrap_or_default(),
    )
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

async fn deadline(request: Request, next: Next) -> Response {
    tokio::time::timeout(DEADLINE, next.run(request)).await.unwrap_or_else(|_| {
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
