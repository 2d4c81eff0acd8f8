//! No secret appears in a log, an error or the database.

use std::sync::Arc;

use buddo_shared::model::secret::Secret;
use serde_json::{Value, json};

use super::authorize::{REDIRECT, VERIFIER, app, browser_login, code, request};
use super::post::{deliver, log_in, only, owner};
use crate::auth::totp::SharedSecret;
use crate::crypto::random::SystemRandom;
use crate::crypto::vault::Vault;
use crate::service::hosts::join;
use crate::service::master_key::{Rotation, Step};
use crate::service::{backup, failed_logins};
use crate::testing::{PASSWORD, World, heard};

/// Resets the password by a mailed link, enables one-time codes and logs in with them; returns
/// every secret involved.
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

/// Environment values, a join token and the keys, before and after the master key is rotated.
async fn on_the_machine(world: &World, access: &Value) -> Vec<String> {
    world.host(1, 4096).await;
    let value = "canary-environment-value";
    let body = json!({ "subdomain": "my-app", "image": "docker.io/library/nginx:latest",
        "tier": "buddo-starter", "env_vars": { "KEY": value } });
    let access = access.as_str().unwrap();
    let made = world.post("/api/deploy/apps", access, body).await;
    assert_eq!(made.status, 201, "{made:?}");
    let id = made.json()["deployment"]["id"].as_str().unwrap().to_owned();
    let restart = format!("/api/deploy/apps/{id}/restart");
    assert_eq!(world.post(&restart, access, json!({})).await.status, 200);
    let (state, now) = (&world.state, world.clock_now());
    let token =
        join::invite(&state.store, &state.ca, &SystemRandom, now, "host-2", None).await.unwrap();
    let mut secrets = vec![value.to_owned(), token.token.secret.expose().to_owned()];
    let keys = || {
        let file = std::fs::read_to_string(state.config.master_key()).unwrap();
        let keys: Vec<String> =
            file.lines().filter_map(|line| Some(line.split_once(' ')?.1.to_owned())).collect();
        keys.into_iter().filter(|key| key.len() > 20).collect::<Vec<_>>()
    };
    secrets.extend(keys());
    let vault = Arc::new(Vault::open_existing(&state.config.master_key()).unwrap());
    let mut rotation = Rotation::new(state.store.clone(), vault, &state.config.state_dir).unwrap();
    while rotation.step(&SystemRandom, now).await.unwrap() != Step::Ended {
        secrets.extend(keys());
    }
    for file in ["jwt.key", "signing.key", "ca.key"] {
        let text = std::fs::read_to_string(state.config.state_dir.join(file)).unwrap();
        secrets.extend(
            text.lines().filter(|line| line.len() > 20 && !line.contains("---")).map(str::to_owned),
        );
    }
    secrets.retain(|secret| secret.len() >= 12);
    secrets
}

/// Sends each secret in the wrong place: it is refused, and not echoed.
async fn misplaced(world: &World, secrets: &[String]) {
    for secret in secrets {
        for path in ["/api/auth/login", "/api/oauth/token", "/api/auth/reset-password"] {
            world
                .post(path, "", json!({ "email": [secret], "password": 5, "token": secret }))
                .await;
        }
        world.post("/api/auth/verify-email", "", json!({ "token": secret })).await;
        if secret.is_ascii() {
            world.get("/api/auth/me", secret).await;
            world.get("/api/deploy/apps", secret).await;
            world.get("/api/admin/accounts", secret).await;
        }
        let login = json!({ "email": "one@example.com", "password": secret, "totp_code": secret });
        world.post("/api/auth/login", "", login).await;
    }
}

/// Every row of every table.
fn rows(path: &std::path::Path) -> String {
    let database = rusqlite::Connection::open(path).unwrap();
    let mut tables =
        database.prepare("SELECT name FROM sqlite_schema WHERE type = 'table'").unwrap();
    let names: Vec<String> =
        tables.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
    let mut text = String::new();
    for name in names {
        let mut all = database.prepare(&format!("SELECT * FROM {name}")).unwrap();
        let columns = all.column_count();
        let mut rows = all.query([]).unwrap();
        while let Some(row) = rows.next().unwrap() {
            for index in 0..columns {
                use rusqlite::types::ValueRef;
                if let ValueRef::Text(bytes) | ValueRef::Blob(bytes) = row.get_ref(index).unwrap() {
                    text.push_str(&String::from_utf8_lossy(bytes));
                    text.push('\n');
                }
            }
        }
    }
    text
}

#[tokio::test]
async fn no_secret_is_logged_or_stored() {
    let (log, _guard) = heard();
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
    let on_the_machine = on_the_machine(&world, &cli["access_token"]).await;
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
    secrets.extend(on_the_machine);
    misplaced(&world, &secrets).await;
    failed_logins::write(&world.state).await.unwrap();
    let backup = world.state.config.state_dir.join("backup.db");
    backup::back_up(&world.state.config.database(), &backup, world.clock_now()).await.unwrap();
    let log = log.text().into_bytes();
    assert!(!log.is_empty(), "the log was captured");
    let mut places = vec![("log".to_owned(), log)];
    for entry in std::fs::read_dir(&world.state.config.state_dir).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if name.starts_with("coordinator.db") || name == "backup.db" {
            places.push((name, std::fs::read(&path).unwrap()));
        }
    }
    let names: Vec<&str> = places.iter().map(|(name, _)| &**name).collect();
    for name in ["coordinator.db", "coordinator.db-wal", "backup.db"] {
        assert!(names.contains(&name), "{names:?}");
    }
    let refusals = world.refusals.lock().unwrap().join("\n");
    assert!(refusals.len() > 1000, "{refusals}");
    places.push(("refusals".to_owned(), refusals.into_bytes()));
    // Rows as text as well, in case a page does not store them verbatim.
    places.push(("rows".to_owned(), rows(&backup).into_bytes()));
    for (place, bytes) in &places {
        for secret in &secrets {
            let found = bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
            assert!(!found, "{place} holds {secret}");
        }
    }
}
