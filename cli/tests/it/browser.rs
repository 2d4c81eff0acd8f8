//! `buddo login --web` and `--device`, and sessions that came of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::Child;
use wiremock::matchers::{body_string_contains, header, method, path};
use wiremock::{Mock, Request, Respond, ResponseTemplate};

use crate::common::*;

const TOKEN: &str = "/api/oauth/token";

/// What the API answers to what goes on behind the browser.
async fn world() -> World {
    let world = World::new().await;
    let metadata = json!({ "issuer": world.api.uri() });
    let at = "/.well-known/oauth-authorization-server";
    world.mock("GET", at, ResponseTemplate::new(200).set_body_json(metadata)).await;
    let profile = json!({ "user": { "id": ACCOUNT, "username": "myoperator", "tier": "free",
        "email_verified": true, "inserted_at": "2026-05-21T10:00:00Z" } });
    Mock::given(method("GET"))
        .and(path("/api/external/user"))
        .and(header("authorization", "Bearer canary-access-1"))
        .respond_with(ResponseTemplate::new(200).set_body_json(profile))
        .mount(&world.api)
        .await;
    world
}

fn refusal(error: &str) -> ResponseTemplate {
    let body = json!({ "error": error, "error_description": "in the API's words" });
    ResponseTemplate::new(400).set_body_json(body)
}

/// Reads standard error up to a line that contains `pattern`.
async fn said(child: &mut Child, pattern: &str) -> String {
    let mut lines = BufReader::new(child.stderr.as_mut().unwrap()).lines();
    let wait = async {
        while let Some(line) = lines.next_line().await.unwrap() {
            if line.contains(pattern) {
                return line;
            }
        }
        panic!("buddo did not say {pattern}")
    };
    tokio::time::timeout(Duration::from_mins(1), wait).await.expect("buddo says it")
}

