//! Logins: listed, and ended one by one.

use axum::body::Body;
use http::Request;
use http::header::{CONTENT_TYPE, USER_AGENT};
use jiff::SignedDuration;
use serde_json::{Value, json};

use super::post::{activity, deploys, is_open};
use crate::testing::{PASSWORD, World};

async fn list(world: &World, jwt: &str) -> Vec<Value> {
    let answer = world.get("/api/auth/sessions", jwt).await;
    answer.json()["sessions"].as_array().unwrap_or_else(|| panic!("{answer:?}")).clone()
}

async fn end(world: &World, jwt: &str, id: &Value) -> (u16, String) {
    let path = format!("/api/auth/sessions/{}", id.as_str().unwrap());
    let answer = world.call("DELETE", &path, Some(jwt), None).await;
    (answer.status.as_u16(), answer.refusal().1.to_owned())
}

#[tokio::test]
async fn sessions_are_listed_with_their_origin_and_last_use() {
    let world = World::new();
    world.member("one").await;
    let body = json!({ "email": "one@example.com", "password": PASSWORD }).to_string();
    let login = Request::post("/api/auth/login")
        .header(CONTENT_TYPE, "application/json")
        .header(USER_AGENT, format!("buddo/0.1 {}", "x".repeat(500)))
        .body(Body::from(body))
        .unwrap();
    let jwt = world.send(login).await.json()["token"].as_str().unwrap().to_owned();
    world.clock.advance(SignedDuration::from_mins(11));
    let sessions = list(&world, &jwt).await;
    assert_eq!(sessions.len(), 2, "{sessions:?}");
    let [current, other] = &sessions[..] else { unreachable!() };
    assert_eq!((&current["current"], &other["current"]), (&json!(true), &json!(false)));
    assert_eq!(current["ip_address"], "192.0.2.1");
    let agent = current["user_agent"].as_str().unwrap();
    assert!(agent.starts_with("buddo/0.1 x") && agent.len() == 200, "{agent}");
    assert_eq!(other["user_agent"], Value::Null);
    // Its use is recorded, to within ten minutes.
    assert_eq!(current["last_used_at"], "2026-05-21T10:11:00Z");
    assert_eq!(current["inserted_at"], "2026-05-21T10:00:00Z");
    assert_eq!(current["expires_at"], "2026-06-20T10:00:00Z");
}

#[tokio::test]
async fn ending_a_session_revokes_its_cli_tokens() {
    let world = World::new();
    let here = world.member("one").await;
    let there = world.log_in("one").await;
    let ours = world.cli_tokens(&here).await["access_token"].as_str().unwrap().to_owned();
    let tokens = world.cli_tokens(&there).await;
    let theirs = tokens["access_token"].as_str().unwrap();
    let other = list(&world, &here).await.into_iter().find(|s| s["current"] == false).unwrap();
    assert_eq!(end(&world, &here, &other["id"]).await.0, 200);
    assert!(!is_open(&world, &there).await);
    assert!(!deploys(&world, theirs).await);
    let body = json!({ "grant_type": "refresh_token", "client_id": "buddo-cli",
        "refresh_token": tokens["refresh_token"] });
    let refreshed = world.post("/api/oauth/token", "", body).await;
    assert_eq!(refreshed.json()["error"], "invalid_grant");
    assert!(is_open(&world, &here).await && deploys(&world, &ours).await);
    assert_eq!(end(&world, &here, &other["id"]).await, (404, "not_found".to_owned()));
    assert_eq!(activity(&world, &here).await[0], "session_revoked");
}

#[tokio::test]
async fn an_account_cannot_end_another_accounts_session() {
    let world = World::new();
    let one = world.member("one").await;
    let two = world.member("two").await;
    let id = list(&world, &two).await[0]["id"].clone();
    assert_eq!(end(&world, &one, &id).await, (404, "not_found".to_owned()));
    assert_eq!(end(&world, &one, &json!("nonsense")).await, (404, "not_found".to_owned()));
    assert!(is_open(&world, &two).await);
}

#[tokio::test]
async fn ends_all_other_sessions_at_once() {
    let world = World::new();
    let here = world.member("one").await;
    let others = [world.log_in("one").await, world.log_in("one").await];
    let answer = world.call("DELETE", "/api/auth/sessions", Some(&here), None).await;
    assert_eq!(answer.json()["message"], "2 other sessions ended");
    for other in others {
        assert!(!is_open(&world, &other).await);
    }
    assert!(is_open(&world, &here).await);
    assert_eq!(list(&world, &here).await.len(), 1);
}

#[tokio::test]
async fn a_logout_ends_the_login() {
    let world = World::new();
    let jwt = world.member("one").await;
    assert_eq!(world.post("/api/auth/logout", &jwt, json!({})).await.status, 200);
    assert!(!is_open(&world, &jwt).await);
    let again = world.post("/api/auth/logout", &jwt, json!({})).await;
    assert_eq!(again.refusal(), (401, "invalid_token"));
    assert!(is_open(&world, &world.log_in("one").await).await);
}

#[tokio::test]
async fn sessions_are_bounded_and_the_least_recently_used_is_ended() {
    let world = World::new();
    let first = world.member("one").await;
    let mut last = String::new();
    for _ in 0..100 {
        world.clock.advance(SignedDuration::from_secs(1));
        last = world.log_in("one").await;
    }
    assert!(!is_open(&world, &first).await);
    assert_eq!(list(&world, &last).await.len(), 100);
}
