//! The end of an account.

use buddo_shared::model::id::Revision;
use serde_json::json;

use super::authorize::app;
use super::post::{deliver, deploys, is_open, log_in, only, owner};
use crate::store::StoreError;
use crate::testing::{PASSWORD, World, services};

#[tokio::test]
async fn deletion_destroys_deployments_and_ends_sessions_and_tokens() {
    let world = World::new();
    let (host, _) = world.host(1, 4096).await;
    let jwt = world.member("one").await;
    let access = world.cli_tokens(&jwt).await["access_token"].as_str().unwrap().to_owned();
    for name in ["app-a", "app-b"] {
        let body = json!({ "subdomain": name, "image": "docker.io/library/nginx:latest",
            "tier": "buddo-starter", "env_vars": { "KEY": "canary-env" } });
        let made = world.post("/api/deploy/apps", &access, body).await;
        assert_eq!(made.status, 201, "{made:?}");
    }
    let kept = world.operator("two").await;
    deliver(&world).await;
    let wrong = world.post("/api/auth/delete-account", &jwt, json!({ "password": "x" })).await;
    assert_eq!(wrong.refusal(), (403, "reauthentication_failed"));
    assert!(is_open(&world, &jwt).await);

    assert_eq!(world.post("/api/auth/delete-account", &jwt, owner("")).await.status, 200);
    assert!(!is_open(&world, &jwt).await);
    assert!(!deploys(&world, &access).await && deploys(&world, &kept).await);
    let answer = log_in(&world, "one@example.com", PASSWORD, "").await;
    assert_eq!(answer.refusal(), (401, "invalid_credentials"));
    let left: Result<_, StoreError> =
        world.state.store.read(move |tables| tables.deployments_for(host)).await;
    assert!(left.unwrap().is_empty());
    let mails = deliver(&world).await;
    assert_eq!(mails.len(), 1, "{mails:?}");
    only(&mails, "one", "is deleted");
    assert!(deliver(&world).await.is_empty());
    // Name and address are free again, the number is not.
    let again = world.register("one").await;
    assert_eq!(again.json()["user"]["registration_number"], 4, "{again:?}");
}

#[tokio::test]
async fn fm_64_an_account_with_unreadable_apps_can_be_deleted() {
    let world = World::new();
    let (host, _) = world.host(1, 4096).await;
    let jwt = world.member("one").await;
    let access = world.cli_tokens(&jwt).await["access_token"].as_str().unwrap().to_owned();
    for name in ["bad-row", "bad-revision", "good"] {
        let body = json!({ "subdomain": name, "image": "docker.io/library/nginx:latest",
            "tier": "buddo-starter", "env_vars": { "KEY": "canary-env" } });
        let made = world.post("/api/deploy/apps", &access, body).await;
        assert_eq!(made.status, 201, "{made:?}");
    }
    let database = rusqlite::Connection::open(world.state.config.database()).unwrap();
    database.pragma_update(None, "foreign_keys", false).unwrap();
    database
        .execute_batch(
            "UPDATE deployments SET team_id = 'no id' WHERE subdomain = 'bad-row';
             UPDATE revisions SET domains = 'no JSON' WHERE deployment_id =
                 (SELECT id FROM deployments WHERE subdomain = 'bad-revision');",
        )
        .unwrap();
    let answer = world.post("/api/auth/delete-account", &jwt, owner("")).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert!(!is_open(&world, &jwt).await);
    let left: Result<_, StoreError> =
        world.state.store.read(move |tables| tables.deployments_for(host)).await;
    assert!(left.unwrap().is_empty());
    let count = |sql: &str| -> i64 { database.query_row(sql, [], |row| row.get(0)).unwrap() };
    assert_eq!(count("SELECT count(*) FROM audit WHERE action = 'destroy'"), 3);
    assert_eq!(count("SELECT count(*) FROM services WHERE env IS NOT NULL"), 0);
    assert_eq!(count("SELECT count(*) FROM deployments WHERE subdomain <> 'erased'"), 0);
}

