//! Passwords: forgotten, reset, changed.

use jiff::SignedDuration;
use rstest::rstest;
use serde_json::json;

use super::authorize::{REDIRECT, VERIFIER, app, browser_login, code, request};
use super::keys::{key, own_team};
use super::post::{activity, deliver, deploys, is_open, log_in, only};
use crate::testing::{Answer, PASSWORD, World};

const NEW: &str = "canary-another-horse-2";

async fn forgot(world: &World, email: &str) -> Answer {
    world.post("/api/auth/forgot-password", "", json!({ "email": email })).await
}

async fn reset(world: &World, token: &str, password: &str) -> Answer {
    let body = json!({ "token": token, "password": password });
    world.post("/api/auth/reset-password", "", body).await
}

/// The token of a mail to `name`.
async fn mailed_token(world: &World, name: &str) -> String {
    assert_eq!(forgot(world, &format!("{name}@example.com")).await.status, 200);
    only(&deliver(world).await, name, "Choose a new password").token()
}

#[tokio::test]
async fn forgot_password_answers_alike_for_known_and_unknown_addresses() {
    let world = World::new();
    world.member("one").await;
    deliver(&world).await;
    let known = forgot(&world, "One@example.com").await;
    assert_eq!(known.status, 200);
    assert!(known.json()["message"].is_string());
    for email in ["two@example.com", "no address", ""] {
        let unknown = forgot(&world, email).await;
        assert_eq!((unknown.status, &unknown.text), (known.status, &known.text), "{email}");
    }
    let mails = deliver(&world).await;
    assert_eq!(mails.len(), 1, "{mails:?}");
    assert_eq!(mails[0].to, "one@example.com");
    assert_eq!(forgot(&world, "two@example.com").await.status, 200);
    assert!(deliver(&world).await.is_empty());
}

#[tokio::test]
async fn a_reset_link_works_once_and_for_an_hour() {
    let world = World::new();
    world.member("one").await;
    let late = mailed_token(&world, "one").await;
    world.clock.advance(SignedDuration::from_hours(1));
    assert_eq!(reset(&world, &late, NEW).await.refusal(), (400, "invalid_link"));
    let token = mailed_token(&world, "one").await;
    world.clock.advance(SignedDuration::from_secs(3599));
    assert_eq!(reset(&world, &token, NEW).await.status, 200);
    assert_eq!(reset(&world, &token, NEW).await.refusal(), (400, "invalid_link"));
    for bad in ["", "nonsense", "buddo_pr_", late.as_str()] {
        assert_eq!(reset(&world, bad, NEW).await.refusal(), (400, "invalid_link"), "{bad}");
    }
    let email = "one@example.com";
    assert_eq!(log_in(&world, email, PASSWORD, "").await.refusal(), (401, "invalid_credentials"));
    assert_eq!(log_in(&world, email, NEW, "").await.status, 200);
}

#[tokio::test]
async fn a_reset_ends_every_session_and_token_of_its_account_only() {
    let world = World::new();
    let jwt = world.member("one").await;
    let other = world.member("two").await;
    let tokens = world.cli_tokens(&jwt).await;
    let access = tokens["access_token"].as_str().unwrap();
    let app = app(&world, &jwt).await;
    let path = request(&app["client_id"], &[]);
    let browser = browser_login(&world, "one", &path).await;
    let token = mailed_token(&world, "one").await;
    assert!(is_open(&world, &jwt).await && deploys(&world, access).await);
    assert!(world.browse(&path, &browser).await.text.contains("Allow"));

    assert_eq!(reset(&world, &token, NEW).await.status, 200);
    assert!(!is_open(&world, &jwt).await);
    assert!(!deploys(&world, access).await);
    let body = json!({ "grant_type": "refresh_token", "client_id": "buddo-cli",
        "refresh_token": tokens["refresh_token"] });
    let refreshed = world.post("/api/oauth/token", "", body).await;
    assert_eq!(refreshed.json()["error"], "invalid_grant");
    assert!(!world.browse(&path, &browser).await.text.contains("Allow"));
    assert!(is_open(&world, &other).await);

    only(&deliver(&world).await, "one", "was changed");
    let again = log_in(&world, "one@example.com", NEW, "").await.json();
    let log = activity(&world, again["token"].as_str().unwrap()).await;
    assert_eq!(log[..3], ["logged_in", "password_reset", "password_reset_requested"]);
}

