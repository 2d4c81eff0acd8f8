//! The second factor by its routes.

use buddo_shared::model::secret::Secret;
use jiff::SignedDuration;
use serde_json::{Value, json};

use super::authorize::{app, request};
use super::post::{activity, deliver, is_open, log_in, only, owner};
use crate::auth::totp::SharedSecret;
use crate::testing::{Answer, PASSWORD, World};

const EMAIL: &str = "one@example.com";

/// An authenticator app.
struct App(SharedSecret);

impl App {
    fn code(&self, world: &World) -> String {
        self.0.code_at(world.clock_now())
    }

    /// An unused code, by waiting for the next one.
    fn next(&self, world: &World) -> String {
        world.clock.advance(SignedDuration::from_secs(30));
        self.code(world)
    }
}

fn texts(list: &Value) -> Vec<String> {
    list.as_array().unwrap().iter().map(|text| text.as_str().unwrap().to_owned()).collect()
}

async fn enroll(world: &World, jwt: &str) -> App {
    let answer = world.post("/api/auth/totp/enroll", jwt, owner("")).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let secret = answer.json()["secret"].as_str().unwrap().to_owned();
    App(SharedSecret::from_base32(&Secret::new(secret)).unwrap())
}

/// Enables the second factor; returns its app and the recovery codes.
async fn enable(world: &World, jwt: &str) -> (App, Vec<String>) {
    let app = enroll(world, jwt).await;
    let body = json!({ "code": app.code(world) });
    let answer = world.post("/api/auth/totp/confirm", jwt, body).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    (app, texts(&answer.json()["recovery_codes"]))
}

async fn login(world: &World, code: &str) -> Answer {
    log_in(world, EMAIL, PASSWORD, code).await
}

#[tokio::test]
async fn a_secret_takes_effect_once_confirmed_with_a_code() {
    let world = World::new();
    let jwt = world.member("one").await;
    deliver(&world).await;
    let wrong = world.post("/api/auth/totp/enroll", &jwt, json!({ "password": "x" })).await;
    assert_eq!(wrong.refusal(), (403, "reauthentication_failed"));
    let answer = world.post("/api/auth/totp/enroll", &jwt, owner("")).await;
    assert_eq!(answer.header("cache-control"), "no-store");
    let shown = answer.json();
    assert!(shown["otpauth_uri"].as_str().unwrap().starts_with("otpauth://totp/Buddo:one"));
    assert!(shown["qr_svg"].as_str().unwrap().contains("<svg "));
    // Merely proposed, it changes no login.
    assert_eq!(login(&world, "").await.status, 200);

    let app = enroll(&world, &jwt).await;
    let refused = world.post("/api/auth/totp/confirm", &jwt, json!({ "code": "000000" })).await;
    assert_eq!(refused.pointers(), ["/code"], "{refused:?}");
    let body = json!({ "code": app.code(&world) });
    let answer = world.post("/api/auth/totp/confirm", &jwt, body.clone()).await;
    assert_eq!(texts(&answer.json()["recovery_codes"]).len(), 10);
    assert_eq!(answer.header("cache-control"), "no-store");
    let again = world.post("/api/auth/totp/confirm", &jwt, body).await;
    assert_eq!(again.refusal(), (409, "totp_already_enabled"));
    let again = world.post("/api/auth/totp/enroll", &jwt, owner("")).await;
    assert_eq!(again.refusal(), (409, "totp_already_enabled"));
    only(&deliver(&world).await, "one", "codes are enabled");
    let me = world.get("/api/auth/me", &jwt).await.json();
    assert_eq!(me["user"]["totp_enabled"], true);
    assert_eq!(me["user"]["recovery_codes_left"], 10);
    assert_eq!(activity(&world, &jwt).await[0], "totp_enabled");
}

#[tokio::test]
async fn an_unverified_email_cannot_enable_totp() {
    let world = World::new();
    world.register("one").await;
    let jwt = world.log_in("one").await;
    let refused = world.post("/api/auth/totp/enroll", &jwt, owner("")).await;
    assert_eq!(refused.refusal(), (403, "email_unverified"));
    let refused = world.post("/api/auth/totp/confirm", &jwt, json!({ "code": "000000" })).await;
    assert_eq!(refused.refusal(), (409, "totp_not_enabled"));
}

