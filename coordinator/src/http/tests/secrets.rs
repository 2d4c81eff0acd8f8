//! No secret value stands in a log, an error or the database.

use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tracing_subscriber::fmt::MakeWriter;

use super::authorize::{REDIRECT, VERIFIER, app, browser_login, code, request};
use super::post::{deliver, log_in, only, owner};
use crate::testing::{PASSWORD, World};
use crate::totp::SharedSecret;
use buddo_shared::secret::Secret;

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

/// Resets the password by a mailed link, enables one-time codes and logs in with them: whatever
/// is secret of all that.
async fn secrets_of_an_account(world: &World, jwt: &str) -> Vec<String> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let enrolled = world.post("/api/auth/totp/enroll", jwt, owner("")).await.json();
    let secret = text(&enrolled["secret"]);
    let app = SharedSecret::from_base32(&Secret::new(secret.clone())).unwrap();
    let body = json!({ "code": app.code_at(world.clock_now()) });
    let codes = world.post("/api/auth/totp/confirm", jwt, body).await.json();
    let codes: Vec<String> = codes["recovery_codes"].as_array().unwrap().iter().map(text).collect();
    let email = "one@example.com";
    let wrong = "canary-wrong-code-12";
    assert_eq!(log_in(world, email, PASSWORD, wrong).await.status, 401);
    assert_eq!(log_in(world, email, PASSWORD, &codes[0]).await.status, 200);
    world.post("/api/auth/forgot-password", "", json!({ "email": email })).await;
    let token = only(&deliver(world).await, "one", "Choose a new password").token();
    let new = "canary-quite-another-2";
    let body = json!({ "token": token, "password": new });
    assert_eq!(world.post("/api/auth/reset-password", "", body).await.status, 200);
    let letters = codes.iter().map(|code| code.replace('-', ""));
    let letters: Vec<String> = letters.collect();
    [secret, wrong.to_owned(), token, new.to_owned()]
        .into_iter()
        .chain(codes)
        .chain(letters)
        .collect()
}

#[tokio::test]
async fn no_secret_is_logged_or_stored() {
    let log = Log::default();
    let subscriber = tracing_subscriber::fmt()
        .with_writer(log.clone())
        .with_max_level(tracing::Level::TRACE)
        .finish();
    let _guard = tracing::subscriber::set_default(subscriber);

    let world = World::new();
    world.register("two").await;
    let verification = only(&deliver(&world).await, "two", "Confirm").token();
    let jwt = world.member("one").await;
    let app = app(&world, &jwt).await;
    let session = browser_login(&world, "one", &request(&app["client_id"], &[])).await;
    let code = code(&world, "one", &app).await;
    let body = json!({
        "grant_type": "authorization_code", "code": code, "redirect_uri": REDIRECT,
        "client_id": app["client_id"], "client_secret": app["client_secret"],
        "code_verifier": VERIFIER,
    });
    let tokens = world.post("/api/oauth/token", "", body).await.json();
    let cli = world.cli_tokens(&jwt).await;
    world.get("/api/deploy/apps", cli["access_token"].as_str().unwrap()).await;
    world
        .post(
            "/api/auth/login",
            "",
            json!({ "email": "one@example.com", "password": "canary-wrong" }),
        )
        .await;
    let start = json!({ "client_id": "buddo-cli" });
    let device = world.post("/api/oauth/device_authorization", "", start).await.json();
    let page = format!("/device?user_code={}", device["user_code"].as_str().unwrap());
    world.browse(&page, &session).await;
    let poll = json!({ "grant_type": "urn:ietf:params:oauth:grant-type:device_code",
        "client_id": "buddo-cli", "device_code": device["device_code"] });
    world.post("/api/oauth/token", "", poll).await;
    let rotate = format!("/api/oauth/apps/{}/secret", app["client_id"].as_str().unwrap());
    let overlap = json!({ "keep_old_seconds": 60 });
    let rotated = world.post(&rotate, &jwt, overlap).await.json();
    let of_account = secrets_of_an_account(&world, &jwt).await;

    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let mut secrets = vec![
        PASSWORD.to_owned(),
        "canary-wrong".to_owned(),
        jwt,
        code,
        session.split_once('=').unwrap().1.to_owned(),
        VERIFIER.to_owned(),
        verification,
        text(&app["client_secret"]),
        text(&tokens["access_token"]),
        text(&tokens["refresh_token"]),
        text(&cli["access_token"]),
        text(&cli["refresh_token"]),
        text(&device["device_code"]),
        text(&device["user_code"]),
        text(&device["user_code"]).replace('-', ""),
        text(&rotated["app"]["client_secret"]),
    ];
    secrets.extend(of_account);
    let log = log.0.lock().unwrap().clone();
    assert!(!log.is_empty(), "the log was captured");
    let mut places = vec![("log".to_owned(), log)];
    for entry in std::fs::read_dir(&world.state.config.state_dir).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if name.starts_with("coordinator.db") {
            places.push((name, std::fs::read(&path).unwrap()));
        }
    }
    assert!(places.len() >= 2, "the database was read");
    for (place, bytes) in &places {
        for secret in &secrets {
            let found = bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
            assert!(!found, "{place} holds {secret}");
        }
    }
}
