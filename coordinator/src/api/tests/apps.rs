//! Apps of their owners: public and confidential ones, secret rotation, removal.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use jiff::SignedDuration;
use rstest::rstest;
use serde_json::{Value, json};

use super::authorize::{REDIRECT, VERIFIER, app, browser_login, code, request};
use super::tokens::redeem;
use crate::service::oauth;
use crate::testing::World;

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

fn path_of(app: &Value, rest: &str) -> String {
    format!("/api/oauth/apps/{}{rest}", text(&app["client_id"]))
}

/// Whether a secret is accepted.
async fn works(world: &World, app: &Value, secret: &Value) -> bool {
    let body =
        json!({ "client_id": app["client_id"], "client_secret": secret, "token": "unknown" });
    world.post("/api/oauth/introspect", "", body).await.status == 200
}

async fn rotate(world: &World, jwt: &str, app: &Value, body: Value) -> Value {
    let answer = world.post(&path_of(app, "/secret"), jwt, body).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.header("cache-control"), "no-store");
    answer.json()["app"]["client_secret"].clone()
}

#[tokio::test]
async fn a_secret_is_replaced_at_once_or_with_an_overlap() {
    let world = World::new();
    let jwt = world.member("one").await;
    let app = app(&world, &jwt).await;
    let first = app["client_secret"].clone();
    let second = rotate(&world, &jwt, &app, json!({})).await;
    assert_ne!(first, second);
    assert!(works(&world, &app, &second).await && !works(&world, &app, &first).await);

    let third = rotate(&world, &jwt, &app, json!({ "keep_old_seconds": 3600 })).await;
    assert!(works(&world, &app, &second).await && works(&world, &app, &third).await);
    world.clock.advance(SignedDuration::from_hours(1));
    assert!(!works(&world, &app, &second).await && works(&world, &app, &third).await);

    // A leaked secret is voided at once, even if an older one was still accepted.
    let fourth = rotate(&world, &jwt, &app, json!({ "keep_old_seconds": 3600 })).await;
    let fifth = rotate(&world, &jwt, &app, json!({})).await;
    for (secret, taken) in [(&third, false), (&fourth, false), (&fifth, true)] {
        assert_eq!(works(&world, &app, secret).await, taken);
    }
}

#[tokio::test]
async fn only_the_owner_edits_redirect_uris_and_a_new_one_needs_approval() {
    let world = World::new();
    let jwt = world.member("one").await;
    let other = world.member("two").await;
    let app = app(&world, &jwt).await;
    let path = path_of(&app, "");
    let approve = async || {
        let (store, now) = (&world.state.store, world.clock_now());
        oauth::approve_client(store, now, text(&app["client_id"])).await.unwrap();
    };
    let edit = async |bearer: &str, uris: Value| {
        let body = json!({ "redirect_uris": uris });
        world.call("PATCH", &path, Some(bearer), Some(body)).await
    };
    approve().await;
    let wider = json!([REDIRECT, "https://b.example/cb"]);
    assert_eq!(edit(&other, wider.clone()).await.refusal(), (403, "forbidden"));
    assert_eq!(edit(&jwt, json!([])).await.pointers(), ["/redirect_uris"]);
    assert_eq!(edit(&jwt, json!(["http://b.example/"])).await.pointers(), ["/redirect_uris/0"]);
    let edited = edit(&jwt, wider.clone()).await.json();
    assert_eq!(
        (&edited["app"]["redirect_uris"], &edited["app"]["is_approved"]),
        (&wider, &json!(false))
    );
    assert_eq!(world.get(&path, "").await.json()["app"]["is_approved"], false);
    // With a subset of the same, no new review is needed.
    approve().await;
    let edited = edit(&jwt, json!([REDIRECT])).await.json();
    assert_eq!(edited["app"]["is_approved"], true);
    assert_eq!(world.get(&path, "").await.json()["app"]["redirect_uris"], json!([REDIRECT]));
}

