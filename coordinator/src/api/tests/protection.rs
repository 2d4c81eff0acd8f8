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
async fn guesses_at_one_account_have_to_wait_wherever_they_come_from_known_or_not() {
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
async fn a_right_password_starts_the_count_of_its_account_anew() {
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
async fn guesses_from_one_address_have_to_wait_whichever_accounts_they_are_at() {
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
async fn a_stolen_token_cannot_guess_the_password_either() {
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
async fn nist_sp_800_63b_3_1_1_2_register_refuses_common_passwords_and_the_accounts_own_names() {
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
