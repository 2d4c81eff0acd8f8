//! Tokens: refreshed in time, once, and never sent where they do not belong; and the trust in
//! the server they are sent to.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use wiremock::matchers::{body_string_contains, header, path};
use wiremock::{Mock, Request, Respond, ResponseTemplate};

use crate::common::*;

/// A token endpoint with rotation: each refresh token works once, and a second use of one ends
/// the session (RFC 9700, 4.14.2).
#[derive(Clone, Default)]
struct Rotation {
    used: Arc<AtomicU32>,
}

impl Respond for Rotation {
    fn respond(&self, request: &Request) -> ResponseTemplate {
        let current = self.used.load(Ordering::SeqCst) + 1;
        let body = String::from_utf8_lossy(&request.body).into_owned();
        if body.contains(&format!("refresh_token=canary-refresh-{current}&"))
            || body.ends_with(&format!("refresh_token=canary-refresh-{current}"))
        {
            self.used.fetch_add(1, Ordering::SeqCst);
            return tokens(current + 1, 3600);
        }
        self.used.store(1_000_000, Ordering::SeqCst);
        let error = serde_json::json!({ "error": "invalid_grant", "error_description": "reused" });
        ResponseTemplate::new(400).set_body_json(error)
    }
}

async fn rotating(expires_in: i64) -> (World, Rotation) {
    let world = World::new().await;
    world.answer_login(expires_in).await;
    let rotation = Rotation::default();
    Mock::given(path("/api/oauth/token"))
        .and(body_string_contains("grant_type=refresh_token"))
        .respond_with(rotation.clone())
        .with_priority(1)
        .mount(&world.api)
        .await;
    let ran = world.buddo_with(&["login"], "you@example.com\ncanary-password\n").await;
    assert_eq!(ran.code, 0, "{ran}");
    Mock::given(path(APPS))
        .and(header("authorization", "Bearer canary-access-2"))
        .respond_with(listed("running"))
        .mount(&world.api)
        .await;
    let stale = problem(401, "invalid_token", "the access token has ended");
    Mock::given(path(APPS)).respond_with(stale).with_priority(9).mount(&world.api).await;
    (world, rotation)
}

