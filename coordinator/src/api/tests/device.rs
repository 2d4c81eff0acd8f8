//! Devices without a browser (RFC 8628), and the page on which people connect them.

use jiff::SignedDuration;
use rstest::rstest;
use serde_json::{Value, json};

use super::authorize::hidden_pairs;
use crate::testing::{Answer, ISSUER, PASSWORD, World};

const GRANT: &str = "urn:ietf:params:oauth:grant-type:device_code";

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

fn refusal(answer: &Answer) -> (u16, String) {
    (answer.status.as_u16(), text(&answer.json()["error"]).to_owned())
}

async fn start(world: &World) -> Value {
    let body = json!({ "client_id": "buddo-cli", "scope": "profile:read deploy:manage" });
    let answer = world.post("/api/oauth/device_authorization", "", body).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.header("cache-control"), "no-store");
    answer.json()
}

async fn poll(world: &World, device: &Value) -> Answer {
    let body = json!({ "grant_type": GRANT, "client_id": "buddo-cli",
        "device_code": device["device_code"] });
    world.post("/api/oauth/token", "", body).await
}

/// Logs a browser in on the device page; returns its session.
async fn log_in(world: &World, name: &str, path: &str) -> String {
    let page = world.get(path, "").await;
    assert_eq!(page.status, 200, "{page:?}");
    let email = format!("{name}@example.com");
    let mut pairs = hidden_pairs(&page, &["csrf", "request"]);
    pairs.extend([("email", email), ("password", PASSWORD.to_owned())]);
    let pairs: Vec<_> = pairs.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let answer = world.form("/device/login", ("cookie", &page.cookie()), &pairs).await;
    assert_eq!((answer.status.as_u16(), answer.header("location")), (303, path));
    answer.cookie()
}

/// Opens the link of a device and decides.
async fn decide(world: &World, session: &str, device: &Value, decision: &str) -> Answer {
    let path = format!("/device?user_code={}", text(&device["user_code"]));
    let page = world.browse(&path, session).await;
    assert_eq!(page.status, 200, "{page:?}");
    let mut pairs = hidden_pairs(&page, &["csrf", "user_code"]);
    pairs.push(("decision", decision.to_owned()));
    let pairs: Vec<_> = pairs.iter().map(|(name, value)| (*name, value.as_str())).collect();
    world.form("/device", ("cookie", session), &pairs).await
}

#[tokio::test]
async fn rfc8628_3_2_a_device_gets_both_codes_and_the_verification_uri() {
    let world = World::new();
    let device = start(&world).await;
    assert_eq!(device["verification_uri"], format!("{ISSUER}/device"));
    let complete = format!("{ISSUER}/device?user_code={}", text(&device["user_code"]));
    assert_eq!(device["verification_uri_complete"], complete);
    assert_eq!((&device["expires_in"], &device["interval"]), (&json!(900), &json!(5)));
    assert!(text(&device["device_code"]).starts_with("buddo_dc_"));
}

