//! No secret value stands in a log, an error or the database.

use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tracing_subscriber::fmt::MakeWriter;

use super::authorize::{REDIRECT, VERIFIER, app, browser_login, code, request};
use crate::mail::{self, Mailer};
use crate::testing::{PASSWORD, World};

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

#[tokio::test]
async fn no_secret_is_logged_or_stored() {
    let log = Log::default();
    let subscriber = tracing_subscriber::fmt()
        .with_writer(log.clone())
        .with_max_level(tracing::Level::TRACE)
        .finish();
    let _guard = tracing::subscriber::set_default(subscriber);

    let world = World::new();
    let config = &world.state.config;
    let mailer = Mailer::new(&config.mail, &config.state_dir).unwrap();
    let mail = tokio::spawn(mail::run(world.state.clone(), mailer));
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
    world.state.drain.cancel();
    mail.await.unwrap();

    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let secrets = [
        PASSWORD.to_owned(),
        "canary-wrong".to_owned(),
        jwt,
        code,
        session.split_once('=').unwrap().1.to_owned(),
        VERIFIER.to_owned(),
        text(&app["client_secret"]),
        text(&tokens["access_token"]),
        text(&tokens["refresh_token"]),
        text(&cli["access_token"]),
        text(&cli["refresh_token"]),
    ];
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
