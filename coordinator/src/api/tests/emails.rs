//! Changing the mail address.

use jiff::SignedDuration;
use serde_json::json;

use super::post::{activity, deliver, is_open, log_in, only};
use crate::testing::{Answer, PASSWORD, World};

async fn change(world: &World, jwt: &str, email: &str) -> Answer {
    let body = json!({ "email": email, "password": PASSWORD });
    world.post("/api/auth/change-email", jwt, body).await
}

async fn confirm(world: &World, token: &str) -> Answer {
    world.post("/api/auth/confirm-email-change", "", json!({ "token": token })).await
}

#[tokio::test]
async fn a_change_is_confirmed_at_the_new_address_and_reported_to_the_old() {
    let world = World::new();
    let jwt = world.member("one").await;
    deliver(&world).await;
    assert_eq!(change(&world, &jwt, "uno@example.com").await.status, 200);
    let mails = deliver(&world).await;
    assert_eq!(mails.len(), 2, "{mails:?}");
    let token = only(&mails, "uno", "Confirm your new email address").token();
    assert!(!only(&mails, "one", "is to get another").text.contains("token="));
    // Nothing has changed yet.
    assert_eq!(log_in(&world, "uno@example.com", PASSWORD, "").await.status, 401);

    assert_eq!(confirm(&world, &token).await.status, 200);
    only(&deliver(&world).await, "one", "was changed");
    assert_eq!(log_in(&world, "one@example.com", PASSWORD, "").await.status, 401);
    let answer = log_in(&world, "uno@example.com", PASSWORD, "").await.json();
    assert_eq!(answer["user"]["email_verified"], true);
    assert!(is_open(&world, &jwt).await);
    let log = activity(&world, &jwt).await;
    assert_eq!(log[..3], ["logged_in", "email_changed", "email_change_requested"]);
    assert_eq!(confirm(&world, &token).await.refusal(), (400, "invalid_link"));
}

#[tokio::test]
async fn a_change_needs_the_password_and_an_unused_address() {
    let world = World::new();
    let jwt = world.member("one").await;
    world.member("two").await;
    deliver(&world).await;
    let body = json!({ "email": "uno@example.com", "password": "canary-wrong" });
    let refused = world.post("/api/auth/change-email", &jwt, body).await;
    assert_eq!(refused.refusal(), (403, "reauthentication_failed"));
    for email in ["TWO@example.com", "one@example.com", "no address"] {
        let refused = change(&world, &jwt, email).await;
        assert_eq!(refused.refusal(), (422, "validation_failed"), "{email}");
        assert_eq!(refused.pointers(), ["/email"]);
    }
    assert!(deliver(&world).await.is_empty());
}

#[tokio::test]
async fn only_the_newest_link_works_for_an_hour_while_the_address_is_unused() {
    let world = World::new();
    let jwt = world.member("one").await;
    change(&world, &jwt, "uno@example.com").await;
    let replaced = only(&deliver(&world).await, "uno", "Confirm").token();
    change(&world, &jwt, "un@example.com").await;
    let late = only(&deliver(&world).await, "un", "Confirm").token();
    assert_eq!(confirm(&world, &replaced).await.refusal(), (400, "invalid_link"));
    world.clock.advance(SignedDuration::from_hours(1));
    assert_eq!(confirm(&world, &late).await.refusal(), (400, "invalid_link"));

    change(&world, &jwt, "three@example.com").await;
    let token = only(&deliver(&world).await, "three", "Confirm").token();
    world.register("three").await;
    assert_eq!(confirm(&world, &token).await.pointers(), ["/email"]);
    assert!(confirm(&world, "nonsense").await.refusal() == (400, "invalid_link"));
}

#[tokio::test]
async fn links_sent_to_the_old_address_stop_working_after_the_change() {
    let world = World::new();
    let jwt = world.member("one").await;
    world.post("/api/auth/forgot-password", "", json!({ "email": "one@example.com" })).await;
    let former = only(&deliver(&world).await, "one", "Choose a new password").token();
    change(&world, &jwt, "uno@example.com").await;
    let token = only(&deliver(&world).await, "uno", "Confirm").token();
    assert_eq!(confirm(&world, &token).await.status, 200);
    let body = json!({ "token": former, "password": "canary-another-horse-2" });
    let refused = world.post("/api/auth/reset-password", "", body).await;
    assert_eq!(refused.refusal(), (400, "invalid_link"));
}

#[tokio::test]
async fn the_mailed_page_changes_nothing_until_its_button_is_pressed() {
    let world = World::new();
    let jwt = world.member("one").await;
    change(&world, &jwt, "uno@example.com").await;
    let token = only(&deliver(&world).await, "uno", "Confirm").token();
    let path = "/confirm-email-change";
    let page = world.get(&format!("{path}?token={token}"), "").await;
    assert_eq!(page.hidden("token"), token);
    let me = world.get("/api/auth/me", &jwt).await.json();
    assert_eq!(me["user"]["email"], "one@example.com");
    let pairs = [("token", token.as_str())];
    let press = || world.form(path, ("accept", "text/html"), &pairs);
    assert_eq!(press().await.status, 200);
    let me = world.get("/api/auth/me", &jwt).await.json();
    assert_eq!(me["user"]["email"], "uno@example.com");
    assert_eq!(press().await.status, 400);
}
