//! The token endpoint and its siblings.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use jiff::SignedDuration;
use rstest::rstest;
use serde_json::{Value, json};

use super::authorize::{REDIRECT, VERIFIER, app, code};
use crate::testing::{Answer, ISSUER, World};

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

pub(super) fn redeem(app: &Value, code: &str) -> Value {
    json!({
        "grant_type": "authorization_code", "code": code, "redirect_uri": REDIRECT,
        "client_id": app["client_id"], "client_secret": app["client_secret"],
        "code_verifier": VERIFIER,
    })
}

async fn token(world: &World, body: Value) -> Answer {
    world.post("/api/oauth/token", "", body).await
}

async fn works(world: &World, access: &Value) -> bool {
    world.get("/api/deploy/apps", text(access)).await.status == 200
}

fn refusal(answer: &Answer) -> (u16, String) {
    (answer.status.as_u16(), text(&answer.json()["error"]).to_owned())
}

/// An account, an app of it, and a code.
async fn with_code() -> (World, Value, String) {
    let world = World::new();
    let jwt = world.member("one").await;
    let app = app(&world, &jwt).await;
    let code = code(&world, "one", &app).await;
    (world, app, code)
}

#[tokio::test]
async fn rfc6749_5_1_a_code_is_exchanged_for_uncacheable_tokens() {
    let (world, app, code) = with_code().await;
    let answer = token(&world, redeem(&app, &code)).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.header("cache-control"), "no-store");
    assert_eq!(answer.header("pragma"), "no-cache");
    let tokens = answer.json();
    insta::assert_json_snapshot!(tokens, { ".access_token" => "[at]", ".refresh_token" => "[rt]" }, @r#"
    {
      "access_token": "[at]",
      "expires_in": 3600,
      "refresh_token": "[rt]",
      "scope": "deploy:manage",
      "token_type": "Bearer"
    }
    "#);
    assert!(works(&world, &tokens["access_token"]).await);
    world.clock.advance(SignedDuration::from_hours(1));
    assert!(!works(&world, &tokens["access_token"]).await, "one hour");
}

#[tokio::test]
async fn rfc6749_2_3_1_basic_auth_works_but_not_with_form_credentials() {
    let (world, app, code) = with_code().await;
    let basic = format!("{}:{}", text(&app["client_id"]), text(&app["client_secret"]));
    let basic = format!("Basic {}", BASE64_STANDARD.encode(basic));
    let pairs = [
        ("grant_type", "authorization_code"),
        ("code", code.as_str()),
        ("redirect_uri", REDIRECT),
        ("code_verifier", VERIFIER),
    ];
    let both = [pairs.as_slice(), &[("client_secret", text(&app["client_secret"]))]].concat();
    let twice = world.form("/api/oauth/token", ("authorization", &basic), &both).await;
    assert_eq!(refusal(&twice), (400, "invalid_request".to_owned()));
    let answer = world.form("/api/oauth/token", ("authorization", &basic), &pairs).await;
    assert_eq!(answer.status, 200, "{answer:?}");
}

#[tokio::test]
async fn rfc6749_3_2_a_repeated_parameter_is_refused() {
    let world = World::new();
    let pairs = [("grant_type", "refresh_token"), ("grant_type", "authorization_code")];
    let answer = world.form("/api/oauth/token", ("x-a", "b"), &pairs).await;
    assert_eq!(refusal(&answer), (400, "invalid_request".to_owned()));
}

#[rstest]
#[case::no_grant_type(json!({ "grant_type": null }), 400, "invalid_request")]
#[case::other_grant_type(json!({ "grant_type": "password" }), 400, "unsupported_grant_type")]
#[case::no_code(json!({ "code": null }), 400, "invalid_request")]
#[case::unknown_code(json!({ "code": "buddo_ac_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA" }), 400, "invalid_grant")]
#[case::rfc6749_4_1_3_other_redirect(json!({ "redirect_uri": "http://localhost:9877/callback" }), 400, "invalid_grant")]
#[case::no_redirect(json!({ "redirect_uri": null }), 400, "invalid_grant")]
#[case::rfc7636_4_6_other_verifier(json!({ "code_verifier": "x".repeat(43) }), 400, "invalid_grant")]
#[case::rfc7636_4_1_short_verifier(json!({ "code_verifier": "x" }), 400, "invalid_request")]
#[case::rfc9700_4_8_2_no_verifier(json!({ "code_verifier": null }), 400, "invalid_request")]
#[case::wrong_secret(json!({ "client_secret": "secret_x" }), 401, "invalid_client")]
#[case::rfc6749_3_2_1_no_secret(json!({ "client_secret": null }), 401, "invalid_client")]
#[case::unknown_client(json!({ "client_id": "client_nobody" }), 401, "invalid_client")]
#[case::another_client(json!({ "client_id": "buddo-cli", "client_secret": null }), 400, "invalid_grant")]
#[case::wrong_type(json!({ "code": 7 }), 400, "invalid_request")]
#[tokio::test]
async fn rfc6749_5_2_invalid_requests_get_the_defined_error(
    #[case] change: Value,
    #[case] status: u16,
    #[case] error: &str,
) {
    let (world, app, code) = with_code().await;
    let mut body = redeem(&app, &code);
    for (name, value) in change.as_object().unwrap() {
        body[name] = value.clone();
    }
    let answer = token(&world, body).await;
    assert_eq!(refusal(&answer), (status, error.to_owned()), "{answer:?}");
    assert_eq!(answer.header("cache-control"), "no-store");
    assert!(!answer.text.contains(&code));
    // None of these uses up the code.
    assert_eq!(token(&world, redeem(&app, &code)).await.status, 200);
}

