//! Guesses are slowed down, and common passwords refused.

use std::net::IpAddr;

use axum::body::Body;
use http::Request;
use http::header::CONTENT_TYPE;
use serde_json::json;

use crate::testing::{Answer, PASSWORD, World};

/// A world whose requests come through a proxy, so that they have their own addresses.
fn world() -> World {
    World::with(|config| config.api.trusted_proxies = vec![IpAddr::from([192, 0, 2, 1])])
}

async fn guess(world: &World, from: &str, email: &str, password: &str) -> Answer {
    let body = json!({ "email": email, "password": password }).to_string();
    let request = Request::post("/api/auth/login")
        .header(CONTENT_TYPE, "application/json")
        .header("x-forwarded-for", from);
    world.send(request.body(Body::from(body)).unwrap()).await
}

#[tokio::test]
async fn guesses_at_any_account_existing_or_not_are_limited_across_addresses() {
    let world = world();
    world.member("one").await;
    let mut refused = Vec::new();
    for email in ["one@example.com", "nobody@example.com"] {
        for n in 0..10 {
            let answer = guess(&world, &format!("198.51.100.{n}"), email, "canary-wrong").await;
            assert_eq!(answer.refusal(), (401, "invalid_credentials"), "{n}");
        }
        // The right password waits as well: otherwise a guesser would learn that it is right.
        let answer = guess(&world, "203.0.113.9", email, PASSWORD).await;
        assert_eq!(answer.refusal(), (429, "rate_limited"), "{email}");
        assert_eq!(answer.header("retry-after"), "1");
        let mut problem = answer.json();
        problem["request_id"].take();
        refused.push(problem);
    }
    assert_eq!(refused[0], refused[1]);
}

#[tokio::test]
async fn a_correct_password_resets_the_count_of_its_account() {
    let world = world();
    world.member("one").await;
    for _ in 0..3 {
        for _ in 0..9 {
            let answer = guess(&world, "198.51.100.1", "one@example.com", "canary-wrong").await;
            assert_eq!(answer.status, 401);
        }
        assert_eq!(guess(&world, "203.0.113.9", "one@example.com", PASSWORD).await.status, 200);
    }
}

#[tokio::test]
async fn guesses_from_one_address_are_limited_across_accounts() {
    let world = world();
    world.member("one").await;
    for n in 0..50 {
        let email = format!("user{n}@example.com");
        assert_eq!(guess(&world, "198.51.100.1", &email, "canary-wrong").await.status, 401);
    }
    let refused = guess(&world, "198.51.100.1", "one@example.com", PASSWORD).await;
    assert_eq!(refused.refusal(), (429, "rate_limited"));
    assert_eq!(guess(&world, "198.51.100.2", "one@example.com", PASSWORD).await.status, 200);
}

#[tokio::test]
async fn password_guesses_with_a_stolen_token_are_limited() {
    let world = World::new();
    let jwt = world.member("one").await;
    let body = json!({ "password": "canary-wrong" });
    for _ in 0..10 {
        let refused = world.post("/api/auth/delete-account", &jwt, body.clone()).await;
        assert_eq!(refused.refusal(), (403, "reauthentication_failed"));
    }
    let right = json!({ "password": PASSWORD });
    let refused = world.post("/api/auth/delete-account", &jwt, right).await;
    assert_eq!(refused.refusal(), (429, "rate_limited"));
}

#[tokio::test]
async fn nist_sp_800_63b_3_1_1_2_register_refuses_common_and_derived_passwords() {
    let world = World::new();
    for bad in ["password123", "qwertyuiop", "myoperator1", "you@example.com"] {
        let body = json!({ "email": "you@example.com", "username": "myoperator", "password": bad });
        let refused = world.post("/api/auth/register", "", body).await;
        assert_eq!(refused.refusal(), (422, "validation_failed"), "{bad}");
        assert_eq!(refused.pointers(), ["/password"]);
        assert!(!refused.text.contains(bad));
    }
    let published = "a-strong-password";
    let body =
        json!({ "email": "you@example.com", "username": "myoperator", "password": published });
    assert_eq!(world.post("/api/auth/register", "", body).await.status, 201);
}