#[tokio::test]
async fn an_address_has_at_most_30_live_device_codes() {
    let world = World::published();
    for _ in 0..30 {
        start(&world).await;
    }
    let body = json!({ "client_id": "buddo-cli" });
    let path = "/api/oauth/device_authorization";
    let refused = world.post(path, "", body).await;
    assert_eq!(refused.status, 429, "{refused:?}");
    // The window is a code's lifetime.
    assert_eq!(refused.header("ratelimit-policy"), r#""default";q=30;w=900"#);
}

#[tokio::test]
async fn the_number_of_pending_device_codes_is_bounded() {
    let world = World::new();
    start(&world).await;
    let database = rusqlite::Connection::open(world.state.config.database()).unwrap();
    let sql = "WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 49999)
               INSERT INTO oauth_device_codes
                   (hash, user_hash, client_id, scopes, expires_at, interval_s)
               SELECT randomblob(32), randomblob(32), client_id, scopes, expires_at, interval_s
               FROM n, oauth_device_codes";
    assert_eq!(database.execute(sql, []).unwrap(), 49_999);
    let path = "/api/oauth/device_authorization";
    let refused = world.post(path, "", json!({ "client_id": "buddo-cli" })).await;
    assert_eq!(refused.status, 503, "{refused:?}");
    // Expired codes do not count.
    world.clock.advance(SignedDuration::from_mins(15));
    start(&world).await;
}

#[tokio::test]
async fn rfc8628_3_5_a_device_polls_until_it_is_approved() {
    let world = World::new();
    world.member("one").await;
    let device = start(&world).await;
    assert_eq!(refusal(&poll(&world, &device).await), (400, "authorization_pending".to_owned()));
    let path = text(&device["verification_uri_complete"]).strip_prefix(ISSUER).unwrap();
    let session = log_in(&world, "one", path).await;
    let page = world.browse(path, &session).await;
    for words in [text(&device["user_code"]), "Buddo CLI", "permanently destroy", "<h1>"] {
        assert!(page.text.contains(words), "{words}: {}", page.text);
    }
    let done = decide(&world, &session, &device, "allow").await;
    assert!(done.status == 200 && done.text.contains("connected"), "{done:?}");
    let answer = poll(&world, &device).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let tokens = answer.json();
    assert_eq!(tokens["scope"], "profile:read deploy:manage");
    let access = text(&tokens["access_token"]);
    assert_eq!(world.get("/api/deploy/apps", access).await.status, 200);
    assert_eq!(world.get("/api/external/user", access).await.json()["user"]["username"], "one");
}

#[tokio::test]
async fn rfc8628_3_5_polling_too_early_adds_5_seconds_to_the_interval() {
    let world = World::new();
    let device = start(&world).await;
    let wait = |seconds| world.clock.advance(SignedDuration::from_secs(seconds));
    let code = async || refusal(&poll(&world, &device).await).1;
    assert_eq!(code().await, "authorization_pending");
    wait(4);
    assert_eq!(code().await, "slow_down");
    wait(9);
    assert_eq!(code().await, "slow_down", "10 seconds now");
    wait(14);
    assert_eq!(code().await, "slow_down", "15 seconds now");
    wait(20);
    assert_eq!(code().await, "authorization_pending");
    wait(19);
    assert_eq!(code().await, "slow_down", "20 seconds for good");
}

#[tokio::test]
async fn rfc8628_3_5_denied_and_expired_codes_get_different_errors() {
    let world = World::new();
    world.member("one").await;
    let (refused, forgotten) = (start(&world).await, start(&world).await);
    let session = log_in(&world, "one", "/device").await;
    let answer = decide(&world, &session, &refused, "deny").await;
    assert!(answer.text.contains("not connected"), "{answer:?}");
    assert_eq!(refusal(&poll(&world, &refused).await), (400, "access_denied".to_owned()));
    world.clock.advance(SignedDuration::from_mins(15));
    assert_eq!(refusal(&poll(&world, &forgotten).await), (400, "expired_token".to_owned()));
    assert_eq!(refusal(&poll(&world, &refused).await), (400, "expired_token".to_owned()));
}

#[tokio::test]
async fn a_code_can_be_decided_once_within_15_minutes() {
    let world = World::new();
    world.member("one").await;
    let (once, late) = (start(&world).await, start(&world).await);
    let session = log_in(&world, "one", "/device").await;
    let path = format!("/device?user_code={}", text(&once["user_code"]));
    let page = world.browse(&path, &session).await;
    let csrf = page.hidden("csrf");
    let again =
        [("csrf", csrf.as_str()), ("user_code", text(&once["user_code"])), ("decision", "allow")];
    assert_eq!(decide(&world, &session, &once, "deny").await.status, 200);
    assert_eq!(world.form("/device", ("cookie", &session), &again).await.status, 404);
    assert_eq!(refusal(&poll(&world, &once).await).1, "access_denied");
    assert_eq!(world.browse(&path, &session).await.status, 404);

    let late_pairs =
        [("csrf", csrf.as_str()), ("user_code", text(&late["user_code"])), ("decision", "allow")];
    world.clock.advance(SignedDuration::from_mins(15));
    assert_eq!(world.form("/device", ("cookie", &session), &late_pairs).await.status, 404);
    assert_eq!(refusal(&poll(&world, &late).await).1, "expired_token");
}

#[tokio::test]
async fn a_device_code_used_twice_revokes_its_tokens() {
    let world = World::new();
    world.member("one").await;
    let device = start(&world).await;
    let session = log_in(&world, "one", "/device").await;
    decide(&world, &session, &device, "allow").await;
    let tokens = poll(&world, &device).await.json();
    let access = text(&tokens["access_token"]);
    assert_eq!(world.get("/api/deploy/apps", access).await.status, 200);
    assert_eq!(refusal(&poll(&world, &device).await), (400, "invalid_grant".to_owned()));
    assert_eq!(world.get("/api/deploy/apps", access).await.status, 401);
}

#[tokio::test]
async fn concurrent_polls_get_one_pair_of_tokens() {
    let world = World::new();
    world.member("one").await;
    let device = start(&world).await;
    let session = log_in(&world, "one", "/device").await;
    decide(&world, &session, &device, "allow").await;
    let answers = futures_util::future::join_all((0..50).map(|_| poll(&world, &device))).await;
    assert_eq!(answers.iter().filter(|answer| answer.status == 200).count(), 1);
}

#[rstest]
#[case::unknown(json!({ "client_id": "client_nobody" }), 401, "invalid_client")]
#[case::scope(json!({ "scope": "points:spend" }), 400, "invalid_scope")]
#[case::no_scope_there_is(json!({ "scope": "root" }), 400, "invalid_scope")]
#[case::secret_of_a_public_client(json!({ "client_secret": "x" }), 401, "invalid_client")]
#[tokio::test]
async fn rfc8628_3_1_invalid_requests_are_refused(
    #[case] change: Value,
    #[case] status: u16,
    #[case] error: &str,
) {
    let world = World::new();
    let mut body = json!({ "client_id": "buddo-cli" });
    for (name, value) in change.as_object().unwrap() {
        body[name] = value.clone();
    }
    let answer = world.post("/api/oauth/device_authorization", "", body).await;
    assert_eq!(refusal(&answer), (status, error.to_owned()));
}

#[tokio::test]
async fn an_app_can_use_the_device_flow_only_if_it_asked_for_it() {
    let world = World::new();
    let jwt = world.member("one").await;
    world.member("two").await;
    let make = |extra: Value| {
        let mut body = json!({ "app_name": "TV", "requested_scopes": ["deploy:manage"] });
        body.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        world.post("/api/oauth/apps", &jwt, body)
    };
    let start = async |app: &Value| {
        let body = json!({ "client_id": app["client_id"], "client_secret": app["client_secret"] });
        world.post("/api/oauth/device_authorization", "", body).await
    };
    let plain = make(json!({ "redirect_uris": ["https://a.example/cb"] })).await.json();
    let answer = start(&plain["app"]).await;
    assert_eq!(refusal(&answer), (400, "unauthorized_client".to_owned()));

    let made = make(json!({ "grant_types": [GRANT] })).await;
    assert_eq!(made.status, 201, "{made:?}");
    let app = made.json()["app"].clone();
    assert_eq!(app["grant_types"], json!(["refresh_token", GRANT]));
    let device = start(&app).await.json();
    // Another client's code is refused.
    assert_eq!(refusal(&poll(&world, &device).await), (400, "invalid_grant".to_owned()));
    // Not approved: only for its owner, no matter what others send.
    let other = log_in(&world, "two", "/device").await;
    let path = format!("/device?user_code={}", text(&device["user_code"]));
    let page = world.browse(&path, &other).await;
    assert!(page.text.contains("serves its maker only") && !page.text.contains("value=\"allow\""));
    assert_eq!(decide(&world, &other, &device, "allow").await.status, 403);
}

#[tokio::test]
async fn the_code_form_accepts_lower_case_and_other_separators() {
    let world = World::new();
    world.member("one").await;
    let device = start(&world).await;
    let session = log_in(&world, "one", "/device").await;
    let form = world.browse("/device", &session).await;
    assert!(form.text.contains("<label for=\"user_code\">"), "{}", form.text);
    let typed = text(&device["user_code"]).to_lowercase().replace('-', "+");
    let page = world.browse(&format!("/device?user_code={typed}"), &session).await;
    assert!(page.text.contains("Buddo CLI"), "{}", page.text);
    for wrong in ["BBBB-BBBB", "%3Cscript%3E", "AEIO-UUUU"] {
        let page = world.browse(&format!("/device?user_code={wrong}"), &session).await;
        assert_eq!(page.status, 404);
        assert!(page.text.contains("role=\"alert\"") && !page.text.contains("<script"));
    }
}

#[tokio::test]
async fn forms_without_this_browsers_csrf_token_are_refused() {
    let world = World::new();
    world.member("one").await;
    let device = start(&world).await;
    let session = log_in(&world, "one", "/device").await;
    let other = log_in(&world, "one", "/device").await;
    let path = format!("/device?user_code={}", text(&device["user_code"]));
    let csrf = world.browse(&path, &other).await.hidden("csrf");
    for (cookie, csrf) in [(session.as_str(), csrf.as_str()), (&session, ""), ("", &csrf)] {
        let pairs =
            [("csrf", csrf), ("user_code", text(&device["user_code"])), ("decision", "allow")];
        assert_eq!(world.form("/device", ("cookie", cookie), &pairs).await.status, 403);
    }
    assert_eq!(refusal(&poll(&world, &device).await).1, "authorization_pending");
}

#[tokio::test]
async fn rfc9700_4_16_the_device_pages_are_not_framed_and_run_no_script() {
    let world = World::new();
    world.member("one").await;
    let device = start(&world).await;
    let session = log_in(&world, "one", "/device").await;
    let path = format!("/device?user_code={}", text(&device["user_code"]));
    let pages = [
        world.get("/device", "").await,
        world.browse("/device", &session).await,
        world.browse(&path, &session).await,
    ];
    for page in pages {
        assert_eq!(page.header("x-frame-options"), "DENY");
        let policy = page.header("content-security-policy");
        assert!(policy.contains("default-src 'none'") && policy.contains("frame-ancestors 'none'"));
        assert!(!policy.contains("script-src") && !page.text.contains("<script"), "{policy}");
        assert_eq!(page.header("cache-control"), "no-store");
        assert!(page.headers.get("access-control-allow-origin").is_none(), "no CORS");
    }
    let switched = decide(&world, &session, &device, "switch").await;
    assert_eq!((switched.status.as_u16(), switched.header("location")), (303, path.as_str()));
    assert!(switched.header("set-cookie").contains("Max-Age=0"));
}

#[tokio::test]
async fn a_device_is_never_granted_an_unused_scope() {
    let world = World::new();
    world.member("one").await;
    let path = "/api/oauth/device_authorization";
    // Without a scope parameter it gets everything that the app may have.
    let device = world.post(path, "", json!({ "client_id": "buddo-cli" })).await.json();
    let session = log_in(&world, "one", "/device").await;
    let page = format!("/device?user_code={}", text(&device["user_code"]));
    let asked = world.browse(&page, &session).await;
    assert!(asked.text.contains("permanently destroy your deployments"), "{asked:?}");
    assert!(!asked.text.contains("Buddo points"), "{asked:?}");
    let alone = json!({ "client_id": "buddo-cli", "scope": "points:read" });
    let refused = world.post(path, "", alone).await;
    assert_eq!(refusal(&refused), (400, "invalid_scope".to_owned()));
}