#[tokio::test]
async fn an_expired_token_is_refreshed_before_use() {
    let (world, rotation) = rotating(0).await;
    let ran = world.buddo(&["list"]).await;
    assert_eq!(ran.code, 0, "{ran}");
    assert_eq!(rotation.used.load(Ordering::SeqCst), 1);
    assert_eq!(world.requests("GET", APPS).await.len(), 1);
    assert_eq!(world.buddo(&["list"]).await.code, 0, "the new pair was stored");
    assert_eq!(rotation.used.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_refused_token_is_refreshed_and_the_request_repeated() {
    let (world, rotation) = rotating(3600).await;
    let ran = world.buddo(&["list"]).await;
    assert_eq!(ran.code, 0, "{ran}");
    assert_eq!(rotation.used.load(Ordering::SeqCst), 1);
    assert_eq!(world.requests("GET", APPS).await.len(), 2);
}

#[tokio::test]
async fn concurrent_commands_use_one_refresh_token() {
    let (world, rotation) = rotating(0).await;
    let children: Vec<_> = (0..8).map(|_| world.command(&["list"]).spawn().unwrap()).collect();
    for child in children {
        let ran = finish(child).await;
        assert_eq!(ran.code, 0, "{ran}");
    }
    assert_eq!(rotation.used.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_lost_rotation_falls_back_to_the_stored_login() {
    let (world, rotation) = rotating(0).await;
    // A refresh whose answer never reached the file: the stored token has been used.
    rotation.used.store(7, Ordering::SeqCst);
    Mock::given(path(APPS))
        .and(header("authorization", "Bearer canary-access-1"))
        .respond_with(listed("running"))
        .with_priority(1)
        .mount(&world.api)
        .await;
    let ran = world.buddo(&["list"]).await;
    assert_eq!(ran.code, 0, "{ran}");
}

#[tokio::test]
async fn an_expired_login_asks_for_a_new_one() {
    let world = World::logged_in().await;
    let stale = problem(401, "invalid_token", "the access token has ended");
    world.mock("GET", APPS, stale).await;
    let error = serde_json::json!({ "error": "invalid_grant", "error_description": "revoked" });
    Mock::given(path("/api/oauth/token"))
        .respond_with(ResponseTemplate::new(400).set_body_json(error))
        .with_priority(1)
        .mount(&world.api)
        .await;
    let ran = world.buddo(&["list"]).await;
    assert_eq!(ran.code, 3, "{ran}");
    assert!(ran.err.ends_with("hint: log in with: buddo login\n"), "{ran}");
}

#[tokio::test]
async fn a_session_is_sent_only_to_its_own_api() {
    let world = World::logged_in().await;
    let other = World::new().await;
    let ran = world.buddo(&["list", "--api", &other.api.uri()]).await;
    assert_eq!(ran.code, 3, "{ran}");
    let redirect = ResponseTemplate::new(307).insert_header("location", other.api.uri().as_str());
    world.mock("GET", APPS, redirect).await;
    let ran = world.buddo(&["list"]).await;
    assert_eq!(ran.code, 1, "{ran}");
    assert!(ran.err.contains("redirects to"), "{ran}");
    assert!(other.api.received_requests().await.unwrap().is_empty());
    let plain = world.buddo(&["list", "--api", "http://api.example"]).await;
    assert_eq!(plain.code, 2, "{plain}");
    assert!(plain.err.contains("is not https"), "{plain}");
}

#[tokio::test]
async fn a_create_is_retried_with_one_idempotency_key() {
    let world = World::logged_in().await;
    Mock::given(wiremock::matchers::method("POST"))
        .and(path(APPS))
        .respond_with(ResponseTemplate::new(503))
        .up_to_n_times(2)
        .with_priority(1)
        .mount(&world.api)
        .await;
    world.mock("POST", APPS, enveloped(201, "pending")).await;
    let mut args = CREATE.to_vec();
    args.push("--no-follow");
    let ran = world.buddo(&args).await;
    assert_eq!(ran.code, 0, "{ran}");
    let sent = world.requests("POST", APPS).await;
    let keys: Vec<_> = sent.iter().map(|r| r.headers["idempotency-key"].clone()).collect();
    assert_eq!(keys.len(), 3);
    assert!(keys.iter().all(|key| *key == keys[0]), "{keys:?}");
    assert_eq!(world.buddo(&args).await.code, 0);
    let last = world.requests("POST", APPS).await.pop().unwrap();
    assert_ne!(last.headers["idempotency-key"], keys[0], "another create has another key");
}

#[tokio::test]
async fn honours_retry_after_and_does_not_retry_without_capacity() {
    let world = World::logged_in().await;
    let busy = problem(503, "overloaded", "busy").insert_header("retry-after", "3");
    Mock::given(path(APPS))
        .respond_with(busy)
        .up_to_n_times(1)
        .with_priority(1)
        .mount(&world.api)
        .await;
    world.mock("GET", APPS, listed("running")).await;
    let before = std::time::Instant::now();
    assert_eq!(world.buddo(&["list"]).await.code, 0);
    assert!(before.elapsed() >= std::time::Duration::from_secs(3));

    world.mock("POST", APPS, problem(503, "no_capacity", "no host has room")).await;
    let ran = world.buddo(&CREATE).await;
    assert_eq!((ran.code, ran.err.as_str()), (7, "error: no host has room\n"));
    assert_eq!(world.requests("POST", APPS).await.len(), 1);
}

#[tokio::test]
async fn a_stop_is_never_retried() {
    let world = World::logged_in().await;
    world.mock("POST", &app("/stop"), ResponseTemplate::new(503)).await;
    let ran = world.buddo(&["deploy", "stop", ID]).await;
    assert_eq!(ran.code, 7, "{ran}");
    assert_eq!(world.requests("POST", &app("/stop")).await.len(), 1);
}

/// An HTTPS server with a certificate of its own authority, that answers every request with 404.
async fn https() -> (String, String) {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut ca = rcgen::CertificateParams::new(Vec::new()).unwrap();
    ca.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let ca_key = rcgen::KeyPair::generate().unwrap();
    let ca_pem = ca.self_signed(&ca_key).unwrap().pem();
    let issuer = rcgen::Issuer::new(ca, ca_key);
    let key = rcgen::KeyPair::generate().unwrap();
    let leaf = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let leaf = leaf.signed_by(&key, &issuer).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![leaf.der().clone()], key)
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(mut stream) = acceptor.accept(stream).await else { return };
                let _ = stream.read(&mut [0; 4096]).await;
                let answer =
                    "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
                let _ = stream.write_all(answer.as_bytes()).await;
                let _ = stream.shutdown().await;
            });
        }
    });
    (format!("https://localhost:{port}"), ca_pem)
}

#[tokio::test]
async fn certificates_are_verified_and_a_custom_ca_can_be_trusted() {
    let world = World::new().await;
    let (api, ca_pem) = https().await;
    let ca = world.home.path().join("ca.pem");
    std::fs::write(&ca, ca_pem).unwrap();
    let ca = ca.to_str().unwrap();

    let input = "you@example.com\ncanary-password\n";
    let distrusted = world.buddo_with(&["login", "--api", &api], input).await;
    assert_eq!(distrusted.code, 7, "{distrusted}");
    assert!(distrusted.err.contains("cannot trust the certificate"), "{distrusted}");
    assert!(distrusted.err.contains("--ca"), "{distrusted}");

    let trusted = world.buddo_with(&["login", "--api", &api, "--ca", ca], input).await;
    assert!(trusted.err.contains("answered 404"), "{trusted}");

    let empty = world.home.path().join("empty.pem");
    std::fs::write(&empty, "nothing").unwrap();
    let refused =
        world.buddo_with(&["login", "--api", &api, "--ca", empty.to_str().unwrap()], input).await;
    assert_eq!(refused.code, 2, "{refused}");
}