#[tokio::test]
async fn deletion_leaves_only_ids() {
    let world = World::new();
    world.host(1, 4096).await;
    let jwt = world.member("canaryname").await;
    let id =
        world.get("/api/auth/me", &jwt).await.json()["user"]["id"].as_str().unwrap().to_owned();
    let client = app(&world, &jwt).await;
    let access = world.cli_tokens(&jwt).await["access_token"].as_str().unwrap().to_owned();
    let body = json!({ "subdomain": "canary-sub", "image": "ghcr.io/canaryname/app:1",
        "tier": "buddo-starter", "env_vars": { "KEY": "canary-env" } });
    let made = world.post("/api/deploy/apps", &access, body).await;
    assert_eq!(made.status, 201, "{made:?}");
    let deployment = made.json()["deployment"]["id"].as_str().unwrap().parse().unwrap();
    services::deploy(&world.state, deployment, &["canary-a", "canary-b"]).await;
    world.post("/api/auth/forgot-password", "", json!({ "email": "canaryname@example.com" })).await;
    assert_eq!(world.post("/api/auth/delete-account", &jwt, owner("")).await.status, 200);
    deliver(&world).await;
    let public = format!("/api/oauth/apps/{}", client["client_id"].as_str().unwrap());
    assert_eq!(world.get(&public, "").await.status, 404);

    let path = world.state.config.database();
    let database = rusqlite::Connection::open(&path).unwrap();
    let mut tables = database
        .prepare("SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite%'")
        .unwrap();
    let names: Vec<String> =
        tables.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
    let mut with_id = Vec::new();
    for name in names {
        let mut rows = database.prepare(&format!("SELECT * FROM {name}")).unwrap();
        let columns = rows.column_count();
        let mut rows = rows.query([]).unwrap();
        while let Some(row) = rows.next().unwrap() {
            let text: Vec<String> =
                (0..columns).map(|n| format!("{:?}", row.get_ref(n).unwrap().as_str())).collect();
            let text = text.join(" ");
            assert!(!text.contains("canary"), "{name}: {text}");
            if text.contains(&id) {
                with_id.push(name.clone());
            }
        }
    }
    let deployment = database.query_row("SELECT id FROM deployments", [], |row| row.get(0));
    let deployment: String = deployment.unwrap();
    let left = world
        .state
        .store
        .read(move |tables| tables.revision(deployment.parse().unwrap(), Revision::new(2)));
    let left: Result<_, StoreError> = left.await;
    assert_eq!(left.unwrap().unwrap().services.iter().count(), 1, "it can still be read");
    with_id.dedup();
    with_id.sort();
    let known =
        ["account_audit", "accounts", "audit", "deployments", "oauth_audit", "orgs", "teams"];
    assert_eq!(with_id, known);
}

#[tokio::test]
async fn a_deleted_account_still_counts_as_a_referral_but_cannot_refer() {
    let world = World::new();
    let jwt = world.member("one").await;
    let code = world.get("/api/auth/me", &jwt).await.json()["user"]["referral_code"].clone();
    let code = code.as_str().unwrap();
    for (name, code) in [("two", code.to_lowercase()), ("three", format!(" {code} "))] {
        let body = json!({ "email": format!("{name}@example.com"), "username": name,
            "password": PASSWORD, "referral_code": code });
        assert_eq!(world.post("/api/auth/register", "", body).await.status, 201);
    }
    let count = async || world.get("/api/auth/me", &jwt).await.json()["user"]["referrals"].clone();
    assert_eq!(count().await, 2);
    let two = world.log_in("two").await;
    assert_eq!(world.post("/api/auth/delete-account", &two, owner("")).await.status, 200);
    assert_eq!(count().await, 2);
    world.post("/api/auth/delete-account", &jwt, owner("")).await;
    let body = json!({ "email": "four@example.com", "username": "four", "password": PASSWORD,
        "referral_code": code });
    let refused = world.post("/api/auth/register", "", body).await;
    assert_eq!(refused.pointers(), ["/referral_code"]);
}
