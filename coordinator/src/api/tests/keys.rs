//! API keys, and the deployments that they give access to.

use jiff::SignedDuration;
use rstest::rstest;
use serde_json::{Value, json};

use super::orgs::{delete, id_of, joins, org, put, team, text};
use crate::testing::{Answer, PASSWORD, World};

const APPS: &str = "/api/deploy/apps";
const BOTH: [&str; 2] = ["deployments:read", "deployments:write"];

fn app(subdomain: &str) -> Value {
    json!({ "subdomain": subdomain, "image": "docker.io/library/nginx:latest",
        "tier": "buddo-starter", "port": 80 })
}

/// Makes a key; the whole answer.
async fn make(world: &World, jwt: &str, team: &str, scopes: &[&str]) -> Answer {
    let body = json!({ "name": "ci", "scopes": scopes, "password": PASSWORD });
    world.post(&format!("{team}/keys"), jwt, body).await
}

/// Makes a key; id and text.
pub(crate) async fn key(world: &World, jwt: &str, team: &str, scopes: &[&str]) -> (String, String) {
    let made = make(world, jwt, team, scopes).await;
    assert_eq!(made.status, 201, "{made:?}");
    assert_eq!(made.header("cache-control"), "no-store");
    (text(&made.json()["id"]).to_owned(), text(&made.json()["key"]).to_owned())
}

pub(crate) async fn own_team(world: &World, jwt: &str) -> String {
    format!("/api/teams/{}", id_of(world, jwt).await)
}

async fn deploy(world: &World, token: &str, subdomain: &str) -> String {
    let made = world.post(APPS, token, app(subdomain)).await;
    assert_eq!(made.status, 201, "{made:?}");
    text(&made.json()["deployment"]["id"]).to_owned()
}