#[tokio::test]
async fn rfc6749_4_1_2_a_code_expires_after_ten_minutes() {
    let (world, app, code) = with_code().await;
    world.clock.advance(SignedDuration::from_mins(10));
    let answer = token(&world, redeem(&app, &code)).await;
    assert_eq!(refusal(&answer), (400, "invalid_grant".to_owned()));
}

#[tokio::test]
async fn rfc6749_4_1_2_a_code_used_twice_revokes_its_tokens() {
    let (world, app, code) = with_code().await;
    let tokens = token(&world, redeem(&app, &code)).await.json();
    assert!(works(&world, &tokens["access_token"]).await);
    let again = token(&world, redeem(&app, &code)).await;
    assert_eq!(refusal(&again), (400, "invalid_grant".to_owned()));
    assert!(!works(&world, &tokens["access_token"]).await);
    let refresh = json!({ "grant_type": "refresh_token", "refresh_token": tokens["refresh_token"],
        "client_id": app["client_id"], "client_secret": app["client_secret"] });
    assert_eq!(refusal(&token(&world, refresh).await).1, "invalid_grant");
}

fn cli_refresh(token: &Value) -> Value {
    json!({ "grant_type": "refresh_token", "refresh_token": token, "client_id": "buddo-cli" })
}

#[tokio::test]
async fn rfc9700_4_14_2_refresh_tokens_rotate_and_reuse_revokes_the_grant() {
    let world = World::new();
    let jwt = world.member("one").await;
    let first = world.cli_tokens(&jwt).await;
    let second = token(&world, cli_refresh(&first["refresh_token"])).await.json();
    assert_ne!(first["refresh_token"], second["refresh_token"]);
    assert!(works(&world, &second["access_token"]).await);
    let stolen = token(&world, cli_refresh(&first["refresh_token"])).await;
    assert_eq!(refusal(&stolen), (400, "invalid_grant".to_owned()));
    assert!(!works(&world, &second["access_token"]).await);
    let end = token(&world, cli_refresh(&second["refresh_token"])).await;
    assert_eq!(refusal(&end), (400, "invalid_grant".to_owned()));
}

#[tokio::test]
async fn rfc6749_6_a_refresh_cannot_widen_the_scope_and_ends_after_90_days() {
    let world = World::new();
    let jwt = world.member("one").await;
    let first = world.cli_tokens(&jwt).await;
    let mut wide = cli_refresh(&first["refresh_token"]);
    wide["scope"] = json!("deploy:manage points:spend");
    assert_eq!(refusal(&token(&world, wide).await).1, "invalid_scope");
    let second = token(&world, cli_refresh(&first["refresh_token"])).await.json();
    assert_eq!(second["scope"], "deploy:manage");
    world.clock.advance(SignedDuration::from_hours(90 * 24));
    assert_eq!(
        refusal(&token(&world, cli_refresh(&second["refresh_token"])).await).1,
        "invalid_grant"
    );
}

#[tokio::test]
async fn token_exchange_never_grants_an_unused_scope() {
    let world = World::new();
    let jwt = world.member("one").await;
    let exchange = async |scope: &str| {
        let body = json!({
            "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
            "client_id": "buddo-cli", "subject_token": jwt, "scope": scope,
            "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
        });
        token(&world, body).await
    };
    let beside = exchange("points:read deploy:manage").await.json();
    assert_eq!(beside["scope"], "deploy:manage");
    assert_eq!(refusal(&exchange("points:read").await), (400, "invalid_scope".to_owned()));
}