#[tokio::test]
async fn a_secret_can_be_replaced_without_a_body() {
    let world = World::new();
    let jwt = world.member("one").await;
    let app = app(&world, &jwt).await;
    let answer = world.call("POST", &path_of(&app, "/secret"), Some(&jwt), None).await;
    assert_eq!(answer.status, 200, "{answer:?}");
}

#[rstest]
#[case(json!({ "keep_old_seconds": -1 }), "/keep_old_seconds")]
#[case(json!({ "keep_old_seconds": 86_401 }), "/keep_old_seconds")]
#[case(json!({ "keep": 1 }), "/keep")]
#[tokio::test]
async fn an_invalid_overlap_changes_nothing(#[case] body: Value, #[case] pointer: &str) {
    let world = World::new();
    let jwt = world.member("one").await;
    let app = app(&world, &jwt).await;
    let answer = world.post(&path_of(&app, "/secret"), &jwt, body).await;
    assert_eq!((answer.status.as_u16(), answer.pointers()), (422, vec![pointer]));
    assert!(works(&world, &app, &app["client_secret"]).await);
}

#[tokio::test]
async fn another_accounts_app_cannot_be_changed() {
    let world = World::new();
    let jwt = world.member("one").await;
    let other = world.member("two").await;
    let app = app(&world, &jwt).await;
    let secret = world.post(&path_of(&app, "/secret"), &other, json!({})).await;
    assert_eq!(secret.refusal(), (403, "forbidden"));
    let removed = world.call("DELETE", &path_of(&app, ""), Some(&other), None).await;
    assert_eq!(removed.refusal(), (403, "forbidden"));
    assert!(works(&world, &app, &app["client_secret"]).await);
    for built_in in ["/api/oauth/apps/buddo-cli", "/api/oauth/apps/buddo-cli/secret"] {
        let method = if built_in.ends_with("secret") { "POST" } else { "DELETE" };
        assert_eq!(world.call(method, built_in, Some(&jwt), None).await.status, 403);
    }
    let nobody = world.call("DELETE", "/api/oauth/apps/client_nobody", Some(&jwt), None).await;
    assert_eq!(nobody.refusal(), (404, "not_found"));
    let access = world.cli_tokens(&jwt).await["access_token"].clone();
    let by_app = world.call("DELETE", &path_of(&app, ""), Some(text(&access)), None).await;
    assert_eq!(by_app.refusal(), (401, "wrong_token_kind"));
}

#[tokio::test]
async fn removing_an_app_ends_its_tokens_and_pages() {
    let world = World::new();
    let jwt = world.member("one").await;
    let app = app(&world, &jwt).await;
    let code = code(&world, "one", &app).await;
    let tokens = world.post("/api/oauth/token", "", redeem(&app, &code)).await.json();
    let access = text(&tokens["access_token"]);
    assert_eq!(world.get("/api/deploy/apps", access).await.status, 200);
    let removed = world.call("DELETE", &path_of(&app, ""), Some(&jwt), None).await;
    assert_eq!(removed.status, 200, "{removed:?}");
    assert_eq!(world.get("/api/deploy/apps", access).await.status, 401);
    assert!(!works(&world, &app, &app["client_secret"]).await);
    assert_eq!(world.get(&path_of(&app, ""), "").await.status, 404);
    let page = world.get(&request(&app["client_id"], &[]), "").await;
    assert_eq!(page.status, 400);
}

async fn public(world: &World, jwt: &str) -> Value {
    let body = json!({ "app_name": "Native", "redirect_uris": [REDIRECT],
        "requested_scopes": ["deploy:manage"], "token_endpoint_auth_method": "none" });
    let answer = world.post("/api/oauth/apps", jwt, body).await;
    assert_eq!(answer.status, 201, "{answer:?}");
    answer.json()["app"].clone()
}

