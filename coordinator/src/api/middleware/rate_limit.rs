//! Rate limits: which key a request counts against, and the headers that say what is left.
//!
//! Headers follow draft-ietf-httpapi-ratelimit-headers: `RateLimit-Policy: "default";q=30;w=60`
//! and `RateLimit: "default";r=29;t=42`, on every answer of a limited endpoint.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use axum::extract::{ConnectInfo, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use http::header::{HeaderName, HeaderValue, RETRY_AFTER};
use http::{Extensions, HeaderMap};

use crate::api::problem::{self, ApiError};
use crate::limits::{Key, Limit, Limiters, RateLimitStatus};
use crate::state::AppState;

/// Counts one request. `Ok`: it may proceed, and its answer needs [`stamp`]. `Err`: the 429,
/// headers included.
pub fn check(limiters: &Limiters, limit: Limit, key: Key) -> Result<RateLimitStatus, ApiError> {
    limiters.check(limit, key).map_err(refusal)
}

/// Runs a rate-limited request: its answer, success or failure, says what is left.
pub async fn limited<F>(limiters: &Limiters, limit: Limit, key: Key, request: F) -> Response
where
    F: Future<Output = Response>,
{
    match check(limiters, limit, key) {
        Ok(status) => stamp(status, request.await),
        Err(refusal) => refusal.into_response(),
    }
}

/// Sets the rate limit headers.
#[must_use]
pub fn stamp(status: RateLimitStatus, mut response: Response) -> Response {
    for (name, value) in headers(status) {
        response.headers_mut().insert(name, value);
    }
    response
}

fn headers(status: RateLimitStatus) -> [(HeaderName, HeaderValue); 2] {
    let (quota, window) = (status.policy().quota(), status.policy().window().as_secs());
    let policy = format!("\"default\";q={quota};w={window}");
    let left = format!("\"default\";r={};t={}", status.remaining(), status.wait());
    [
        (HeaderName::from_static("ratelimit-policy"), header(&policy)),
        (HeaderName::from_static("ratelimit"), header(&left)),
    ]
}

fn refusal(status: RateLimitStatus) -> ApiError {
    let (quota, window) = (status.policy().quota(), status.policy().window().as_secs());
    let wait = status.wait().max(1);
    let detail = format!(
        "more than {quota} requests in {window} seconds; wait {wait} seconds, then try again"
    );
    let error = ApiError::new(problem::RATE_LIMITED, detail)
        .with_header(RETRY_AFTER, HeaderValue::from(wait));
    headers(status).into_iter().fold(error, |error, (name, value)| error.with_header(name, value))
}

fn header(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).unwrap_or(HeaderValue::from_static(""))
}

/// Middleware: counts a request against its client's address.
pub async fn by_address(
    State((state, limit)): State<(AppState, Limit)>,
    request: Request,
    next: Next,
) -> Response {
    let proxies = &state.config.api.trusted_proxies;
    let address = client_address(request.extensions(), request.headers(), proxies);
    limited(&state.limiters, limit, Key::address(address), next.run(request)).await
}

/// The client's address: the connection's peer, or, if the peer is a trusted proxy, the last
/// address in `X-Forwarded-For` that is not a trusted proxy. Entries further left were written by
/// clients we do not trust.
pub fn client_address(
    extensions: &Extensions,
    headers: &HeaderMap,
    trusted_proxies: &[IpAddr],
) -> IpAddr {
    // Without a peer (every listener sets one) all share one address: limited, never unlimited.
    let peer = extensions
        .get::<ConnectInfo<SocketAddr>>()
        .map_or(IpAddr::V6(Ipv6Addr::UNSPECIFIED), |ConnectInfo(peer)| peer.ip().to_canonical());
    let trusted = |address: IpAddr| trusted_proxies.iter().any(|t| t.to_canonical() == address);
    if !trusted(peer) {
        return peer;
    }
    let values: Vec<&HeaderValue> = headers.get_all("x-forwarded-for").iter().collect();
    let hops = values.iter().rev().flat_map(|value| value.to_str().unwrap_or("").rsplit(','));
    let mut nearest = peer;
    for hop in hops {
        match hop.trim().parse::<IpAddr>() {
            Ok(address) if trusted(address.to_canonical()) => nearest = address.to_canonical(),
            Ok(address) => return address.to_canonical(),
            Err(_) => return nearest,
        }
    }
    nearest
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::limits::config::RateLimits;

    fn limiters() -> Limiters {
        Limiters::new(&RateLimits::default())
    }

    fn local() -> Key {
        Key::address(IpAddr::from([127, 0, 0, 1]))
    }

    #[tokio::test(start_paused = true)]
    async fn every_answer_states_the_remaining_quota() {
        let limiters = limiters();
        let answer = || async { http::StatusCode::NO_CONTENT.into_response() };
        let response = limited(&limiters, Limit::Reads, local(), answer()).await;
        assert_eq!(response.headers()["ratelimit-policy"], r#""default";q=30;w=60"#);
        assert_eq!(response.headers()["ratelimit"], r#""default";r=29;t=60"#);
        for _ in 0..29 {
            limited(&limiters, Limit::Reads, local(), answer()).await;
        }
        tokio::time::advance(Duration::from_millis(18_500)).await;
        let refused = limited(&limiters, Limit::Reads, local(), answer()).await;
        assert_eq!(refused.status(), 429);
        assert_eq!(refused.headers()["retry-after"], "42");
        assert_eq!(refused.headers()["ratelimit-policy"], r#""default";q=30;w=60"#);
        assert_eq!(refused.headers()["ratelimit"], r#""default";r=0;t=42"#);
        tokio::time::advance(Duration::from_secs(42)).await;
        assert_eq!(limited(&limiters, Limit::Reads, local(), answer()).await.status(), 204);
    }

    #[test]
    fn forwarded_addresses_are_used_only_from_trusted_proxies() {
        let address = |peer: &str, forwarded: &[&str], trusted: &[&str]| {
            let mut extensions = Extensions::new();
            extensions.insert(ConnectInfo(SocketAddr::new(peer.parse().unwrap(), 1)));
            let mut headers = HeaderMap::new();
            for value in forwarded {
                headers.append("x-forwarded-for", HeaderValue::from_str(value).unwrap());
            }
            let trusted: Vec<IpAddr> = trusted.iter().map(|text| text.parse().unwrap()).collect();
            client_address(&extensions, &headers, &trusted).to_string()
        };
        assert_eq!(address("192.0.2.1", &["10.0.0.9"], &[]), "192.0.2.1");
        assert_eq!(address("127.0.0.1", &["192.0.2.1"], &["127.0.0.1"]), "192.0.2.1");
        // The client wrote 10.9.9.9 itself.
        let spoofed = ["10.9.9.9, 192.0.2.1"];
        assert_eq!(address("127.0.0.1", &spoofed, &["127.0.0.1"]), "192.0.2.1");
        let split = ["10.9.9.9", "192.0.2.1", "10.0.0.2"];
        assert_eq!(address("127.0.0.1", &split, &["127.0.0.1", "10.0.0.2"]), "192.0.2.1");
        assert_eq!(address("127.0.0.1", &["192.0.2.1, x"], &["127.0.0.1"]), "127.0.0.1");
        assert_eq!(address("127.0.0.1", &[], &["127.0.0.1"]), "127.0.0.1");
    }
}