#[tokio::test]
async fn login_without_a_valid_code_says_that_one_is_required() {
    let world = World::new();
    let jwt = world.member("one").await;
    let (app, _) = enable(&world, &jwt).await;
    for code in ["", " "] {
        let refused = login(&world, code).await;
        assert_eq!(refused.refusal(), (401, "totp_required"));
        assert_eq!(refused.json()["totp_required"], true);
    }
    let wrong = log_in(&world, EMAIL, "canary-wrong", "").await;
    assert_eq!(wrong.refusal(), (401, "invalid_credentials"));
    assert_eq!(wrong.json()["totp_required"], Value::Null, "a wrong password learns nothing");
    let refused = login(&world, "000000").await;
    assert_eq!(refused.refusal(), (401, "invalid_totp_code"));
    assert_eq!(refused.json()["totp_required"], true);
    let answer = login(&world, &app.next(&world)).await;
    assert_eq!(
        (answer.status.as_u16(), &answer.json()["user"]["totp_enabled"]),
        (200, &json!(true))
    );
}

#[tokio::test]
async fn rfc6238_5_2_a_code_is_accepted_once() {
    let world = World::new();
    let jwt = world.member("one").await;
    let (app, _) = enable(&world, &jwt).await;
    // The code that confirmed the secret counts as used, too.
    assert_eq!(login(&world, &app.code(&world)).await.refusal(), (401, "invalid_totp_code"));
    let earlier = app.next(&world);
    let code = app.next(&world);
    assert_eq!(login(&world, &code).await.status, 200);
    assert_eq!(login(&world, &code).await.refusal(), (401, "invalid_totp_code"));
    // Nor an earlier one, though it is within the drift.
    assert_eq!(login(&world, &earlier).await.refusal(), (401, "invalid_totp_code"));
    let at_once = app.next(&world);
    let (first, second) = tokio::join!(login(&world, &at_once), login(&world, &at_once));
    let mut statuses = [first.status.as_u16(), second.status.as_u16()];
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 401]);
}

#[tokio::test]
async fn rfc6238_5_2_a_clock_one_step_off_is_tolerated() {
    let world = World::new();
    let jwt = world.member("one").await;
    let (app, _) = enable(&world, &jwt).await;
    world.clock.advance(SignedDuration::from_secs(60));
    let slow = app.code(&world);
    world.clock.advance(SignedDuration::from_secs(30));
    assert_eq!(login(&world, &slow).await.status, 200);
    let too_slow = app.next(&world);
    world.clock.advance(SignedDuration::from_secs(60));
    assert_eq!(login(&world, &too_slow).await.refusal(), (401, "invalid_totp_code"));
}

#[tokio::test]
async fn a_recovery_code_works_once() {
    let world = World::new();
    let jwt = world.member("one").await;
    let (app, codes) = enable(&world, &jwt).await;
    deliver(&world).await;
    let typed = codes[0].to_uppercase().replace('-', " ");
    assert_eq!(login(&world, &typed).await.status, 200);
    assert_eq!(login(&world, &codes[0]).await.refusal(), (401, "invalid_totp_code"));
    only(&deliver(&world).await, "one", "recovery code");
    let me = world.get("/api/auth/me", &jwt).await.json();
    assert_eq!(me["user"]["recovery_codes_left"], 9);
    assert!(activity(&world, &jwt).await.contains(&"recovery_code_used".to_owned()));

    let body = owner(&app.next(&world));
    let renewed = world.post("/api/auth/totp/recovery-codes", &jwt, body).await;
    let renewed = texts(&renewed.json()["recovery_codes"]);
    assert_eq!(login(&world, &codes[1]).await.refusal(), (401, "invalid_totp_code"));
    assert_eq!(login(&world, &renewed[1]).await.status, 200);
}

#[tokio::test]
async fn another_accounts_recovery_code_is_refused() {
    let world = World::new();
    let one = world.member("one").await;
    let two = world.member("two").await;
    let (_, codes) = enable(&world, &one).await;
    enable(&world, &two).await;
    let answer = log_in(&world, "two@example.com", PASSWORD, &codes[0]).await;
    assert_eq!(answer.refusal(), (401, "invalid_totp_code"));
    assert_eq!(login(&world, &codes[0]).await.status, 200);
}

