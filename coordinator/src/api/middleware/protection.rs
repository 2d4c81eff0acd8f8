//! Security headers for browsers, on every answer.

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use http::HeaderValue;
use http::header::{CONTENT_TYPE, HeaderName, STRICT_TRANSPORT_SECURITY, X_CONTENT_TYPE_OPTIONS};
use url::{Host, Url};

use crate::config::Api;

const PERMISSIONS_POLICY: HeaderName = HeaderName::from_static("permissions-policy");

/// Our pages use none of these, so injected content cannot use them either.
const NO_PERMISSIONS: HeaderValue = HeaderValue::from_static(
    "accelerometer=(), autoplay=(), camera=(), display-capture=(), encrypted-media=(), \
     fullscreen=(), geolocation=(), gyroscope=(), hid=(), magnetometer=(), microphone=(), midi=(), \
     payment=(), publickey-credentials-create=(), publickey-credentials-get=(), \
     screen-wake-lock=(), serial=(), usb=(), web-share=(), xr-spatial-tracking=()",
);

/// Headers of every answer of a listener.
#[derive(Debug, Clone)]
pub(in crate::api) struct Protection {
    hsts: Option<HeaderValue>,
}

impl Protection {
    /// As configured. No HSTS (RFC 6797) for `localhost` or an address: it applies to every port of
    /// the name, and would break plain http for anything else developed on this machine.
    pub(in crate::api) fn of(api: &Api) -> Self {
        let url = Url::parse(&api.public_url()).ok();
        let named = url.is_some_and(|url| match url.host() {
            Some(Host::Domain(name)) => name != "localhost" && !name.ends_with(".localhost"),
            _ => false,
        });
        let wanted = named && api.hsts_s > 0;
        let value = || HeaderValue::try_from(format!("max-age={}", api.hsts_s)).ok();
        Self { hsts: wanted.then(value).flatten() }
    }
}

/// Middleware for every answer, refusals included.
pub(in crate::api) async fn protect(
    State(protection): State<Protection>,
    request: Request,
    next: Next,
) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if let Some(hsts) = protection.hsts {
        headers.insert(STRICT_TRANSPORT_SECURITY, hsts);
    }
    let is_page = |kind: &HeaderValue| kind.as_bytes().starts_with(b"text/html");
    if headers.get(CONTENT_TYPE).is_some_and(is_page) {
        headers.insert(PERMISSIONS_POLICY, NO_PERMISSIONS);
    }
    response
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use http::Request;

    use super::*;
    use crate::testing::World;

    const PATHS: [&str; 6] = ["/login", "/docs", "/api/openapi.json", "/health", "/nowhere", "/"];

    #[tokio::test]
    async fn every_answer_has_security_headers_and_pages_a_permissions_policy() {
        let world = World::new();
        let mut pages = 0;
        for path in PATHS.into_iter().chain(["/api/deploy/apps", "/api/auth/me"]) {
            let answer = world.send(Request::get(path).body(Body::empty()).unwrap()).await;
            assert_eq!(answer.header("x-content-type-options"), "nosniff", "{path}: {answer:?}");
            let hsts = answer.header("strict-transport-security");
            assert_eq!(hsts, "max-age=31536000", "{path}: {answer:?}");
            let is_page = answer.header("content-type").starts_with("text/html");
            let told = answer.headers.get("permissions-policy");
            assert_eq!(told.is_some(), is_page, "{path}: {answer:?}");
            pages += u32::from(is_page);
        }
        assert!(pages >= 2);
    }

    #[test]
    fn hsts_is_as_configured_and_never_sent_for_loopback() {
        let api =
            |url: &str, hsts_s| Api { public_url: Some(url.to_owned()), hsts_s, ..Api::default() };
        let told = |api: &Api| Protection::of(api).hsts;
        let named = api("https://api.example.com", 600);
        assert_eq!(told(&named).unwrap(), "max-age=600");
        for quiet in [
            Api::default(),
            api("https://api.example.com", 0),
            api("https://localhost:8443", 600),
            api("https://buddo.localhost", 600),
            api("https://127.0.0.1:8443", 600),
            api("https://[::1]:8443", 600),
        ] {
            assert_eq!(told(&quiet), None, "{quiet:?}");
        }
    }
}