#[tokio::test]
async fn rfc6749_2_1_a_public_client_has_no_secret_and_needs_pkce() {
    let world = World::new();
    let jwt = world.member("one").await;
    let app = public(&world, &jwt).await;
    assert_eq!(app["token_endpoint_auth_method"], "none");
    assert!(app.get("client_secret").is_none());
    let code = code(&world, "one", &app).await;
    let mut body = json!({ "grant_type": "authorization_code", "code": code,
        "redirect_uri": REDIRECT, "client_id": app["client_id"] });
    let without = world.post("/api/oauth/token", "", body.clone()).await;
    assert_eq!(without.json()["error"], "invalid_request", "no verifier");
    body["code_verifier"] = json!(VERIFIER);
    body["client_secret"] = json!("secret_x");
    let made_up = world.post("/api/oauth/token", "", body.clone()).await;
    assert_eq!(made_up.json()["error"], "invalid_client");
    body.as_object_mut().unwrap().remove("client_secret");
    let answer = world.post("/api/oauth/token", "", body).await;
    assert_eq!(answer.status, 200, "{answer:?}");

    let rotated = world.post(&path_of(&app, "/secret"), &jwt, json!({})).await;
    assert_eq!(rotated.refusal(), (400, "invalid_request"));
    let asked = json!({ "client_id": app["client_id"], "token": answer.json()["access_token"] });
    assert_eq!(world.post("/api/oauth/introspect", "", asked).await.status, 401);
}

#[tokio::test]
async fn rfc7636_4_4_1_a_public_client_needs_a_code_challenge() {
    let world = World::new();
    let jwt = world.member("one").await;
    let app = public(&world, &jwt).await;
    let bare = [("code_challenge", ""), ("code_challenge_method", "")];
    // Its owner: nobody else is sent back to an app that is not approved.
    let asked = request(&app["client_id"], &[]);
    let maker = browser_login(&world, "one", &asked).await;
    let answer = world.browse(&request(&app["client_id"], &bare), &maker).await;
    assert_eq!(answer.status, 303, "{answer:?}");
    assert!(answer.header("location").contains("error=invalid_request"), "{answer:?}");
}

#[rstest]
#[case(json!({ "token_endpoint_auth_method": "private_key_jwt" }), "/token_endpoint_auth_method")]
#[case(json!({ "grant_types": ["password"] }), "/grant_types/0")]
#[case(json!({ "grant_types": [] }), "/grant_types")]
#[case(json!({ "grant_types": ["refresh_token"] }), "/grant_types")]
#[case(json!({ "grant_types": ["urn:ietf:params:oauth:grant-type:device_code"] }), "/redirect_uris")]
#[tokio::test]
async fn rfc7591_2_invalid_client_metadata_is_refused_by_name(
    #[case] change: Value,
    #[case] pointer: &str,
) {
    let world = World::new();
    let jwt = world.member("one").await;
    let mut body = json!({ "app_name": "A", "redirect_uris": [REDIRECT] });
    body.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
    let answer = world.post("/api/oauth/apps", &jwt, body).await;
    assert_eq!((answer.status.as_u16(), answer.pointers()), (422, vec![pointer]));
}

#[tokio::test]
async fn rfc6749_2_3_1_the_old_secret_works_over_basic_during_the_overlap() {
    let world = World::new();
    let jwt = world.member("one").await;
    let app = app(&world, &jwt).await;
    rotate(&world, &jwt, &app, json!({ "keep_old_seconds": 60 })).await;
    let pair = format!("{}:{}", text(&app["client_id"]), text(&app["client_secret"]));
    let basic = format!("Basic {}", BASE64_STANDARD.encode(pair));
    let ask = async || {
        let pairs = [("token", "unknown")];
        world.form("/api/oauth/introspect", ("authorization", &basic), &pairs).await
    };
    assert_eq!(ask().await.status, 200);
    world.clock.advance(SignedDuration::from_mins(1));
    let late = ask().await;
    assert_eq!(late.status, 401);
    assert_eq!(late.header("www-authenticate"), r#"Basic realm="buddo""#);
}
