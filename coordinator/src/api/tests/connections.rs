//! Connected apps, what they see, and the audit log of all of it.

use jiff::SignedDuration;
use serde_json::{Value, json};

use super::authorize::{app, browser_login, code, decide, request};
use super::tokens::redeem;
use crate::service::oauth;
use crate::testing::World;

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

async fn acts(world: &World, client_id: &Value) -> Vec<String> {
    let rows = oauth::acts(&world.state.store, text(client_id)).await.unwrap();
    rows.into_iter().map(|row| row.action).collect()
}

#[tokio::test]
async fn connected_apps_are_listed_and_a_disconnect_ends_all_their_tokens() {
    let world = World::new();
    let jwt = world.member("one").await;
    let other = world.member("two").await;
    let app = app(&world, &jwt).await;
    let mut tokens = Vec::new();
    for _ in 0..2 {
        let code = code(&world, "one", &app).await;
        tokens.push(world.post("/api/oauth/token", "", redeem(&app, &code)).await.json());
        world.clock.advance(SignedDuration::from_mins(5));
    }
    let list = world.get("/api/user/connected-apps", &jwt).await;
    assert_eq!(list.status, 200, "{list:?}");
    insta::assert_json_snapshot!(list.json(), {
        ".connected_apps[].app_id" => "[id]", ".connected_apps[].client_id" => "[client]",
    }, @r#"
    {
      "connected_apps": [
        {
          "app_description": null,
          "app_id": "[id]",
          "app_name": "My Deploy App",
          "client_id": "[client]",
          "connected_at": "2026-05-21T10:00:00Z",
          "last_token_at": "2026-05-21T10:05:00Z",
          "logo_url": null,
          "scopes": [
            {
              "description": "Create, stop, restart and permanently destroy your deployments",
              "name": "deploy:manage"
            }
          ],
          "website_url": null
        }
      ]
    }
    "#);
    let nobody = world.get("/api/user/connected-apps", &other).await;
    assert_eq!(nobody.json(), json!({ "connected_apps": [] }));

    let path = format!("/api/user/connected-apps/{}", text(&app["id"]));
    let foreign = world.call("DELETE", &path, Some(&other), None).await;
    assert_eq!(foreign.refusal(), (404, "not_found"));
    let access = |tokens: &Value| text(&tokens["access_token"]).to_owned();
    assert_eq!(world.get("/api/deploy/apps", &access(&tokens[0])).await.status, 200);
    let done = world.call("DELETE", &path, Some(&jwt), None).await;
    assert_eq!(done.status, 200, "{done:?}");
    for tokens in &tokens {
        assert_eq!(world.get("/api/deploy/apps", &access(tokens)).await.status, 401);
        let body = json!({ "grant_type": "refresh_token", "refresh_token": tokens["refresh_token"],
            "client_id": app["client_id"], "client_secret": app["client_secret"] });
        assert_eq!(world.post("/api/oauth/token", "", body).await.status, 400);
    }
    let list = world.get("/api/user/connected-apps", &jwt).await;
    assert_eq!(list.json(), json!({ "connected_apps": [] }));
    let again = world.call("DELETE", &path, Some(&jwt), None).await;
    assert_eq!(again.refusal(), (404, "not_found"));
    let bad = world.call("DELETE", "/api/user/connected-apps/x", Some(&jwt), None).await;
    assert_eq!(bad.refusal(), (404, "not_found"));
    assert_eq!(acts(&world, &app["client_id"]).await, ["app_made", "allowed", "allowed", "ended"]);
}

#[tokio::test]
async fn only_an_app_with_live_tokens_counts_as_connected() {
    let world = World::new();
    let jwt = world.member("one").await;
    let app = app(&world, &jwt).await;
    let code = code(&world, "one", &app).await;
    let listed = async || {
        let list = world.get("/api/user/connected-apps", &jwt).await.json();
        list["connected_apps"].as_array().unwrap().len()
    };
    assert_eq!(listed().await, 0);
    world.post("/api/oauth/token", "", redeem(&app, &code)).await;
    assert_eq!(listed().await, 1);
    world.clock.advance(SignedDuration::from_hours(90 * 24));
    let jwt = world.log_in("one").await;
    let list = world.get("/api/user/connected-apps", &jwt).await;
    assert_eq!(list.json(), json!({ "connected_apps": [] }));
}

#[tokio::test]
async fn connected_apps_need_a_login_token() {
    let world = World::new();
    let jwt = world.member("one").await;
    let tokens = world.cli_tokens(&jwt).await;
    let access = text(&tokens["access_token"]);
    let answer = world.get("/api/user/connected-apps", access).await;
    assert_eq!(answer.refusal(), (401, "wrong_token_kind"));
    let answer = world.get("/api/user/connected-apps", "").await;
    assert_eq!(answer.refusal(), (401, "token_missing"));
}

#[tokio::test]
async fn rfc6750_3_1_the_profile_needs_its_scope_and_hides_the_email() {
    let world = World::new();
    let jwt = world.member("one").await;
    let tokens = world.cli_tokens(&jwt).await;
    let answer = world.get("/api/external/user", text(&tokens["access_token"])).await;
    assert_eq!(answer.refusal(), (403, "insufficient_scope"));
    assert!(answer.header("www-authenticate").contains("scope=\"profile:read\""), "{answer:?}");
    assert_eq!(world.get("/api/external/user", &jwt).await.refusal(), (401, "wrong_token_kind"));

    let body = json!({
        "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
        "client_id": "buddo-cli", "subject_token": jwt, "scope": "profile:read",
        "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
    });
    let tokens = world.post("/api/oauth/token", "", body).await.json();
    let access = text(&tokens["access_token"]);
    let answer = world.get("/api/external/user", access).await;
    insta::assert_json_snapshot!(answer.json(), { ".user.id" => "[id]" }, @r#"
    {
      "user": {
        "email_verified": true,
        "id": "[id]",
        "inserted_at": "2026-05-21T10:00:00Z",
        "tier": "free",
        "username": "one"
      }
    }
    "#);
    assert_eq!(world.get("/api/deploy/apps", access).await.refusal(), (403, "insufficient_scope"));
}

#[tokio::test]
async fn every_action_is_audited_without_secrets() {
    let world = World::new();
    let jwt = world.member("one").await;
    let app = app(&world, &jwt).await;
    let path = request(&app["client_id"], &[]);
    let session = browser_login(&world, "one", &path).await;
    decide(&world, &path, &session, "deny").await;
    let code = code(&world, "one", &app).await;
    let tokens = world.post("/api/oauth/token", "", redeem(&app, &code)).await.json();
    world.post("/api/oauth/token", "", redeem(&app, &code)).await;
    let secret = format!("/api/oauth/apps/{}/secret", text(&app["client_id"]));
    world.post(&secret, &jwt, json!({})).await;
    let made = format!("/api/oauth/apps/{}", text(&app["client_id"]));
    assert_eq!(world.call("DELETE", &made, Some(&jwt), None).await.status, 200);
    let expected = ["app_made", "denied", "allowed", "ended", "secret_rotated", "app_removed"];
    assert_eq!(acts(&world, &app["client_id"]).await, expected);
    let rows = oauth::acts(&world.state.store, text(&app["client_id"])).await.unwrap();
    let ended = rows.iter().find(|row| row.action == "ended").unwrap();
    assert_eq!(ended.actor, None, "by the platform");
    assert_eq!(ended.details.as_ref().unwrap()["cause"], "its code was used twice");
    let all = format!("{rows:?}");
    for secret in [&app["client_secret"], &tokens["access_token"], &json!(code)] {
        assert!(!all.contains(text(secret)));
    }
}

#[tokio::test]
async fn an_account_keeps_its_newest_100_consents_to_an_app() {
    let world = World::new();
    let jwt = world.member("one").await;
    let first = world.cli_tokens(&jwt).await;
    let second = world.cli_tokens(&jwt).await;
    for _ in 0..99 {
        world.cli_tokens(&jwt).await;
    }
    let status = async |tokens: &Value| {
        world.get("/api/deploy/apps", text(&tokens["access_token"])).await.status.as_u16()
    };
    assert_eq!((status(&first).await, status(&second).await), (401, 200));
}

#[tokio::test]
async fn an_administrator_approves_and_suspends_an_app() {
    let world = World::new();
    let jwt = world.member("one").await;
    world.member("two").await;
    let app = app(&world, &jwt).await;
    let client_id = text(&app["client_id"]);
    let (store, now) = (&world.state.store, world.clock_now());
    assert!(oauth::approve_client(store, now, client_id).await.unwrap().is_approved);
    let token = async |name: &str| {
        let code = code(&world, name, &app).await;
        let tokens = world.post("/api/oauth/token", "", redeem(&app, &code)).await.json();
        text(&tokens["access_token"]).to_owned()
    };
    let (own, others) = (token("one").await, token("two").await);
    assert_eq!(world.get("/api/deploy/apps", &others).await.status, 200);
    oauth::suspend_client(store, now, client_id).await.unwrap();
    assert_eq!(world.get("/api/deploy/apps", &others).await.status, 401);
    assert_eq!(world.get("/api/deploy/apps", &own).await.status, 200);
    let public = world.get(&format!("/api/oauth/apps/{client_id}"), "").await.json();
    assert_eq!(public["app"]["is_approved"], false);
    for id in ["client_nobody", "buddo-cli"] {
        let error = oauth::suspend_client(store, now, id).await.unwrap_err();
        assert!(error.to_string().contains("app list"), "{error}");
    }
}