/// GET, as a browser does; the status line and the page.
async fn visit(url: &str) -> String {
    let rest = url.strip_prefix("http://").unwrap();
    let (host, path) = rest.split_once('/').unwrap();
    let mut stream = tokio::net::TcpStream::connect(host).await.unwrap();
    let request = format!("GET /{path} HTTP/1.1\r\nhost: {host}\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

fn parameters(url: &str) -> std::collections::BTreeMap<String, String> {
    let url = parsed(url);
    url.query_pairs().map(|(name, value)| (name.into_owned(), value.into_owned())).collect()
}

fn parsed(text: &str) -> reqwest::Url {
    reqwest::Url::parse(text).unwrap()
}

struct Web {
    child: Child,
    asked: std::collections::BTreeMap<String, String>,
}

async fn begin(world: &World) -> Web {
    let mut child = world.command(&["login", "--web"]).spawn().unwrap();
    let line = said(&mut child, "/api/oauth/authorize?").await;
    Web { child, asked: parameters(line.trim()) }
}

impl Web {
    /// The address that the browser is sent to.
    fn back(&self, pairs: &[(&str, &str)]) -> String {
        let mut url = parsed(&self.asked["redirect_uri"]);
        url.query_pairs_mut().extend_pairs(pairs);
        url.into()
    }
}

#[tokio::test]
async fn rfc8252_7_3_a_browser_login_returns_to_a_loopback_port() {
    let world = world().await;
    Mock::given(path(TOKEN))
        .and(body_string_contains("grant_type=authorization_code"))
        .and(body_string_contains("code=canary-code"))
        .respond_with(tokens(1, 3600))
        .mount(&world.api)
        .await;
    let web = begin(&world).await;
    assert_eq!(web.asked["client_id"], "buddo-cli");
    assert_eq!(web.asked["response_type"], "code");
    assert_eq!(web.asked["code_challenge_method"], "S256");
    assert_eq!(web.asked["code_challenge"].len(), 43);
    assert_eq!(web.asked["scope"], "profile:read deploy:manage teams:manage");
    assert!(web.asked["redirect_uri"].starts_with("http://127.0.0.1:"));

    // What is no answer to the request changes nothing.
    let (state, iss) = (web.asked["state"].as_str(), world.api.uri());
    for pairs in [
        vec![("code", "stolen"), ("state", "guessed"), ("iss", iss.as_str())],
        vec![("code", "stolen"), ("state", state), ("iss", "https://evil.example")],
        vec![("code", "stolen"), ("state", state)],
    ] {
        let page = visit(&web.back(&pairs)).await;
        assert!(page.starts_with("HTTP/1.1 400"), "{page}");
    }
    let port = web.asked["redirect_uri"].trim_end_matches("/callback").to_owned();
    assert!(visit(&format!("{port}/favicon.ico")).await.starts_with("HTTP/1.1 404"));

    let good = [("code", "canary-code"), ("state", state), ("iss", iss.as_str())];
    let page = visit(&web.back(&good)).await;
    assert!(page.starts_with("HTTP/1.1 200") && page.contains("terminal"), "{page}");
    assert!(page.contains("content-security-policy: default-src 'none'"), "{page}");
    let redirect = web.asked["redirect_uri"].clone();
    let ran = finish(web.child).await;
    assert_eq!((ran.code, ran.out.as_str()), (0, "Logged in as myoperator\n"), "{ran}");
    let sent = world.requests("POST", TOKEN).await;
    assert_eq!(sent.len(), 1, "the wrong answers led to no request");
    let sent = parameters(&format!("http://x/?{}", String::from_utf8_lossy(&sent[0].body)));
    assert_eq!(sent["redirect_uri"], redirect);
    assert_eq!(sent["code_verifier"].len(), 43);
    assert!(!sent.contains_key("client_secret"));
}

#[tokio::test]
async fn rfc6749_4_1_2_1_a_denial_in_the_browser_ends_the_login() {
    let world = world().await;
    let web = begin(&world).await;
    let iss = world.api.uri();
    let no = [
        ("error", "access_denied"),
        ("error_description", "the owner said no"),
        ("state", web.asked["state"].as_str()),
        ("iss", iss.as_str()),
    ];
    let page = visit(&web.back(&no)).await;
    assert!(page.starts_with("HTTP/1.1 200") && page.contains("Access was denied"), "{page}");
    let ran = finish(web.child).await;
    assert_eq!(ran.code, 9, "{ran}");
    assert!(ran.err.contains("refused in the browser: the owner said no"), "{ran}");
    assert!(!world.credentials().exists());
}

/// A device's questions: the first is told to wait, the next gets the tokens.
struct Device(Arc<AtomicUsize>);

impl Respond for Device {
    fn respond(&self, _: &Request) -> ResponseTemplate {
        match self.0.fetch_add(1, Ordering::SeqCst) {
            0 => refusal("authorization_pending"),
            _ => tokens(1, 3600),
        }
    }
}

fn device(expires_in: i64) -> Value {
    json!({ "device_code": "canary-device", "user_code": "BCDF-GHJK",
        "verification_uri": "https://api.example/device",
        "verification_uri_complete": "https://api.example/device?user_code=BCDF-GHJK",
        "expires_in": expires_in, "interval": 1 })
}

const START: &str = "/api/oauth/device_authorization";

#[tokio::test]
async fn rfc8628_3_3_shows_the_code_and_polls_until_it_is_decided() {
    let world = world().await;
    world.mock("POST", START, ResponseTemplate::new(200).set_body_json(device(600))).await;
    let asked = Arc::new(AtomicUsize::new(0));
    Mock::given(path(TOKEN))
        .and(body_string_contains("device_code=canary-device"))
        .and(body_string_contains("client_id=buddo-cli"))
        .respond_with(Device(asked.clone()))
        .mount(&world.api)
        .await;
    let ran = world.buddo(&["login", "--device"]).await;
    assert_eq!((ran.code, ran.out.as_str()), (0, "Logged in as myoperator\n"), "{ran}");
    assert!(ran.err.contains("type the code BCDF-GHJK"), "{ran}");
    assert!(ran.err.contains("https://api.example/device in a browser"), "{ran}");
    assert!(!ran.err.contains("canary-device"), "{ran}");
    assert_eq!(asked.load(Ordering::SeqCst), 2);

    let who = world.buddo(&["whoami"]).await;
    assert_eq!(who.code, 0, "{who}");
    assert!(who.out.contains("Account: myoperator") && !who.out.contains("Email"), "{who}");
    world.mock("POST", "/api/oauth/revoke", ResponseTemplate::new(200)).await;
    assert_eq!(world.buddo(&["logout"]).await.code, 0);
    let revoked = world.requests("POST", "/api/oauth/revoke").await;
    assert!(String::from_utf8_lossy(&revoked[0].body).contains("token=canary-refresh-1"));
}

#[tokio::test]
async fn rfc8628_3_5_a_failed_device_login_is_explained() {
    for (error, code, words) in [
        ("access_denied", 9, "in the API's words"),
        ("expired_token", 3, "nobody logged in with the browser in time"),
        ("invalid_grant", 1, "in the API's words"),
    ] {
        let world = world().await;
        world.mock("POST", START, ResponseTemplate::new(200).set_body_json(device(600))).await;
        world.mock("POST", TOKEN, refusal(error)).await;
        let ran = world.buddo(&["login", "--device"]).await;
        assert_eq!(ran.code, code, "{error}: {ran}");
        assert!(ran.err.contains(words), "{error}: {ran}");
        assert!(!world.credentials().exists());
    }
}

#[tokio::test]
async fn a_browser_session_ends_with_its_refresh_token() {
    let world = world().await;
    world.mock("POST", START, ResponseTemplate::new(200).set_body_json(device(600))).await;
    Mock::given(path(TOKEN))
        .and(body_string_contains("device_code="))
        .respond_with(tokens(1, 0))
        .mount(&world.api)
        .await;
    assert_eq!(world.buddo(&["login", "--device"]).await.code, 0);
    world.mock("POST", TOKEN, refusal("invalid_grant")).await;
    let ran = world.buddo(&["list"]).await;
    assert_eq!(ran.code, 3, "{ran}");
    let exchanged = world.requests("POST", TOKEN).await;
    let exchanged = exchanged
        .iter()
        .any(|request| String::from_utf8_lossy(&request.body).contains("token-exchange"));
    assert!(!exchanged, "there is no login to exchange");
}

#[tokio::test]
async fn login_methods_cannot_be_combined() {
    let world = World::new().await;
    for mixed in [&["login", "--web", "--device"][..], &["login", "--web", "--totp-code", "1"]] {
        let ran = world.buddo(mixed).await;
        assert_eq!(ran.code, 2, "{ran}");
    }
}
