//! Which other origins' scripts may use the API from a browser (CORS): none, unless the
//! configuration names them. The pages on which people decide are always excluded: their answers
//! are for their own origin only (RFC 9700, 4.16; OAuth 2.1, 3.1).

use std::time::Duration;

use http::header::{AUTHORIZATION, CONTENT_TYPE, LINK, RETRY_AFTER};
use http::request::Parts;
use http::{HeaderName, HeaderValue, Method};
use tower_http::cors::{AllowOrigin, CorsLayer};

/// How long a browser may cache a preflight answer.
const REMEMBERED: Duration = Duration::from_hours(1);

/// Lets scripts of `origins` send and read what a program could; `None`: no origins. Cookies are
/// excluded: authorization is by token.
pub(in crate::api) fn layer(origins: &[String]) -> Option<CorsLayer> {
    if origins.is_empty() {
        return None;
    }
    let origins = origins.to_vec();
    let allowed = move |origin: &HeaderValue, request: &Parts| {
        is_for_programs(request.uri.path())
            && origins.iter().any(|one| one.as_bytes() == origin.as_bytes())
    };
    let own = |name| HeaderName::from_static(name);
    let layer = CorsLayer::new()
        .allow_origin(AllowOrigin::predicate(allowed))
        .allow_methods([Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE])
        .allow_headers([AUTHORIZATION, CONTENT_TYPE, own("idempotency-key"), own("x-request-id")])
        .expose_headers([
            LINK,
            RETRY_AFTER,
            own("ratelimit"),
            own("ratelimit-policy"),
            own("x-request-id"),
        ])
        .max_age(REMEMBERED);
    Some(layer)
}

fn is_for_programs(path: &str) -> bool {
    let api = path.starts_with("/api/") || path.starts_with("/.well-known/");
    api && !path.starts_with("/api/oauth/authorize")
}