#[tokio::test]
async fn a_reset_voids_every_other_link_of_the_account() {
    let world = World::new();
    let jwt = world.member("one").await;
    let body = json!({ "email": "thief@example.com", "password": PASSWORD });
    assert_eq!(world.post("/api/auth/change-email", &jwt, body).await.status, 200);
    let stolen = only(&deliver(&world).await, "thief", "Confirm").token();
    let first = mailed_token(&world, "one").await;
    let second = mailed_token(&world, "one").await;
    assert_eq!(reset(&world, &second, NEW).await.status, 200);
    assert_eq!(reset(&world, &first, NEW).await.refusal(), (400, "invalid_link"));
    let body = json!({ "token": stolen });
    let refused = world.post("/api/auth/confirm-email-change", "", body).await;
    assert_eq!(refused.refusal(), (400, "invalid_link"));
}

#[tokio::test]
async fn a_refused_password_does_not_use_the_link_up() {
    let world = World::new();
    world.member("one").await;
    let token = mailed_token(&world, "one").await;
    for bad in ["x7!q2", "password123", "one@example.com", &"x".repeat(129)] {
        let refused = reset(&world, &token, bad).await;
        assert_eq!(refused.refusal(), (422, "validation_failed"), "{bad}");
        assert_eq!(refused.pointers(), ["/password"]);
        assert!(!refused.text.contains(bad), "{refused:?}");
    }
    assert_eq!(reset(&world, &token, NEW).await.status, 200);
}

#[tokio::test]
async fn using_a_reset_link_verifies_the_address() {
    let world = World::new();
    world.register("one").await;
    let token = mailed_token(&world, "one").await;
    assert_eq!(reset(&world, &token, NEW).await.status, 200);
    let answer = log_in(&world, "one@example.com", NEW, "").await.json();
    assert_eq!(answer["user"]["email_verified"], true);
}

#[tokio::test]
async fn an_account_gets_at_most_three_reset_mails_an_hour() {
    let world = World::new();
    world.member("one").await;
    deliver(&world).await;
    for sent in [1, 1, 1, 0] {
        forgot(&world, "one@example.com").await;
        forgot(&world, "one@example.com").await;
        assert_eq!(deliver(&world).await.len(), sent);
    }
    world.clock.advance(SignedDuration::from_mins(61));
    forgot(&world, "one@example.com").await;
    assert_eq!(deliver(&world).await.len(), 1);
}