#[tokio::test]
async fn a_key_is_shown_once_and_never_listed_or_stored() {
    let world = World::new();
    let jwt = world.member("one").await;
    let team = own_team(&world, &jwt).await;
    let (id, text) = key(&world, &jwt, &team, &BOTH).await;
    assert!(text.starts_with("buddo_key_") && text.len() == 46, "{text}");
    let listed = world.get(&format!("{team}/keys"), &jwt).await;
    assert!(!listed.text.contains(&text[..20]), "{listed:?}");
    insta::assert_json_snapshot!(listed.json(), {
        "[].id" => "[id]", "[].teamId" => "[id]", "[].createdBy" => "[id]", "[].hint" => "[hint]",
    }, @r#"
    [
      {
        "createdAt": "2026-05-21T10:00:00Z",
        "createdBy": "[id]",
        "expiresAt": "2026-08-19T10:00:00Z",
        "hint": "[hint]",
        "id": "[id]",
        "lastUsedAt": null,
        "name": "ci",
        "scopes": [
          "deployments:read",
          "deployments:write"
        ],
        "teamId": "[id]"
      }
    ]
    "#);
    // The file holds only a hash.
    let state = world.state.config.state_dir.clone();
    for file in ["coordinator.db", "coordinator.db-wal"] {
        let bytes = std::fs::read(state.join(file)).unwrap_or_default();
        let found = bytes.windows(text.len()).any(|window| window == text.as_bytes());
        assert!(!found, "{file} holds the key");
    }
    let acts = world.get("/api/auth/activity", &jwt).await.json();
    assert_eq!(acts["activity"][0]["action"], "api_key_made");
    assert_eq!(acts["activity"][0]["details"]["api_key"], json!(id));
}

#[tokio::test]
async fn creating_a_key_needs_the_password() {
    let world = World::new();
    let jwt = world.member("one").await;
    let team = own_team(&world, &jwt).await;
    let path = format!("{team}/keys");
    let mut body = json!({ "name": "ci", "scopes": BOTH });
    let missing = world.post(&path, &jwt, body.clone()).await;
    assert_eq!(missing.refusal(), (422, "validation_failed"), "{missing:?}");
    body["password"] = json!("wrong-password-1");
    let wrong = world.post(&path, &jwt, body.clone()).await;
    assert_eq!(wrong.refusal(), (403, "reauthentication_failed"));
    assert_eq!(world.get(&path, &jwt).await.json(), json!([]));
    body["password"] = json!(PASSWORD);
    assert_eq!(world.post(&path, &jwt, body).await.status, 201);
}

#[tokio::test]
async fn last_use_of_a_key_is_recorded_every_ten_minutes() {
    let world = World::new();
    let jwt = world.member("one").await;
    let team = own_team(&world, &jwt).await;
    let (_, key) = key(&world, &jwt, &team, &BOTH).await;
    let used = async |minutes: i64| {
        world.clock.advance(SignedDuration::from_mins(minutes));
        assert_eq!(world.get(APPS, &key).await.status, 200);
        let listed = world.get(&format!("{team}/keys"), &jwt).await.json();
        text(&listed[0]["lastUsedAt"]).to_owned()
    };
    assert_eq!(used(1).await, "2026-05-21T10:01:00Z");
    assert_eq!(used(9).await, "2026-05-21T10:01:00Z", "not each use is written down");
    assert_eq!(used(1).await, "2026-05-21T10:11:00Z");
}

#[tokio::test]
async fn a_key_only_gives_access_to_its_teams_deployments() {
    let world = World::new();
    world.host(1, 16_384).await;
    let owner = world.member("owner").await;
    let org = org(&world, &owner, "Acme").await;
    let web = team(&world, &owner, &org, "Web").await;
    let shop = team(&world, &owner, &org, "Shop").await;
    let (key_id, of_web) = key(&world, &owner, &web, &BOTH).await;
    let (_, of_shop) = key(&world, &owner, &shop, &BOTH).await;
    let id = deploy(&world, &of_web, "web-app").await;
    let one = format!("{APPS}/{id}");
    // The same person made both keys; each only gives access to its team's deployments.
    for (method, rest) in [
        ("GET", ""),
        ("GET", "/status"),
        ("GET", "/logs"),
        ("GET", "/revisions"),
        ("GET", "/events"),
        ("POST", "/restart"),
        ("POST", "/stop"),
        ("POST", "/rollback"),
        ("DELETE", ""),
    ] {
        let refused = world.call(method, &format!("{one}{rest}"), Some(&of_shop), None).await;
        assert_eq!(refused.refusal(), (403, "forbidden"), "{method} {rest}");
        assert!(!refused.text.contains("web-app"));
    }
    let list = async |token: &str, query: &str| world.get(&format!("{APPS}{query}"), token).await;
    let count = |answer: Answer| answer.json()["deployments"].as_array().unwrap().len();
    assert_eq!(count(list(&of_web, "").await), 1);
    assert_eq!(count(list(&of_shop, "").await), 0);
    let web_id = web.rsplit('/').next().unwrap();
    let theirs = list(&of_shop, &format!("?team_id={web_id}")).await;
    assert_eq!(theirs.refusal(), (403, "forbidden"));
    let into = world.post(&format!("{APPS}?team_id={web_id}"), &of_shop, app("other")).await;
    assert_eq!(into.refusal(), (403, "forbidden"));

    let logs = world.get(&format!("{one}/logs"), &of_web).await.json();
    assert_eq!(logs["logs"][0]["details"]["api_key"], json!(key_id));
    assert_eq!(logs["logs"][0]["initiated_by"], json!(id_of(&world, &owner).await));
    // Its maker sees it through the command line, but an app that they connected does not.
    let cli = world.cli_tokens(&owner).await["access_token"].clone();
    assert_eq!(world.get(&one, text(&cli)).await.status, 200);
    assert_eq!(count(list(text(&cli), "").await), 1);
    let theirs = super::authorize::app(&world, &owner).await;
    let code = super::authorize::code(&world, "owner", &theirs).await;
    let tokens = world.post("/api/oauth/token", "", super::tokens::redeem(&theirs, &code)).await;
    let app_token = tokens.json()["access_token"].clone();
    assert_eq!(world.get(&one, text(&app_token)).await.refusal(), (403, "forbidden"));
    assert_eq!(count(list(text(&app_token), "").await), 0);
    assert_eq!(delete(&world, &web, &owner).await.refusal(), (409, "in_use"));
    assert_eq!(delete(&world, &org, &owner).await.refusal(), (409, "in_use"));
    assert_eq!(world.call("DELETE", &one, Some(&of_web), None).await.status, 200);
    assert_eq!(delete(&world, &web, &owner).await.status, 200);
    assert_eq!(world.get(APPS, &of_web).await.refusal(), (401, "invalid_token"));
}

#[tokio::test]
async fn an_unverified_payer_blocks_creates_and_restarts() {
    let world = World::new();
    world.host(1, 16_384).await;
    let owner = world.member("owner").await;
    let org = org(&world, &owner, "Acme").await;
    let web = team(&world, &owner, &org, "Web").await;
    let body = json!({ "teamId": web.rsplit('/').next().unwrap(), "teamRole": "developer" });
    let dev = joins(&world, &owner, &org, "dev", body).await;
    let (_, key) = key(&world, &dev, &web, &BOTH).await;
    let id = deploy(&world, &key, "web-app").await;
    world.unverify("owner");
    let created = world.post(APPS, &key, app("other")).await;
    let restarted = world.post(&format!("{APPS}/{id}/restart"), &key, json!({})).await;
    for refused in [created, restarted] {
        assert_eq!(refused.refusal(), (403, "email_unverified"), "{refused:?}");
        let detail = refused.body["detail"].as_str().unwrap();
        assert!(detail.contains("answers for this team's deployments"), "{detail}");
    }
}

#[tokio::test]
async fn an_idempotent_response_is_not_replayed_to_another_team() {
    let world = World::new();
    world.host(1, 16_384).await;
    let owner = world.member("owner").await;
    let org = org(&world, &owner, "Acme").await;
    let web = team(&world, &owner, &org, "Web").await;
    let shop = team(&world, &owner, &org, "Shop").await;
    let (id, of_web) = key(&world, &owner, &web, &BOTH).await;
    let (_, of_shop) = key(&world, &owner, &shop, &BOTH).await;
    let create = async |token: &str| {
        let request = http::Request::post(APPS)
            .header("authorization", format!("Bearer {token}"))
            .header("content-type", "application/json")
            .header("idempotency-key", "same")
            .body(axum::body::Body::from(app("web-app").to_string()))
            .unwrap();
        world.send(request).await
    };
    let first = create(&of_web).await;
    assert_eq!(first.status, 201);
    assert_eq!(create(&of_web).await.json(), first.json());
    assert_eq!(create(&of_shop).await.refusal(), (422, "idempotency_key_reused"));
    assert_eq!(delete(&world, &format!("{web}/keys/{id}"), &owner).await.status, 200);
    assert_eq!(create(&of_web).await.status, 401);
}

#[tokio::test]
async fn a_key_ends_when_revoked_or_expired_or_when_its_creator_leaves() {
    let world = World::new();
    let owner = world.member("owner").await;
    let org = org(&world, &owner, "Acme").await;
    let web = team(&world, &owner, &org, "Web").await;
    let body = json!({ "teamId": web.rsplit('/').next().unwrap(), "teamRole": "developer" });
    let dev = joins(&world, &owner, &org, "dev", body).await;
    let works = async |key: &str| world.get(APPS, key).await.status == 200;

    let (id, revoked) = key(&world, &dev, &web, &BOTH).await;
    assert!(works(&revoked).await);
    assert_eq!(delete(&world, &format!("{web}/keys/{id}"), &owner).await.status, 200);
    assert!(!works(&revoked).await);
    assert_eq!(delete(&world, &format!("{web}/keys/{id}"), &owner).await.status, 404);

    let (_, left) = key(&world, &dev, &web, &BOTH).await;
    let member = format!("{web}/members/{}", id_of(&world, &dev).await);
    assert_eq!(delete(&world, &member, &owner).await.status, 200);
    assert!(!works(&left).await);
    let developer = json!({ "role": "developer" });
    assert_eq!(put(&world, &member, &owner, developer.clone()).await.status, 200);
    assert!(!works(&left).await, "it does not come back with its maker");

    let (_, gone) = key(&world, &dev, &web, &BOTH).await;
    let in_org = format!("{org}/members/{}", id_of(&world, &dev).await);
    assert_eq!(delete(&world, &in_org, &owner).await.status, 200);
    assert!(!works(&gone).await);

    // An administrator of the organisation is an admin in each team without being in it.
    let body = json!({ "role": "org_admin" });
    let admin = joins(&world, &owner, &org, "adam", body).await;
    let (_, demoted) = key(&world, &admin, &web, &BOTH).await;
    assert!(works(&demoted).await);
    let path = format!("{org}/members/{}", id_of(&world, &admin).await);
    assert_eq!(put(&world, &path, &owner, json!({ "role": "org_member" })).await.status, 200);
    assert!(!works(&demoted).await);

    let own = own_team(&world, &owner).await;
    let one_day = json!({ "name": "ci", "scopes": BOTH, "expiresInDays": 1,
        "password": PASSWORD });
    let made = world.post(&format!("{own}/keys"), &owner, one_day).await.json();
    let (_, others) = key(&world, &owner, &own, &BOTH).await;
    world.clock.advance(SignedDuration::from_hours(24));
    assert!(!works(text(&made["key"])).await);
    assert!(works(&others).await);

    // A password reset ends every token, as it says.
    let owner_id = id_of(&world, &owner).await.parse().unwrap();
    let now = world.clock_now();
    let ended: Result<(), crate::store::StoreError> =
        world.state.store.write(move |tables| tables.end_everything(owner_id, now)).await;
    ended.unwrap();
    assert!(!works(&others).await);
}

#[tokio::test]
async fn a_key_is_limited_to_its_creators_current_role() {
    let world = World::new();
    world.host(1, 16_384).await;
    let owner = world.member("owner").await;
    let org = org(&world, &owner, "Acme").await;
    let web = team(&world, &owner, &org, "Web").await;
    let id = web.rsplit('/').next().unwrap();
    let viewer =
        joins(&world, &owner, &org, "viewer", json!({ "teamId": id, "teamRole": "viewer" })).await;
    let refused = make(&world, &viewer, &web, &BOTH).await;
    assert_eq!(refused.refusal(), (403, "role_required"));
    for scope in ["secrets:read", "secrets:write", "templates:read", "templates:write"] {
        let refused = make(&world, &owner, &web, &["deployments:read", scope]).await;
        assert_eq!(refused.pointers(), ["/scopes/1"], "{scope} opens nothing");
    }
    let (_, reads) = key(&world, &viewer, &web, &["deployments:read"]).await;
    let body = json!({ "teamId": id, "teamRole": "developer" });
    let dev = joins(&world, &owner, &org, "dev", body).await;
    let (_, writes) = key(&world, &dev, &web, &BOTH).await;
    let app_id = deploy(&world, &writes, "web-app").await;
    let stop = format!("{APPS}/{app_id}/stop");
    let path = format!("{web}/members/{}", id_of(&world, &dev).await);
    assert_eq!(put(&world, &path, &owner, json!({ "role": "viewer" })).await.status, 200);
    assert_eq!(world.post(&stop, &writes, json!({})).await.refusal(), (403, "role_required"));
    assert_eq!(world.post(APPS, &writes, app("more")).await.refusal(), (403, "role_required"));
    assert_eq!(world.get(&format!("{APPS}/{app_id}"), &writes).await.status, 200);

    let lacks = world.post(&stop, &reads, json!({})).await;
    assert_eq!(lacks.refusal(), (403, "insufficient_scope"));
    let wanted = r#"Bearer realm="buddo", error="insufficient_scope", scope="deployments:write""#;
    assert_eq!(lacks.header("www-authenticate"), wanted);

    // A non-admin sees only their own keys, and cannot end others.
    let listed = world.get(&format!("{web}/keys"), &viewer).await.json();
    assert_eq!(listed.as_array().unwrap().len(), 1, "{listed}");
    let all = world.get(&format!("{web}/keys"), &owner).await.json();
    assert_eq!(all.as_array().unwrap().len(), 2, "{all}");
    for key in all.as_array().unwrap() {
        let ended = delete(&world, &format!("{web}/keys/{}", text(&key["id"])), &viewer).await;
        let own = key["createdBy"] == json!(id_of(&world, &viewer).await);
        assert_eq!(ended.status.as_u16(), if own { 200 } else { 404 });
    }
}

#[rstest]
#[case(json!({ "name": "" , "scopes": ["deployments:read"] }), "/name")]
#[case(json!({ "name": "ci", "scopes": [] }), "/scopes")]
#[case(json!({ "name": "ci", "scopes": ["deploy:manage"] }), "/scopes/0")]
#[case(json!({ "name": "ci", "scopes": ["deployments:read"], "expiresInDays": 0 }), "/expiresInDays")]
#[case(json!({ "name": "ci", "scopes": ["deployments:read"], "expiresInDays": 366 }), "/expiresInDays")]
#[case(json!({ "name": "ci" }), "/scopes")]
#[tokio::test]
async fn a_bad_key_names_the_field(#[case] body: Value, #[case] pointer: &str) {
    let world = World::new();
    let jwt = world.member("one").await;
    let path = format!("{}/keys", own_team(&world, &jwt).await);
    let mut body = body;
    body["password"] = json!(PASSWORD);
    let refused = world.post(&path, &jwt, body).await;
    assert_eq!((refused.status.as_u16(), refused.pointers()), (422, vec![pointer]));
}

#[tokio::test]
async fn a_team_has_at_most_50_keys_and_a_key_cannot_create_keys() {
    let world = World::new();
    let jwt = world.member("one").await;
    let team = own_team(&world, &jwt).await;
    let (_, first) = key(&world, &jwt, &team, &BOTH).await;
    let by_key = make(&world, &first, &team, &BOTH).await;
    assert_eq!(by_key.refusal(), (401, "wrong_token_kind"));
    for _ in 1..50 {
        key(&world, &jwt, &team, &BOTH).await;
    }
    assert_eq!(make(&world, &jwt, &team, &BOTH).await.refusal(), (409, "limit_reached"));
    world.clock.advance(SignedDuration::from_hours(24 * 90));
    let jwt = world.log_in("one").await;
    key(&world, &jwt, &team, &BOTH).await;
}

#[tokio::test]
async fn keys_of_a_team_share_one_rate_limit() {
    let world = World::published();
    let jwt = world.member("one").await;
    let team = own_team(&world, &jwt).await;
    let (_, one) = key(&world, &jwt, &team, &BOTH).await;
    let (_, two) = key(&world, &jwt, &team, &BOTH).await;
    for _ in 0..15 {
        assert_eq!(world.get(APPS, &one).await.status, 200);
        assert_eq!(world.get(APPS, &two).await.status, 200);
    }
    assert_eq!(world.get(APPS, &one).await.status, 429);
    assert_eq!(world.get(APPS, &two).await.status, 429);
    // The person's own requests are counted separately.
    let cli = world.cli_tokens(&jwt).await["access_token"].clone();
    assert_eq!(world.get(APPS, text(&cli)).await.status, 200);
}

#[tokio::test]
async fn only_the_cli_can_request_the_teams_manage_scope() {
    let world = World::new();
    let jwt = world.member("one").await;
    let body = json!({ "grant_type": buddo_shared::api::oauth::TOKEN_EXCHANGE,
        "client_id": buddo_shared::model::id::CLI_CLIENT_ID, "subject_token": jwt,
        "subject_token_type": buddo_shared::api::oauth::TOKEN_TYPE_JWT,
        "scope": "deploy:manage teams:manage" });
    let tokens = world.post("/api/oauth/token", "", body).await.json();
    assert_eq!(world.get("/api/teams", text(&tokens["access_token"])).await.status, 200);
    let without = world.cli_tokens(&jwt).await["access_token"].clone();
    let refused = world.get("/api/teams", text(&without)).await;
    assert_eq!(refused.refusal(), (403, "insufficient_scope"));
    let body = json!({ "app_name": "A", "redirect_uris": ["https://a.example/cb"],
        "requested_scopes": ["teams:manage"] });
    let app = world.post("/api/oauth/apps", &jwt, body).await;
    assert_eq!((app.status.as_u16(), app.pointers()), (422, vec!["/requested_scopes/0"]));
}
