//! The nine endpoints as seen by an operator's program, through the whole router.

use axum::body::Body;
use buddo_shared::api::problem::MEDIA_TYPE;
use buddo_shared::host_wire::report::{Phase, Report, ReportBody};
use futures_util::StreamExt as _;
use futures_util::future::join_all;
use http::Request;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http_body_util::BodyExt as _;
use jiff::SignedDuration;
use rstest::rstest;
use serde_json::{Value, json};
use tower::ServiceExt as _;

use crate::api::router;
use crate::service::deployments::{DeployError, IdempotencyKey};
use crate::service::hosts::join;
use crate::testing::{Answer, World, deploys as deployments, owner, request, story};

fn body(subdomain: &str) -> Value {
    json!({
        "subdomain": subdomain,
        "image": "docker.io/library/nginx:latest",
        "tier": "buddo-starter",
        "port": 80,
    })
}

const APPS: &str = "/api/deploy/apps";

/// A coordinator with a host, and an operator's token.
async fn world() -> (World, String) {
    let world = World::new();
    world.host(1, 16_384).await;
    let token = world.operator("myoperator").await;
    (world, token)
}

async fn create(world: &World, token: &str, body: Value) -> Answer {
    world.call("POST", APPS, Some(token), Some(body)).await
}

async fn created(world: &World, token: &str, subdomain: &str) -> String {
    let made = create(world, token, body(subdomain)).await;
    assert_eq!(made.status, 201, "{made:?}");
    made.body["deployment"]["id"].as_str().unwrap().to_owned()
}

async fn count(world: &World, token: &str) -> usize {
    let list = world.call("GET", APPS, Some(token), None).await;
    list.body["deployments"].as_array().unwrap().len()
}