#[tokio::test]
async fn disabling_needs_the_password_and_a_code() {
    let world = World::new();
    let jwt = world.member("one").await;
    let none = world.post("/api/auth/totp/disable", &jwt, owner("")).await;
    assert_eq!(none.refusal(), (409, "totp_not_enabled"));
    let (app, codes) = enable(&world, &jwt).await;
    deliver(&world).await;
    let missing = world.post("/api/auth/totp/disable", &jwt, owner("")).await;
    assert_eq!(missing.refusal(), (403, "reauthentication_failed"));
    assert_eq!(missing.json()["totp_required"], true);
    let wrong = world.post("/api/auth/totp/disable", &jwt, owner("000000")).await;
    assert_eq!(wrong.refusal(), (403, "reauthentication_failed"));
    let body = json!({ "password": "canary-wrong", "totp_code": app.next(&world) });
    let wrong = world.post("/api/auth/totp/disable", &jwt, body).await;
    assert_eq!(wrong.refusal(), (403, "reauthentication_failed"));
    assert_eq!(login(&world, "").await.refusal(), (401, "totp_required"));

    let body = owner(&app.next(&world));
    assert_eq!(world.post("/api/auth/totp/disable", &jwt, body).await.status, 200);
    assert_eq!(login(&world, "").await.status, 200);
    only(&deliver(&world).await, "one", "codes are disabled");
    assert_eq!(activity(&world, &jwt).await[1], "totp_disabled");
    // After enabling them again, the previous codes are void.
    enable(&world, &jwt).await;
    assert_eq!(login(&world, &codes[0]).await.refusal(), (401, "invalid_totp_code"));
}

#[tokio::test]
async fn sensitive_actions_need_a_code_and_a_password_reset_keeps_totp() {
    let world = World::new();
    let jwt = world.member("one").await;
    let (app, _) = enable(&world, &jwt).await;
    let acts = [
        (
            "change-password",
            json!({ "current_password": PASSWORD, "new_password": "canary-horse-9x" }),
        ),
        ("change-email", json!({ "email": "uno@example.com", "password": PASSWORD })),
        ("delete-account", json!({ "password": PASSWORD })),
    ];
    for (act, body) in acts {
        let refused = world.post(&format!("/api/auth/{act}"), &jwt, body).await;
        assert_eq!(refused.refusal(), (403, "reauthentication_failed"), "{act}");
        assert_eq!(refused.json()["totp_required"], true, "{act}");
    }
    assert!(is_open(&world, &jwt).await);
    world.post("/api/auth/forgot-password", "", json!({ "email": EMAIL })).await;
    let token = only(&deliver(&world).await, "one", "Choose a new password").token();
    let body = json!({ "token": token, "password": PASSWORD });
    assert_eq!(world.post("/api/auth/reset-password", "", body).await.status, 200);
    assert_eq!(login(&world, "").await.refusal(), (401, "totp_required"));
    assert_eq!(login(&world, &app.next(&world)).await.status, 200);
}

#[tokio::test]
async fn code_guesses_are_rate_limited() {
    let world = World::new();
    let jwt = world.member("one").await;
    let (app, codes) = enable(&world, &jwt).await;
    for _ in 0..5 {
        assert_eq!(login(&world, "000000").await.refusal(), (401, "invalid_totp_code"));
    }
    let refused = login(&world, &app.next(&world)).await;
    assert_eq!(refused.refusal(), (429, "rate_limited"));
    assert_eq!(refused.header("retry-after"), "30");
    assert_eq!(login(&world, &codes[0]).await.status, 429, "nor by recovery codes");
}

#[tokio::test]
async fn the_login_page_takes_a_code() {
    let world = World::new();
    let jwt = world.member("one").await;
    let client = app(&world, &jwt).await;
    let (app, _) = enable(&world, &jwt).await;
    let path = request(&client["client_id"], &[]);
    let page = world.get(&path, "").await;
    let (csrf, query, cookie) = (page.hidden("csrf"), page.hidden("request"), page.cookie());
    let send = async |code: &str| {
        let pairs = [
            ("csrf", csrf.as_str()),
            ("request", &query),
            ("email", EMAIL),
            ("password", PASSWORD),
            ("totp_code", code),
        ];
        world.form("/api/oauth/authorize/login", ("cookie", &cookie), &pairs).await
    };
    let missing = send("").await;
    assert_eq!(missing.status, 401);
    assert!(missing.text.contains("wants a one-time code"), "{missing:?}");
    assert!(send("000000").await.text.contains("code is wrong"));
    assert_eq!(send(&app.next(&world)).await.status, 303);
}