#[tokio::test]
async fn an_address_may_ask_for_five_resets_an_hour() {
    let world = World::published();
    for _ in 0..5 {
        let answer = forgot(&world, "nobody@example.com").await;
        assert_eq!(answer.status, 200);
        assert_eq!(answer.header("ratelimit-policy"), r#""default";q=5;w=3600"#);
    }
    assert_eq!(forgot(&world, "nobody@example.com").await.refusal(), (429, "rate_limited"));
}

#[tokio::test]
async fn the_mailed_page_resets_the_password_without_a_script() {
    let world = World::new();
    world.member("one").await;
    let token = mailed_token(&world, "one").await;
    let page = world.get(&format!("/reset-password?token={token}"), "").await;
    assert_eq!(page.hidden("token"), token);
    assert!(page.header("content-security-policy").contains("frame-ancestors 'none'"));
    assert_eq!(page.header("referrer-policy"), "no-referrer");
    let send = async |password: &str| {
        let pairs = [("token", token.as_str()), ("password", password)];
        world.form("/reset-password", ("accept", "text/html"), &pairs).await
    };
    let refused = send("password123").await;
    assert_eq!(refused.status, 422);
    assert_eq!(refused.hidden("token"), token);
    assert!(refused.text.contains("first that an attacker tries"), "{refused:?}");
    assert!(!refused.text.contains("password123"));
    assert_eq!(send(NEW).await.status, 200);
    assert_eq!(send(NEW).await.status, 400);
    assert_eq!(log_in(&world, "one@example.com", NEW, "").await.status, 200);
}

/// Whether an API key and an app still work after the password was changed.
async fn others_after_a_change(keep: Option<bool>) -> (bool, bool) {
    let world = World::new();
    let jwt = world.member("one").await;
    let team = own_team(&world, &jwt).await;
    let (_, key) = key(&world, &jwt, &team, &["deployments:read"]).await;
    let app = app(&world, &jwt).await;
    let code = code(&world, "one", &app).await;
    let redeem = json!({ "grant_type": "authorization_code", "client_id": app["client_id"],
        "client_secret": app["client_secret"], "code": code, "redirect_uri": REDIRECT,
        "code_verifier": VERIFIER });
    let tokens = world.post("/api/oauth/token", "", redeem).await.json();
    let access = tokens["access_token"].as_str().unwrap();
    assert!(deploys(&world, &key).await && deploys(&world, access).await);
    let mut body = json!({ "current_password": PASSWORD, "new_password": NEW });
    if let Some(keep) = keep {
        body["keep_keys_and_apps"] = json!(keep);
    }
    assert_eq!(world.post("/api/auth/change-password", &jwt, body).await.status, 200);
    assert!(is_open(&world, &jwt).await);
    (deploys(&world, &key).await, deploys(&world, access).await)
}

#[tokio::test]
async fn a_password_change_revokes_keys_and_apps_unless_asked_to_keep_them() {
    assert_eq!(others_after_a_change(None).await, (false, false));
    assert_eq!(others_after_a_change(Some(false)).await, (false, false));
    assert_eq!(others_after_a_change(Some(true)).await, (true, true));
}

#[tokio::test]
async fn password_guessing_does_not_lock_out_a_known_browser_or_session() {
    let world = World::new();
    let jwt = world.member("one").await;
    let email = "one@example.com";
    let known = log_in(&world, email, PASSWORD, "").await.cookie();
    assert!(known.contains("__Host-buddo_device="), "{known}");
    let mut refused = false;
    for _ in 0..20 {
        refused = log_in(&world, email, "canary-guess", "").await.status == 429;
        if refused {
            break;
        }
    }
    assert!(refused, "twenty guesses are not held up");
    let log_in_with = async |cookie: &str| {
        let body = json!({ "email": email, "password": PASSWORD }).to_string();
        let request = http::Request::post("/api/auth/login")
            .header("content-type", "application/json")
            .header("cookie", cookie);
        world.send(request.body(body.into()).unwrap()).await.status.as_u16()
    };
    assert_eq!(log_in_with("").await, 429, "a stranger waits, with the right password, too");
    assert_eq!(log_in_with("__Host-buddo_device=AAAA").await, 429);
    assert_eq!(log_in_with(&known).await, 200);
    let body = json!({ "current_password": PASSWORD, "new_password": NEW });
    assert_eq!(world.post("/api/auth/change-password", &jwt, body).await.status, 200);
}

#[tokio::test]
async fn a_password_change_needs_the_old_password_and_ends_other_sessions() {
    let world = World::new();
    let here = world.member("one").await;
    let there = world.log_in("one").await;
    let ours = world.cli_tokens(&here).await["access_token"].as_str().unwrap().to_owned();
    let theirs = world.cli_tokens(&there).await["access_token"].as_str().unwrap().to_owned();
    deliver(&world).await;
    let change = async |old: &str, new: &str| {
        let body = json!({ "current_password": old, "new_password": new });
        world.post("/api/auth/change-password", &here, body).await
    };
    let refused = change("canary-not-the-one", NEW).await;
    assert_eq!(refused.refusal(), (403, "reauthentication_failed"));
    let refused = change(PASSWORD, "iloveyou1").await;
    assert_eq!(refused.pointers(), ["/new_password"], "{refused:?}");
    assert!(is_open(&world, &there).await, "a refusal changes nothing");

    assert_eq!(change(PASSWORD, NEW).await.status, 200);
    assert!(is_open(&world, &here).await && deploys(&world, &ours).await);
    assert!(!is_open(&world, &there).await);
    assert!(!deploys(&world, &theirs).await);
    only(&deliver(&world).await, "one", "password");
    assert_eq!(activity(&world, &here).await[0], "password_changed");
    assert_eq!(log_in(&world, "one@example.com", NEW, "").await.status, 200);
}

#[rstest]
#[case("change-password", json!({ "current_password": PASSWORD, "new_password": NEW }))]
#[case("change-email", json!({ "email": "x@example.com", "password": PASSWORD }))]
#[case("totp/enroll", json!({ "password": PASSWORD }))]
#[case("totp/confirm", json!({ "code": "123456" }))]
#[case("totp/disable", json!({ "password": PASSWORD }))]
#[case("totp/recovery-codes", json!({ "password": PASSWORD }))]
#[case("logout", json!({}))]
#[case("delete-account", json!({ "password": PASSWORD }))]
#[tokio::test]
async fn account_changes_need_a_login_token(#[case] act: &str, #[case] body: serde_json::Value) {
    let world = World::new();
    let jwt = world.member("one").await;
    let access = world.cli_tokens(&jwt).await["access_token"].as_str().unwrap().to_owned();
    let path = format!("/api/auth/{act}");
    assert_eq!(world.post(&path, "", body.clone()).await.refusal(), (401, "token_missing"));
    let refused = world.post(&path, &access, body).await;
    assert_eq!(refused.refusal(), (401, "wrong_token_kind"));
}