#[tokio::test]
async fn create_responds_as_documented() {
    let (world, token) = world().await;
    let made = create(&world, &token, body("my-app")).await;
    assert_eq!(made.status, 201);
    insta::assert_json_snapshot!(made.body, {
        ".deployment.id" => "[id]",
        ".deployment.app_id" => "[id]",
        ".deployment.container_name" => "[name]",
    }, @r#"
    {
      "deployment": {
        "app_id": "[id]",
        "billing_status": null,
        "container_image": "docker.io/library/nginx:latest",
        "container_name": "[name]",
        "cpu_limit_millicores": 250,
        "custom_domain": null,
        "deploy_tier_id": "0c0ffee0-0000-4000-8000-000000000001",
        "deployed_at": null,
        "failure": null,
        "health_status": null,
        "host_server": "container-host-1",
        "id": "[id]",
        "image_digest": null,
        "inserted_at": "2026-05-21T10:00:00Z",
        "last_error": null,
        "last_health_check": null,
        "memory_limit_mb": 256,
        "port": 80,
        "restarts": 0,
        "revision": 1,
        "status": "pending",
        "stopped_at": null,
        "subdomain": "my-app",
        "url": "https://my-app.buddocloud.com",
        "waiting": null,
        "warning": null
      }
    }
    "#);
}

#[tokio::test]
async fn status_logs_and_tiers_respond_as_documented() {
    let (world, token) = world().await;
    let id = created(&world, &token, "my-app").await;
    let status = world.call("GET", &format!("{APPS}/{id}/status"), Some(&token), None).await;
    insta::assert_json_snapshot!(status.body, { ".id" => "[id]" }, @r#"
    {
      "failure": null,
      "health_status": null,
      "id": "[id]",
      "last_error": null,
      "last_health_check": null,
      "progress": null,
      "restarts": 0,
      "status": "pending",
      "subdomain": "my-app",
      "waiting": null,
      "warning": null
    }
    "#);
    let logs = world.call("GET", &format!("{APPS}/{id}/logs"), Some(&token), None).await;
    insta::assert_json_snapshot!(logs.body, {
        ".logs[].id" => "[id]",
        ".logs[0].initiated_by" => "[account]",
    }, @r#"
    {
      "logs": [
        {
          "action": "create",
          "details": null,
          "id": "[id]",
          "initiated_by": "[account]",
          "inserted_at": "2026-05-21T10:00:00Z",
          "status": "completed"
        },
        {
          "action": "deploy",
          "details": null,
          "id": "[id]",
          "initiated_by": null,
          "inserted_at": "2026-05-21T10:00:00Z",
          "status": "pending"
        }
      ]
    }
    "#);
    let tiers = world.call("GET", "/api/deploy/tiers", Some(&token), None).await;
    insta::assert_json_snapshot!(tiers.body[0], @r#"
    {
      "ad_reach_multiplier": 1.0,
      "cpu_limit_millicores": 250,
      "custom_domain_allowed": false,
      "id": "0c0ffee0-0000-4000-8000-000000000001",
      "memory_limit_mb": 256,
      "monthly_cost_points": 500,
      "monthly_cost_sats": null,
      "monthly_stipend_points": 50,
      "name": "Buddo Starter",
      "payment_method": "buddo_points",
      "slug": "buddo-starter"
    }
    "#);
}

#[tokio::test]
async fn stop_restart_and_destroy_free_the_subdomain() {
    let (world, token) = world().await;
    let id = created(&world, &token, "my-app").await;
    let path = format!("{APPS}/{id}");
    let stopped = world.call("POST", &format!("{path}/stop"), Some(&token), None).await;
    assert_eq!(stopped.body["deployment"]["status"], "stopped", "{stopped:?}");
    let again = world.call("POST", &format!("{path}/stop"), Some(&token), None).await;
    assert_eq!(again.refusal(), (422, "illegal_state"));
    let detail = again.body["detail"].as_str().unwrap();
    assert!(detail.ends_with("possible: restart, rollback, destroy"), "{detail}");
    let restarted = world.call("POST", &format!("{path}/restart"), Some(&token), None).await;
    assert_eq!(restarted.body["deployment"]["status"], "deploying");
    assert_eq!(restarted.body["deployment"]["revision"], 2);
    let taken = create(&world, &token, body("my-app")).await;
    assert_eq!(
        (taken.refusal(), taken.pointers()),
        ((422, "validation_failed"), vec!["/subdomain"])
    );
    let gone = world.call("DELETE", &path, Some(&token), None).await;
    assert_eq!(gone.status, 200);
    assert_eq!(gone.body, json!({ "message": "Deployment destroyed", "id": id }));
    assert_eq!(count(&world, &token).await, 0);
    for (method, action) in [("POST", "/restart"), ("POST", "/stop"), ("DELETE", "")] {
        let refused = world.call(method, &format!("{path}{action}"), Some(&token), None).await;
        assert_eq!(refused.refusal(), (422, "illegal_state"), "{action}");
    }
    let logs = world.call("GET", &format!("{path}/logs"), Some(&token), None).await;
    let log: Vec<_> = logs.body["logs"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| {
            format!("{} {}", entry["action"].as_str().unwrap(), entry["status"].as_str().unwrap())
        })
        .collect();
    assert_eq!(
        log,
        [
            "create completed",
            "deploy superseded",
            "stop completed",
            "restart completed",
            "deploy superseded",
            "destroy completed",
        ]
    );
    created(&world, &token, "my-app").await;
}

#[rstest]
#[case::subdomain_hyphen(json!({ "subdomain": "-x" }), "/subdomain")]
#[case::subdomain_upper(json!({ "subdomain": "My-App" }), "/subdomain")]
#[case::subdomain_long(json!({ "subdomain": "a".repeat(33) }), "/subdomain")]
#[case::subdomain_reserved(json!({ "subdomain": "admin" }), "/subdomain")]
#[case::image_lookalike(json!({ "image": "docker.io.evil.com/library/nginx" }), "/image")]
#[case::image_userinfo(json!({ "image": "ghcr.io@evil/x" }), "/image")]
#[case::image_upper(json!({ "image": "ghcr.io/Owner/App" }), "/image")]
#[case::image_digest(json!({ "image": "ghcr.io/a/b@sha256:xyz" }), "/image")]
#[case::image_other(json!({ "image": "quay.io/a/b:1" }), "/image")]
#[case::tier_malformed(json!({ "tier": "No Such Tier" }), "/tier")]
#[case::tier_missing(json!({ "tier": null }), "/tier")]
#[case::port_zero(json!({ "port": 0 }), "/port")]
#[case::port_high(json!({ "port": 65_536 }), "/port")]
#[case::port_text(json!({ "port": "80" }), "/port")]
#[case::strategy(json!({ "strategy": "sideways" }), "/strategy")]
#[case::unknown_field(json!({ "colour": 1 }), "/colour")]
#[case::domain_on_starter(json!({ "custom_domain": "app.example.com" }), "/custom_domain")]
#[case::env_not_text(json!({ "env_vars": { "A": 1 } }), "/env_vars/A")]
#[case::env_key(json!({ "env_vars": { "1A": "x" } }), "/env_vars/1A")]
#[tokio::test]
async fn a_bad_field_is_named_and_nothing_is_stored(#[case] change: Value, #[case] pointer: &str) {
    let (world, token) = world().await;
    let mut request = body("my-app");
    request.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
    let refused = create(&world, &token, request).await;
    assert_eq!(refused.refusal(), (422, "validation_failed"), "{refused:?}");
    assert_eq!(refused.pointers(), [pointer]);
    assert_eq!(refused.headers[CONTENT_TYPE], MEDIA_TYPE);
    assert_eq!(refused.body["error"], refused.body["detail"]);
    assert_eq!(count(&world, &token).await, 0);
}

#[tokio::test]
async fn accepts_at_most_50_variables() {
    let (world, token) = world().await;
    for (vars, expected) in [(51, 422), (50, 201)] {
        let mut request = body("my-app");
        request["env_vars"] = (0..vars)
            .map(|n| (format!("K{n}"), json!("v")))
            .collect::<serde_json::Map<_, _>>()
            .into();
        let answer = create(&world, &token, request).await;
        assert_eq!(answer.status, expected, "{answer:?}");
    }
}

#[tokio::test]
async fn an_unknown_tier_is_404() {
    let (world, token) = world().await;
    let mut request = body("my-app");
    request["tier"] = json!("no-such-tier");
    let refused = create(&world, &token, request).await;
    assert_eq!(refused.refusal(), (404, "tier_not_found"));
    assert!(refused.body["detail"].as_str().unwrap().contains("GET /api/deploy/tiers"));
}

#[rstest]
#[case::malformed("application/json", "{\"subdomain\": ", 400)]
#[case::content_type("text/plain", "{}", 415)]
#[case::too_large("application/json", &format!("{{\"subdomain\": \"{}\"}}", "x".repeat(10 << 20)), 413)]
#[tokio::test]
async fn an_unreadable_body_is_refused(
    #[case] content_type: &str,
    #[case] text: &str,
    #[case] expected: u16,
) {
    let (world, token) = world().await;
    let request = Request::post(APPS)
        .header(AUTHORIZATION, format!("Bearer {token}"))
        .header(CONTENT_TYPE, content_type)
        .body(Body::from(text.to_owned()))
        .unwrap();
    let refused = world.send(request).await;
    assert_eq!(refused.status, expected, "{refused:?}");
    assert_eq!(refused.headers[CONTENT_TYPE], MEDIA_TYPE);
    assert!(refused.body["request_id"].is_string());
    assert_eq!(count(&world, &token).await, 0);
}

#[tokio::test]
async fn every_route_needs_a_valid_token() {
    let world = World::new();
    let id = uuid::Uuid::nil();
    for (method, path) in [
        ("GET", "/api/deploy/tiers".to_owned()),
        ("POST", APPS.to_owned()),
        ("GET", APPS.to_owned()),
        ("GET", format!("{APPS}/{id}")),
        ("GET", format!("{APPS}/{id}/status")),
        ("GET", format!("{APPS}/{id}/logs")),
        ("GET", format!("{APPS}/{id}/events")),
        ("GET", format!("{APPS}/{id}/revisions")),
        ("POST", format!("{APPS}/{id}/rollback")),
        ("POST", format!("{APPS}/{id}/restart")),
        ("POST", format!("{APPS}/{id}/stop")),
        ("DELETE", format!("{APPS}/{id}")),
    ] {
        for token in [None, Some("buddo_at_forged")] {
            let refused = world.call(method, &path, token, None).await;
            assert_eq!(refused.status, 401, "{method} {path} {token:?}");
        }
    }
}

#[tokio::test]
async fn fm_50_another_operators_deployment_is_forbidden_and_leaks_nothing() {
    let (world, owner) = world().await;
    let id = created(&world, &owner, "my-app").await;
    let stranger = world.operator("stranger").await;
    let path = format!("{APPS}/{id}");
    for (method, action) in [
        ("GET", ""),
        ("GET", "/status"),
        ("GET", "/logs"),
        ("GET", "/events"),
        ("GET", "/revisions"),
        ("POST", "/rollback"),
        ("POST", "/restart"),
        ("POST", "/stop"),
        ("DELETE", ""),
    ] {
        let refused = world.call(method, &format!("{path}{action}"), Some(&stranger), None).await;
        assert_eq!(refused.refusal(), (403, "forbidden"), "{method} {action}");
        assert!(!refused.body.to_string().contains("my-app"));
        for unknown in ["550e8400-e29b-41d4-a716-446655440000", "my-app", "%00", "%ff"] {
            let path = format!("{APPS}/{unknown}{action}");
            let refused = world.call(method, &path, Some(&stranger), None).await;
            assert_eq!(refused.refusal(), (404, "not_found"), "{method} {path}");
        }
    }
    assert_eq!(count(&world, &stranger).await, 0);
    let status = world.call("GET", &format!("{path}/status"), Some(&owner), None).await;
    assert_eq!(status.body["status"], "pending", "nothing was changed");
}

#[tokio::test]
async fn fm_44_concurrent_creates_cannot_exceed_the_limit() {
    let world = World::with(|config| config.limits.deployments_per_account = 1);
    world.host(1, 65_536).await;
    let token = world.operator("myoperator").await;
    let creates = (0..100).map(|n| create(&world, &token, body(&format!("app-{n}"))));
    let answers = create_all(creates).await;
    assert_eq!(answers.iter().filter(|answer| answer.status == 201).count(), 1);
    let refused = answers.iter().filter(|a| a.refusal() == (429, "deployment_limit_reached"));
    assert_eq!(refused.count(), 99);
    assert_eq!(count(&world, &token).await, 1);
}

async fn create_all(creates: impl Iterator<Item = impl Future<Output = Answer>>) -> Vec<Answer> {
    join_all(creates).await
}

#[tokio::test]
async fn the_limit_per_tier_is_counted_separately() {
    let world = World::with(|config| config.limits.deployments_per_tier = Some(1));
    world.host(1, 65_536).await;
    world.open_tier("bitcoin-pro").await;
    let token = world.operator("myoperator").await;
    created(&world, &token, "one").await;
    let refused = create(&world, &token, body("two")).await;
    assert_eq!(refused.refusal(), (429, "deployment_limit_reached"));
    assert!(refused.body["detail"].as_str().unwrap().contains("buddo-starter"));
    let mut other = body("two");
    other["tier"] = json!("bitcoin-pro");
    other["custom_domain"] = json!("app.example.com");
    assert_eq!(create(&world, &token, other).await.status, 201);
}

/// Every way to bring a deployment up.
async fn brought_up(world: &World, token: &str, running: &str, stopped: &str) -> Vec<Answer> {
    let post = async |id: &str, act: &str| {
        world.post(&format!("{APPS}/{id}/{act}"), token, json!({})).await
    };
    vec![
        create(world, token, body("new")).await,
        post(running, "restart").await,
        post(running, "rollback").await,
        post(stopped, "restart").await,
        post(stopped, "rollback").await,
    ]
}

#[tokio::test]
async fn an_unverified_account_can_only_stop_and_destroy() {
    let (world, token) = world().await;
    let running = created(&world, &token, "running").await;
    let stopped = created(&world, &token, "stopped").await;
    let stop =
        async |id: &str| world.post(&format!("{APPS}/{id}/stop"), &token, json!({})).await.status;
    assert_eq!(stop(&stopped).await, 200);
    world.unverify("myoperator");
    for refused in brought_up(&world, &token, &running, &stopped).await {
        assert_eq!(refused.refusal(), (403, "email_unverified"), "{refused:?}");
        let detail = refused.body["detail"].as_str().unwrap();
        assert!(detail.contains("POST /api/auth/send-verification"), "{detail}");
    }
    assert_eq!(count(&world, &token).await, 2);
    assert_eq!(stop(&running).await, 200, "what costs less is always possible");
    let gone = world.call("DELETE", &format!("{APPS}/{running}"), Some(&token), None).await;
    assert_eq!(gone.status, 200);
}

#[tokio::test]
async fn an_idempotent_response_is_replayed_to_an_unverified_account() {
    let (world, token) = world().await;
    let first = keyed(&world, &token, "key-1", body("my-app")).await;
    world.unverify("myoperator");
    let again = keyed(&world, &token, "key-1", body("my-app")).await;
    assert_eq!((again.status, again.body), (first.status, first.body));
}

#[tokio::test]
async fn a_tier_paid_in_money_needs_an_administrators_permission() {
    let (world, token) = world().await;
    let on_pro = |name: &str| {
        let mut request = body(name);
        request["tier"] = json!("bitcoin-pro");
        request
    };
    let refused = create(&world, &token, on_pro("one")).await;
    assert_eq!(refused.refusal(), (403, "tier_not_allowed"), "{refused:?}");
    assert!(refused.body["detail"].as_str().unwrap().contains("bitcoin-pro"));
    let account = buddo_shared::model::id::AccountId::new(world.account_id("myoperator").await);
    let now = world.clock_now();
    let leave = async |given: bool| {
        let write = world.state.store.write(move |tables| {
            let slug = buddo_shared::model::spec::TierSlug::parse("bitcoin-pro").unwrap();
            let tier = tables.tier(&slug)?.unwrap();
            if given {
                tables.allow_tier(&tier.id, account, now)
            } else {
                tables.deny_tier(&tier.id, account)
            }
        });
        let done: Result<bool, crate::store::StoreError> = write.await;
        assert!(done.unwrap());
    };
    leave(true).await;
    let made = create(&world, &token, on_pro("one")).await;
    assert_eq!(made.status, 201, "{made:?}");
    let stranger = world.operator("stranger").await;
    let refused = create(&world, &stranger, on_pro("two")).await;
    assert_eq!(refused.refusal(), (403, "tier_not_allowed"));
    // Revoking the permission for a tier: what runs stays, but cannot be restarted or rolled back.
    leave(false).await;
    let id = made.body["deployment"]["id"].as_str().unwrap();
    for act in ["restart", "rollback"] {
        let refused = world.post(&format!("{APPS}/{id}/{act}"), &token, json!({})).await;
        assert_eq!(refused.refusal(), (403, "tier_not_allowed"), "{act}");
    }
    let stopped = world.post(&format!("{APPS}/{id}/stop"), &token, json!({})).await;
    assert_eq!(stopped.status, 200);
}

async fn with_domain(world: &World, token: &str, subdomain: &str, domain: &str) -> Answer {
    let mut request = body(subdomain);
    request["tier"] = json!("bitcoin-pro");
    request["custom_domain"] = json!(domain);
    create(world, token, request).await
}

#[tokio::test]
async fn a_custom_domain_is_taken_until_its_deployment_is_destroyed() {
    let (world, token) = world().await;
    world.open_tier("bitcoin-pro").await;
    let first = with_domain(&world, &token, "one", "app.example.com").await;
    assert_eq!(first.status, 201, "{first:?}");
    let stranger = world.operator("stranger").await;
    for domain in ["app.example.com", "APP.example.com", "app.example.com."] {
        let refused = with_domain(&world, &stranger, "two", domain).await;
        assert_eq!(refused.refusal(), (422, "validation_failed"), "{domain}");
        assert_eq!(refused.pointers(), ["/custom_domain"]);
    }
    let id = first.body["deployment"]["id"].as_str().unwrap();
    world.call("DELETE", &format!("{APPS}/{id}"), Some(&token), None).await;
    let second = with_domain(&world, &stranger, "two", "app.example.com").await;
    assert_eq!(second.status, 201, "{second:?}");
}

#[tokio::test]
async fn the_platforms_own_names_are_refused_as_custom_domains() {
    let world = World::with(|config| {
        config.api.names = vec!["inner.buddo.example".to_owned()];
        config.api.public_url = Some("https://api.buddo.example:8443".to_owned());
    });
    world.host(1, 16_384).await;
    world.open_tier("bitcoin-pro").await;
    let token = world.operator("myoperator").await;
    for domain in [
        "buddocloud.com",
        "other.buddocloud.com",
        "a.b.buddocloud.com",
        "api.buddo.example",
        "inner.buddo.example",
    ] {
        let refused = with_domain(&world, &token, "one", domain).await;
        assert_eq!(refused.refusal(), (422, "validation_failed"), "{domain}: {refused:?}");
        assert_eq!(refused.pointers(), ["/custom_domain"]);
    }
    assert_eq!(with_domain(&world, &token, "one", "notbuddocloud.com").await.status, 201);
}

async fn keyed(world: &World, token: &str, key: &str, body: Value) -> Answer {
    keyed_at(world, token, APPS, key, body).await
}

async fn keyed_at(world: &World, token: &str, path: &str, key: &str, body: Value) -> Answer {
    let request = Request::post(path)
        .header(AUTHORIZATION, format!("Bearer {token}"))
        .header(CONTENT_TYPE, "application/json")
        .header("Idempotency-Key", key)
        .body(Body::from(body.to_string()))
        .unwrap();
    world.send(request).await
}

#[tokio::test]
async fn fm_43_concurrent_creates_with_one_key_make_one_deployment() {
    let (world, token) = world().await;
    let answers = create_all((0..50).map(|_| keyed(&world, &token, "k-1", body("my-app")))).await;
    assert!(answers.iter().all(|answer| answer.status == 201), "{answers:?}");
    assert!(answers.iter().all(|answer| answer.body == answers[0].body));
    assert_eq!(count(&world, &token).await, 1);
}

#[tokio::test]
async fn an_idempotency_key_is_bound_to_one_body_and_one_account() {
    let (world, token) = world().await;
    assert_eq!(keyed(&world, &token, "k-1", body("my-app")).await.status, 201);
    let other = keyed(&world, &token, "k-1", body("other")).await;
    assert_eq!(other.refusal(), (422, "idempotency_key_reused"));
    let malformed = keyed(&world, &token, "", body("other")).await;
    assert_eq!(malformed.refusal(), (400, "invalid_request"));
    let other_operator = world.operator("stranger").await;
    assert_eq!(keyed(&world, &other_operator, "k-1", body("other")).await.status, 201);
}

#[tokio::test]
async fn an_idempotency_key_is_kept_for_24_hours() {
    let (world, _) = world().await;
    let key = || Some(IdempotencyKey::parse(b"k-1").unwrap());
    let make = |name| deployments::create(&world.state, owner(1), None, request(name), key());
    let first = make("my-app").await.unwrap();
    world.clock.advance(SignedDuration::from_hours(23));
    crate::tasks::mail::sweep(&world.state).await;
    assert_eq!(make("my-app").await.unwrap(), first);
    assert!(matches!(make("other").await, Err(DeployError::KeyReused)));
    world.clock.advance(SignedDuration::from_hours(1));
    assert_ne!(make("other").await.unwrap().deployment.id, first.deployment.id);
    let database = rusqlite::Connection::open(world.state.config.database()).unwrap();
    let kept = || -> i64 {
        let sql = "SELECT count(*) FROM idempotency";
        database.query_row(sql, [], |row| row.get(0)).unwrap()
    };
    assert_eq!(kept(), 1, "the later answer replaces the first");
    world.clock.advance(SignedDuration::from_hours(24));
    crate::tasks::mail::sweep(&world.state).await;
    assert_eq!(kept(), 0);
}

#[tokio::test]
async fn an_idempotency_key_survives_a_clock_jump() {
    let (world, _) = world().await;
    let key = || Some(IdempotencyKey::parse(b"k-1").unwrap());
    let make = || deployments::create(&world.state, owner(1), None, request("my-app"), key());
    let first = make().await.unwrap();
    for days in [3, -3] {
        world.clock.jump(SignedDuration::from_hours(24 * days));
        assert_eq!(make().await.unwrap(), first);
    }
}

/// Makes the only host report that `revision` is live.
async fn goes_live(world: &World, id: &str, revision: u32) {
    let live = story::status(id.parse().unwrap(), revision, Phase::Live, Some(revision));
    let body = story::resolved(live, story::digest(revision));
    let (seq, at) = (revision.into(), world.state.clock.now());
    let report = Report { seq, at, body: ReportBody::Deployment(body) };
    let host = join::list(&world.state.store).await.unwrap()[0].id;
    story::commit(&world.state, host, vec![report]).await.unwrap();
}

#[tokio::test]
async fn revisions_are_shown_newest_first_and_without_environment() {
    let (world, token) = world().await;
    let mut request = body("my-app");
    request["env_vars"] = json!({ "SECRET": "canary-4711" });
    request["strategy"] = json!("recreate");
    let made = create(&world, &token, request).await;
    let id = made.body["deployment"]["id"].as_str().unwrap().to_owned();
    goes_live(&world, &id, 1).await;
    world.call("POST", &format!("{APPS}/{id}/restart"), Some(&token), None).await;
    let shown = world.call("GET", &format!("{APPS}/{id}/revisions"), Some(&token), None).await;
    insta::assert_json_snapshot!(shown.body, @r#"
    {
      "revisions": [
        {
          "can_roll_back": false,
          "container_image": "docker.io/library/nginx:latest",
          "current": true,
          "custom_domain": null,
          "failure": null,
          "image_digest": null,
          "inserted_at": "2026-05-21T10:00:00Z",
          "last_error": null,
          "live_at": null,
          "port": 80,
          "revision": 2,
          "rollback_of": null,
          "serving": false,
          "strategy": "recreate"
        },
        {
          "can_roll_back": true,
          "container_image": "docker.io/library/nginx:latest",
          "current": false,
          "custom_domain": null,
          "failure": null,
          "image_digest": "sha256:0000000000000000000000000000000000000000000000000000000000000001",
          "inserted_at": "2026-05-21T10:00:00Z",
          "last_error": null,
          "live_at": "2026-05-21T10:00:00Z",
          "port": 80,
          "revision": 1,
          "rollback_of": null,
          "serving": true,
          "strategy": "recreate"
        }
      ]
    }
    "#);
}

#[tokio::test]
async fn a_rollback_takes_a_revision_number_or_no_body() {
    let (world, token) = world().await;
    let id = created(&world, &token, "my-app").await;
    let path = format!("{APPS}/{id}/rollback");
    goes_live(&world, &id, 1).await;
    world.call("POST", &format!("{APPS}/{id}/restart"), Some(&token), None).await;
    goes_live(&world, &id, 2).await;
    let rolled = world.call("POST", &path, Some(&token), None).await;
    assert_eq!(rolled.status, 200, "{rolled:?}");
    let deployment = &rolled.body["deployment"];
    assert_eq!((&deployment["status"], &deployment["revision"]), (&json!("deploying"), &json!(3)));
    assert_eq!(deployment["image_digest"], json!(story::digest(1)));

    let under_way = world.call("POST", &path, Some(&token), None).await;
    assert_eq!(under_way.refusal(), (422, "illegal_state"));
    goes_live(&world, &id, 3).await;
    let named = json!({ "revision": 2 });
    let rolled = world.call("POST", &path, Some(&token), Some(named)).await;
    assert_eq!(rolled.body["deployment"]["image_digest"], json!(story::digest(2)), "{rolled:?}");
    goes_live(&world, &id, 4).await;
    for (body, expected) in [
        (json!({ "revision": 99 }), (404, "revision_not_found")),
        (json!({ "revision": -1 }), (422, "validation_failed")),
        (json!({ "revision": "one" }), (422, "validation_failed")),
        (json!({ "number": 1 }), (422, "validation_failed")),
        (json!([]), (422, "validation_failed")),
    ] {
        let refused = world.call("POST", &path, Some(&token), Some(body.clone())).await;
        assert_eq!(refused.refusal(), expected, "{body}");
    }
    let text = Request::post(&path)
        .header(AUTHORIZATION, format!("Bearer {token}"))
        .header(CONTENT_TYPE, "text/plain")
        .body(Body::from("{}"))
        .unwrap();
    assert_eq!(world.send(text).await.refusal(), (415, "unsupported_media_type"));
}

#[tokio::test]
async fn concurrent_rollbacks_with_one_key_make_one_revision() {
    let (world, token) = world().await;
    let id = created(&world, &token, "my-app").await;
    let path = format!("{APPS}/{id}/rollback");
    goes_live(&world, &id, 1).await;
    let back = || keyed_at(&world, &token, &path, "k-1", json!({ "revision": 1 }));
    let answers = create_all((0..50).map(|_| back())).await;
    assert!(answers.iter().all(|answer| answer.status == 200), "{answers:?}");
    assert!(answers.iter().all(|answer| answer.body == answers[0].body));
    assert_eq!(answers[0].body["deployment"]["revision"], 2);
    let create = keyed(&world, &token, "k-1", body("other")).await;
    assert_eq!(create.refusal(), (422, "idempotency_key_reused"));
}

#[tokio::test]
async fn every_operator_action_is_audited() {
    let (world, token) = world().await;
    let id = created(&world, &token, "my-app").await;
    goes_live(&world, &id, 1).await;
    let acts = [
        ("POST", "/restart", "restart"),
        ("POST", "/stop", "stop"),
        ("POST", "/rollback", "rollback"),
        ("DELETE", "", "destroy"),
    ];
    for (method, path, action) in acts {
        let done = if action == "rollback" { Some(json!({ "revision": 1 })) } else { None };
        let answer = world.call(method, &format!("{APPS}/{id}{path}"), Some(&token), done).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        let logs = world.call("GET", &format!("{APPS}/{id}/logs"), Some(&token), None).await;
        let entries = logs.body["logs"].as_array().unwrap();
        let own = |entry: &&Value| entry["action"] == action && entry["status"] == "completed";
        let entry = entries.iter().find(own).unwrap_or_else(|| panic!("{action}: {entries:?}"));
        assert!(entry["initiated_by"].is_string(), "{entry}");
    }
}

#[tokio::test]
async fn a_create_without_capacity_is_refused() {
    let world = World::new();
    let token = world.operator("myoperator").await;
    let refused = create(&world, &token, body("my-app")).await;
    assert_eq!(refused.refusal(), (503, "no_host_available"));
    assert!(refused.body["detail"].as_str().unwrap().contains("none has joined"), "{refused:?}");
    world.host(1, 1000).await;
    created(&world, &token, "one").await;
    let refused = create(&world, &token, body("two")).await;
    assert_eq!(refused.refusal(), (503, "no_capacity"));
    assert!(refused.body["detail"].as_str().unwrap().contains("has 63"), "{refused:?}");
}

#[tokio::test]
async fn the_list_is_paged() {
    let (world, token) = world().await;
    for n in 0..3 {
        created(&world, &token, &format!("app-{n}")).await;
    }
    let names = |answer: &Answer| -> Vec<String> {
        let list = answer.body["deployments"].as_array().unwrap();
        list.iter().map(|d| d["subdomain"].as_str().unwrap().to_owned()).collect()
    };
    let first = world.call("GET", &format!("{APPS}?limit=2"), Some(&token), None).await;
    assert_eq!(names(&first), ["app-2", "app-1"]);
    let link = first.headers["link"].to_str().unwrap();
    let next = link.strip_prefix('<').unwrap().strip_suffix(">; rel=\"next\"").unwrap();
    let second = world.call("GET", next, Some(&token), None).await;
    assert_eq!(names(&second), ["app-0"]);
    assert!(!second.headers.contains_key("link"));
    for (query, pointer) in [("limit=0", "/limit"), ("limit=101", "/limit"), ("after=x", "/after")]
    {
        let refused = world.call("GET", &format!("{APPS}?{query}"), Some(&token), None).await;
        assert_eq!((refused.status.as_u16(), refused.pointers()), (422, vec![pointer]));
    }
}

#[tokio::test]
async fn rate_limits_are_shown_and_enforced() {
    let world = World::with(|config| {
        config.rate_limits = toml::from_str("writes = { requests = 1, seconds = 60 }").unwrap();
    });
    world.host(1, 4096).await;
    let token = world.operator("myoperator").await;
    let first = create(&world, &token, body("one")).await;
    assert_eq!(first.status, 201, "{first:?}");
    assert!(first.headers.contains_key("ratelimit"));
    let second = create(&world, &token, body("two")).await;
    assert_eq!(second.refusal(), (429, "rate_limited"));
    assert!(second.headers.contains_key("retry-after"));
    assert_eq!(count(&world, &token).await, 1);
}

#[tokio::test]
async fn the_environment_is_never_stored_in_plain_text() {
    let (world, token) = world().await;
    let mut request = body("my-app");
    request["env_vars"] = json!({ "SECRET": "canary-4711" });
    let made = create(&world, &token, request).await;
    assert!(!made.body.to_string().contains("canary"));
    let directory = &world.state.config.state_dir;
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let bytes = std::fs::read(&path).unwrap();
        assert!(!bytes.windows(11).any(|w| w == b"canary-4711"), "{}", path.display());
    }
}

#[tokio::test]
async fn events_report_status_changes_until_the_destroy() {
    let (world, token) = world().await;
    let id = created(&world, &token, "my-app").await;
    let request = Request::get(format!("{APPS}/{id}/events"))
        .header(AUTHORIZATION, format!("Bearer {token}"))
        .body(Body::empty())
        .unwrap();
    let answer = router::build(world.api_state()).oneshot(request).await.unwrap();
    assert_eq!(answer.headers()[CONTENT_TYPE], "text/event-stream");
    assert_eq!(answer.headers()["cache-control"], "no-cache");
    let mut events = answer.into_body().into_data_stream();
    let mut next = async || {
        events.next().await.map(|chunk| String::from_utf8(chunk.unwrap().to_vec()).unwrap())
    };
    let first = next().await.unwrap();
    assert!(first.contains("id: 1") && first.contains("retry: 2000"), "{first}");
    assert!(first.contains("\"status\":\"pending\""), "{first}");
    world.call("POST", &format!("{APPS}/{id}/stop"), Some(&token), None).await;
    assert!(next().await.unwrap().contains("\"status\":\"stopped\""));
    world.call("DELETE", &format!("{APPS}/{id}"), Some(&token), None).await;
    assert!(next().await.unwrap().contains("\"status\":\"destroyed\""));
    assert_eq!(next().await, None, "nothing follows a destroy");
}

#[tokio::test]
async fn a_drain_ends_event_streams() {
    let (world, token) = world().await;
    let id = created(&world, &token, "my-app").await;
    let request = Request::get(format!("{APPS}/{id}/events"))
        .header(AUTHORIZATION, format!("Bearer {token}"))
        .body(Body::empty())
        .unwrap();
    let answer = router::build(world.api_state()).oneshot(request).await.unwrap();
    world.state.drain.cancel();
    let events = answer.into_body().collect().await.unwrap().to_bytes();
    assert!(String::from_utf8_lossy(&events).contains("pending"));
    let ready = world.call("GET", "/readyz", None, None).await;
    assert_eq!(ready.status, 503);
    assert_eq!(world.call("GET", "/health", None, None).await.body, json!({ "status": "ok" }));
}

#[tokio::test]
async fn deployments_survive_a_restart() {
    let (world, token) = world().await;
    let id = created(&world, &token, "my-app").await;
    let world = world.reopened();
    let shown = world.call("GET", &format!("{APPS}/{id}"), Some(&token), None).await;
    assert_eq!(shown.body["deployment"]["subdomain"], "my-app", "{shown:?}");
}

#[tokio::test]
async fn unknown_paths_and_methods_get_problem_responses() {
    let (world, token) = world().await;
    let path = world.call("GET", "/api/deploy/nothing", Some(&token), None).await;
    assert_eq!(path.refusal(), (404, "not_found"));
    let method = world.call("PUT", APPS, Some(&token), None).await;
    assert_eq!(method.refusal(), (405, "method_not_allowed"));
    assert!(method.headers.contains_key("allow"));
}
