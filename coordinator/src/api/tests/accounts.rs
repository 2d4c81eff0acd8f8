//! Register, log in, confirm; and where each token is accepted.

use std::time::Duration;

use buddo_runtime::clock::Clock as _;
use buddo_shared::model::id::AccountId;
use http::header::WWW_AUTHENTICATE;
use jiff::SignedDuration;
use rstest::rstest;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::auth::token::api_key::ApiKeyText;
use crate::auth::token::{PlainToken, PlainTokenKind, jwt};
use crate::tasks::mail::{self, Mailer};
use crate::testing::{PASSWORD, World};

#[tokio::test]
async fn register_responds_as_documented() {
    let world = World::new();
    let answer = world.register("myoperator").await;
    assert_eq!(answer.status, 201);
    let code = answer.json()["user"]["referral_code"].as_str().unwrap().to_owned();
    assert_eq!(code.len(), 10);
    insta::assert_json_snapshot!(answer.json(), {
        ".user.id" => "[id]", ".user.referral_code" => "[code]",
    }, @r#"
    {
      "user": {
        "email": "myoperator@example.com",
        "email_verified": false,
        "id": "[id]",
        "points": 0,
        "referral_code": "[code]",
        "registration_number": 1,
        "tier": "free",
        "username": "myoperator"
      }
    }
    "#);
    let body = json!({ "email": "b@example.com", "username": "second", "password": PASSWORD,
        "referral_code": code });
    let second = world.post("/api/auth/register", "", body).await.json();
    assert_eq!(second["user"]["registration_number"], 2);
}

#[rstest]
#[case(json!({ "email": "x" }), "/email")]
#[case(json!({ "username": "a b" }), "/username")]
#[case(json!({ "password": "short" }), "/password")]
#[case(json!({ "password": "x".repeat(1025) }), "/password")]
#[case(json!({ "referral_code": "NOBODY" }), "/referral_code")]
#[case(json!({ "email": "ONE@example.com" }), "/email")]
#[case(json!({ "username": "ONE" }), "/username")]
#[case(json!({ "username": 7 }), "/username")]
#[case(json!({ "admin": true }), "/admin")]
#[tokio::test]
async fn a_bad_registration_names_the_field_and_stores_nothing(
    #[case] change: Value,
    #[case] pointer: &str,
) {
    let world = World::new();
    world.register("one").await;
    let mut body = json!({ "email": "two@example.com", "username": "two", "password": PASSWORD });
    for (name, value) in change.as_object().unwrap() {
        body[name] = value.clone();
    }
    let answer = world.post("/api/auth/register", "", body).await;
    assert_eq!(answer.status, 422, "{answer:?}");
    assert_eq!(answer.json()["errors"][0]["pointer"], pointer, "{answer:?}");
    assert!(!answer.text.contains(PASSWORD));
    assert_eq!(world.register("next").await.json()["user"]["registration_number"], 2);
}

#[tokio::test]
async fn login_responds_as_documented() {
    let world = World::new();
    world.member("myoperator").await;
    let body = json!({ "email": "MyOperator@Example.com", "password": PASSWORD });
    let answer = world.post("/api/auth/login", "", body).await;
    assert_eq!(answer.header("cache-control"), "no-store");
    insta::assert_json_snapshot!(answer.json(), { ".token" => "[jwt]", ".user.id" => "[id]" }, @r#"
    {
      "token": "[jwt]",
      "user": {
        "email": "myoperator@example.com",
        "email_verified": true,
        "id": "[id]",
        "is_admin": false,
        "tier": "free",
        "totp_enabled": false,
        "username": "myoperator"
      }
    }
    "#);
    let token = answer.json()["token"].as_str().unwrap().to_owned();
    let me = world.get("/api/auth/me", &token).await.json();
    assert_eq!(me["user"]["username"], "myoperator");
    assert_eq!(me["user"]["registration_number"], 1);
}

#[tokio::test]
async fn a_wrong_password_and_an_unknown_email_get_the_same_response() {
    let world = World::new();
    world.member("one").await;
    let ask = async |email: &str, password: &str| {
        let body = json!({ "email": email, "password": password });
        let answer = world.post("/api/auth/login", "", body).await;
        assert_eq!(answer.status, 401);
        let mut problem = answer.json();
        problem["request_id"].take();
        problem
    };
    let wrong = ask("one@example.com", "canary-password-2").await;
    assert_eq!(wrong["code"], "invalid_credentials");
    assert_eq!(wrong, ask("two@example.com", PASSWORD).await);
    assert_eq!(wrong, ask("no address", PASSWORD).await);
    assert_eq!(wrong, ask("one@example.com", &"x".repeat(5000)).await);
}

#[tokio::test]
async fn rfc6750_3_missing_credentials_get_a_challenge_without_an_error() {
    let world = World::new();
    for path in ["/api/auth/me", "/api/oauth/my-apps", "/api/deploy/apps"] {
        let answer = world.get(path, "").await;
        assert_eq!(answer.status, 401, "{path}");
        assert_eq!(answer.header("www-authenticate"), r#"Bearer realm="buddo""#, "{path}");
        assert_eq!(answer.json()["code"], "token_missing");
    }
}

#[tokio::test]
async fn rfc6750_3_1_an_unknown_or_forged_token_is_invalid() {
    let world = World::new();
    let jwt = world.member("one").await;
    // Valid in form and signature: only the look-up shows that they do not exist.
    let random = &*world.state.random;
    let login = jwt::Login {
        account: AccountId::new(Uuid::from_u128(1)),
        epoch: 0,
        session: Uuid::from_u128(2),
    };
    let unknown_login = world.state.auth.jwt.issue(login, world.clock.now()).unwrap();
    let unknown_access = PlainToken::generate(PlainTokenKind::Access, random).into_secret();
    let unknown_key = ApiKeyText::generate(random).into_secret();
    // Signed with another key, over correct claims.
    let (claims, _) = jwt.rsplit_once('.').unwrap();
    let (_, foreign) = unknown_login.expose().rsplit_once('.').unwrap();
    let forged = format!("{claims}.{foreign}");
    // `invalid_token` is checked after the kind: each path gets its own kind.
    let (logins, programs) = ("/api/auth/me", "/api/deploy/apps");
    let invalid = r#"Bearer realm="buddo", error="invalid_token""#;
    for (path, token) in [
        (logins, unknown_login.expose()),
        (logins, &*forged),
        (logins, "eyJhbGciOiJub25lIn0.e30."),
        (programs, unknown_access.expose()),
        (programs, unknown_key.expose()),
        (programs, "buddo_at_x"),
        (programs, "x"),
    ] {
        let answer = world.get(path, token).await;
        assert_eq!(answer.refusal(), (401, "invalid_token"), "{path} {token}");
        assert_eq!(answer.headers[WWW_AUTHENTICATE], invalid, "{path} {token}");
    }
    assert_eq!(world.get(logins, &jwt).await.status, 200);
}

#[tokio::test]
async fn rfc8725_3_12_login_and_access_tokens_are_not_interchangeable() {
    let world = World::new();
    let jwt = world.member("one").await;
    let tokens = world.cli_tokens(&jwt).await;
    let access = tokens["access_token"].as_str().unwrap();

    let answer = world.get("/api/deploy/apps", &jwt).await;
    assert_eq!(
        (answer.status.as_u16(), answer.json()["code"].clone()),
        (401, json!("wrong_token_kind"))
    );
    assert!(answer.json()["detail"].as_str().unwrap().contains("OAuth access token"));

    for path in ["/api/auth/me", "/api/oauth/my-apps"] {
        let answer = world.get(path, access).await;
        assert_eq!(answer.status, 401);
        assert!(answer.json()["detail"].as_str().unwrap().contains("/api/auth/login"));
    }
    let refresh = tokens["refresh_token"].as_str().unwrap();
    assert_eq!(world.get("/api/deploy/apps", refresh).await.status, 401);
    assert_eq!(world.get("/api/deploy/apps", access).await.status, 200);
}

#[tokio::test]
async fn a_login_ends_after_30_days() {
    let world = World::new();
    let jwt = world.member("one").await;
    world.clock.advance(SignedDuration::from_hours(30 * 24));
    assert_eq!(world.get("/api/auth/me", &jwt).await.json()["code"], "invalid_token");
}

/// The token in the newest mail, once `count` have been written.
async fn mailed_token(world: &World, count: usize) -> String {
    let directory = world.state.config.state_dir.join("mail");
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    loop {
        let mut mails: Vec<_> = std::fs::read_dir(&directory)
            .map(|files| files.map(|file| file.unwrap().path()).collect())
            .unwrap_or_default();
        mails.sort_by_key(|path| std::fs::metadata(path).unwrap().modified().unwrap());
        let newest = mails.last().filter(|_| mails.len() >= count);
        let text = newest.map(|path| std::fs::read_to_string(path).unwrap()).unwrap_or_default();
        // Soft line breaks of quoted-printable.
        let text = text.replace("=\r\n", "").replace("=3D", "=");
        if let Some((_, rest)) = text.split_once("/verify-email?token=") {
            return rest
                .chars()
                .take_while(|c| c.is_ascii_alphanumeric() || "-_".contains(*c))
                .collect();
        }
        assert!(tokio::time::Instant::now() < deadline, "no mail in {}", directory.display());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn send_mail(world: &World) -> tokio::task::JoinHandle<()> {
    let config = &world.state.config;
    let mailer = Mailer::new(&config.mail, &config.state_dir).unwrap();
    tokio::spawn(mail::run(world.state.clone(), mailer))
}

#[tokio::test]
async fn a_mailed_link_works_once_within_24_hours() {
    let world = World::new();
    // Nothing is sent yet: the mail waits in the database.
    world.register("one").await;
    let jwt = world.log_in("one").await;
    let task = send_mail(&world);
    let token = mailed_token(&world, 1).await;
    let verify = |token: &str| world.post("/api/auth/verify-email", "", json!({ "token": token }));

    world.clock.advance(SignedDuration::from_hours(24));
    let late = verify(&token).await;
    assert_eq!(
        (late.status.as_u16(), late.json()["code"].clone()),
        (400, json!("invalid_verification_token"))
    );

    assert_eq!(world.post("/api/auth/send-verification", &jwt, json!({})).await.status, 200);
    let token = mailed_token(&world, 2).await;
    let page = world.get(&format!("/verify-email?token={token}"), "").await;
    assert_eq!(page.hidden("token"), token);
    assert_eq!(world.get("/api/auth/me", &jwt).await.json()["user"]["email_verified"], false);
    let answer = verify(&token).await;
    assert_eq!(
        (answer.status.as_u16(), answer.text.as_str()),
        (200, r#"{"message":"Email verified"}"#)
    );
    assert_eq!(world.get("/api/auth/me", &jwt).await.json()["user"]["email_verified"], true);
    assert_eq!(verify(&token).await.status, 400, "single use");
    assert_eq!(verify("nonsense").await.status, 400);
    world.state.drain.cancel();
    task.await.unwrap();
}
