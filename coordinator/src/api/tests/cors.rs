//! Other origins' scripts: none by default, and never on the pages where people decide.

use axum::body::Body;
use http::Request;
use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_REQUEST_METHOD, ORIGIN,
};

use crate::testing::{Answer, World};

const OURS: &str = "https://console.example.com";

async fn ask(world: &World, method: &str, path: &str, origin: &str) -> Answer {
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(ORIGIN, origin)
        .header(ACCESS_CONTROL_REQUEST_METHOD, "GET");
    world.send(request.body(Body::empty()).unwrap()).await
}

fn allowed(answer: &Answer) -> Option<&str> {
    answer.headers.get(ACCESS_CONTROL_ALLOW_ORIGIN).map(|origin| origin.to_str().unwrap())
}

#[tokio::test]
async fn cors_is_off_by_default() {
    let world = World::new();
    for method in ["GET", "OPTIONS"] {
        let answer = ask(&world, method, "/api/deploy/tiers", OURS).await;
        assert_eq!(allowed(&answer), None, "{method}");
    }
}

#[tokio::test]
async fn only_a_configured_origin_is_allowed() {
    let world = World::with(|config| config.api.cors_origins = vec![OURS.to_owned()]);
    let path = "/api/deploy/tiers";
    for method in ["GET", "OPTIONS"] {
        assert_eq!(allowed(&ask(&world, method, path, OURS).await), Some(OURS), "{method}");
        let others =
            ["https://console.example.com.evil.example", "http://console.example.com", "null"];
        for other in others {
            assert_eq!(allowed(&ask(&world, method, path, other).await), None, "{other}");
        }
    }
    let preflight = ask(&world, "OPTIONS", path, OURS).await;
    assert_eq!(preflight.status, 200);
    let headers = preflight.header(ACCESS_CONTROL_ALLOW_HEADERS.as_str());
    assert!(headers.contains("authorization") && headers.contains("idempotency-key"), "{headers}");
    assert!(!preflight.headers.contains_key(ACCESS_CONTROL_ALLOW_CREDENTIALS));
}

#[tokio::test]
async fn rfc_9700_4_16_login_and_consent_pages_never_allow_cors() {
    let world = World::with(|config| config.api.cors_origins = vec![OURS.to_owned()]);
    for path in [
        "/api/oauth/authorize",
        "/api/oauth/authorize/login",
        "/api/oauth/authorize/consent",
        "/device",
        "/device/login",
        "/reset-password",
        "/docs",
    ] {
        for method in ["GET", "POST", "OPTIONS"] {
            assert_eq!(allowed(&ask(&world, method, path, OURS).await), None, "{method} {path}");
        }
    }
}