#[tokio::test]
async fn rfc8693_2_1_only_the_cli_can_exchange_a_login_for_tokens() {
    let world = World::new();
    let jwt = world.member("one").await;
    let tokens = world.cli_tokens(&jwt).await;
    assert_eq!(tokens["issued_token_type"], "urn:ietf:params:oauth:token-type:access_token");
    assert_eq!(tokens["scope"], "deploy:manage");
    let app = app(&world, &jwt).await;
    let exchange = |changes: Value| {
        let mut body = json!({
            "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
            "client_id": "buddo-cli", "subject_token": jwt,
            "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
        });
        for (name, value) in changes.as_object().unwrap() {
            body[name] = value.clone();
        }
        let world = &world;
        async move { refusal(&token(world, body).await).1 }
    };
    let other = json!({ "client_id": app["client_id"], "client_secret": app["client_secret"] });
    assert_eq!(exchange(other).await, "unauthorized_client");
    assert_eq!(exchange(json!({ "scope": "points:spend" })).await, "invalid_scope");
    assert_eq!(exchange(json!({ "subject_token": "eyJ.x.y" })).await, "invalid_request");
    assert_eq!(
        exchange(json!({ "subject_token": tokens["access_token"] })).await,
        "invalid_request"
    );
    assert_eq!(exchange(json!({ "subject_token_type": "x" })).await, "invalid_request");
}

#[tokio::test]
async fn rfc6750_3_1_insufficient_scope_names_the_missing_scope() {
    let world = World::new();
    let jwt = world.member("one").await;
    let body = json!({
        "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
        "client_id": "buddo-cli", "subject_token": jwt, "scope": "profile:read",
        "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
    });
    let tokens = token(&world, body).await.json();
    let answer = world.get("/api/deploy/apps", text(&tokens["access_token"])).await;
    assert_eq!(answer.status, 403);
    assert_eq!(
        answer.header("www-authenticate"),
        r#"Bearer realm="buddo", error="insufficient_scope", scope="deploy:manage""#
    );
}

#[tokio::test]
async fn rfc7009_2_revoking_a_refresh_token_ends_its_access_tokens() {
    let world = World::new();
    let jwt = world.member("one").await;
    let tokens = world.cli_tokens(&jwt).await;
    let revoke = |token: &str| {
        let body = json!({ "client_id": "buddo-cli", "token": token });
        world.post("/api/oauth/revoke", "", body)
    };
    assert_eq!(revoke("nobody's").await.status, 200, "2.2: also for an unknown token");
    assert_eq!(revoke(text(&tokens["refresh_token"])).await.status, 200);
    assert!(!works(&world, &tokens["access_token"]).await);
    let other = world.cli_tokens(&jwt).await;
    assert_eq!(revoke(text(&other["access_token"])).await.status, 200);
    assert!(!works(&world, &other["access_token"]).await);
    assert_eq!(token(&world, cli_refresh(&other["refresh_token"])).await.status, 200);
}

#[tokio::test]
async fn rfc7009_2_1_a_client_cannot_revoke_another_clients_token() {
    let world = World::new();
    let jwt = world.member("one").await;
    let tokens = world.cli_tokens(&jwt).await;
    let app = app(&world, &jwt).await;
    let body = json!({ "client_id": app["client_id"], "client_secret": app["client_secret"],
        "token": tokens["refresh_token"] });
    assert_eq!(world.post("/api/oauth/revoke", "", body).await.status, 200);
    assert!(works(&world, &tokens["access_token"]).await);
}

#[tokio::test]
async fn rfc7662_2_2_a_client_can_introspect_only_its_own_tokens() {
    let (world, app, code) = with_code().await;
    let tokens = token(&world, redeem(&app, &code)).await.json();
    let ask = |token: &Value| {
        let body = json!({ "client_id": app["client_id"],
            "client_secret": app["client_secret"], "token": token });
        world.post("/api/oauth/introspect", "", body)
    };
    let answer = ask(&tokens["access_token"]).await.json();
    assert_eq!(answer["active"], true);
    assert_eq!(answer["scope"], "deploy:manage");
    assert_eq!(answer["iss"], ISSUER);
    assert_eq!(answer["exp"].as_i64().unwrap() - answer["iat"].as_i64().unwrap(), 3600);
    assert_eq!(ask(&json!("unknown")).await.text, r#"{"active":false}"#);
    let foreign = world.cli_tokens(&world.log_in("one").await).await;
    assert_eq!(ask(&foreign["access_token"]).await.text, r#"{"active":false}"#);
    let public = json!({ "client_id": "buddo-cli", "token": foreign["access_token"] });
    assert_eq!(world.post("/api/oauth/introspect", "", public).await.status, 401);
}

#[tokio::test]
async fn rfc8414_2_the_metadata_matches_the_server() {
    let world = World::new();
    let metadata = world.get("/.well-known/oauth-authorization-server", "").await.json();
    assert_eq!(metadata["issuer"], ISSUER);
    assert_eq!(metadata["code_challenge_methods_supported"], json!(["S256"]));
    for (name, value) in metadata.as_object().unwrap() {
        let Some(path) = value.as_str().and_then(|url| url.strip_prefix(ISSUER)) else { continue };
        if name.ends_with("_endpoint") {
            assert_ne!(world.get(path, "").await.status, 404, "{name}");
        }
    }
}
