//! The published limits, in force by default.

use buddo_shared::api::oauth;
use buddo_shared::model::id::CLI_CLIENT_ID;
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use serde_json::json;

use super::keys::{key, own_team};
use super::orgs::{org, team};
use crate::auth::token::{PlainToken, PlainTokenKind};
use crate::config::RateLimits;
use crate::crypto::random::SystemRandom;
use crate::testing::World;

/// How many read transactions the database has run.
fn reads(world: &World) -> u64 {
    let mut registry = Registry::default();
    world.state.metrics.register(&mut registry);
    let mut text = String::new();
    encode(&mut text, &registry).unwrap();
    let name = "store_transaction_seconds_count{kind=\"read\"} ";
    let count = text.lines().find_map(|line| line.strip_prefix(name));
    count.unwrap_or_else(|| panic!("{text}")).parse().unwrap()
}

#[tokio::test]
async fn an_address_is_limited_to_5_registrations_an_hour() {
    let world = World::published();
    for index in 0..5 {
        let answer = world.register(&format!("user{index}")).await;
        assert_eq!(answer.status, 201);
        assert_eq!(answer.header("ratelimit-policy"), r#""default";q=5;w=3600"#);
    }
    let refused = world.register("user5").await;
    assert_eq!(refused.status, 429);
    assert_eq!(refused.json()["code"], "rate_limited");
    let wait: u64 = refused.header("retry-after").parse().unwrap();
    assert!((3540..=3660).contains(&wait), "{wait}");
    assert!(refused.header("ratelimit").starts_with(r#""default";r=0;t="#));
}

#[tokio::test]
async fn an_address_is_limited_to_10_login_attempts_a_minute() {
    let world = World::published();
    world.register("one").await;
    let body = json!({ "email": "one@example.com", "password": "wrong password" });
    for _ in 0..10 {
        assert_eq!(world.post("/api/auth/login", "", body.clone()).await.status, 401);
    }
    assert_eq!(world.post("/api/auth/login", "", body).await.status, 429);
}

#[tokio::test]
async fn an_account_creates_3_apps_an_hour_not_counting_unverified_refusals() {
    let world = World::published();
    world.register("one").await;
    let unverified = world.log_in("one").await;
    let body = json!({ "app_name": "A", "redirect_uris": ["https://a.example/cb"] });
    for _ in 0..4 {
        let answer = world.post("/api/oauth/apps", &unverified, body.clone()).await;
        assert_eq!(
            (answer.status.as_u16(), answer.json()["code"].clone()),
            (403, json!("email_unverified"))
        );
    }
    let jwt = world.member("two").await;
    for _ in 0..3 {
        assert_eq!(world.post("/api/oauth/apps", &jwt, body.clone()).await.status, 201);
    }
    assert_eq!(world.post("/api/oauth/apps", &jwt, body).await.status, 429);
}

#[tokio::test]
async fn an_account_is_limited_to_30_reads_a_minute_per_endpoint() {
    let world = World::published();
    let one = world.member("one").await;
    let two = world.member("two").await;
    let one = world.cli_tokens(&one).await["access_token"].as_str().unwrap().to_owned();
    for left in (0..30).rev() {
        let answer = world.get("/api/deploy/tiers", &one).await;
        assert_eq!(answer.status, 200);
        let expected = format!(r#""default";r={left};"#);
        assert!(answer.header("ratelimit").starts_with(&expected), "{answer:?}");
    }
    assert_eq!(world.get("/api/deploy/tiers", &one).await.status, 429);
    // The published table has a limit for each endpoint.
    let other = world.get("/api/deploy/apps", &one).await;
    assert!(other.header("ratelimit").starts_with(r#""default";r=29;"#), "{other:?}");
    assert_eq!(world.get("/api/auth/me", &two).await.status, 200);
}

/// A token is remembered; the limit it counts against depends on the route.
#[tokio::test]
async fn a_cached_token_counts_against_each_endpoint_separately() {
    let world = World::published();
    let jwt = world.member("one").await;
    let body = json!({ "grant_type": oauth::TOKEN_EXCHANGE, "client_id": CLI_CLIENT_ID,
        "subject_token": jwt, "subject_token_type": oauth::TOKEN_TYPE_JWT,
        "scope": "deploy:manage teams:manage" });
    let tokens = world.post("/api/oauth/token", "", body).await.json();
    let access = tokens["access_token"].as_str().unwrap().to_owned();
    for path in ["/api/teams", "/api/deploy/apps", "/api/deploy/tiers"] {
        for left in (0..30).rev() {
            let answer = world.get(path, &access).await;
            assert_eq!(answer.status, 200, "{path}: {answer:?}");
            let expected = format!(r#""default";r={left};"#);
            assert!(answer.header("ratelimit").starts_with(&expected), "{path}: {answer:?}");
        }
        assert_eq!(world.get(path, &access).await.status, 429, "{path}");
    }
}

#[tokio::test]
async fn a_rate_limited_token_is_refused_without_a_database_read() {
    let world = World::published();
    let jwt = world.member("one").await;
    let access = world.cli_tokens(&jwt).await["access_token"].as_str().unwrap().to_owned();
    for _ in 0..30 {
        assert_eq!(world.get("/api/deploy/tiers", &access).await.status, 200);
    }
    let before = reads(&world);
    for _ in 0..20 {
        assert_eq!(world.get("/api/deploy/tiers", &access).await.status, 429);
    }
    assert_eq!(reads(&world), before);
    // Nor do well-formed but unknown tokens, once an address has tried many.
    let made_up = || {
        let token = PlainToken::generate(PlainTokenKind::Access, &SystemRandom).into_secret();
        token.expose().to_owned()
    };
    for _ in 0..240 {
        world.get("/api/deploy/apps", &made_up()).await;
    }
    let before = reads(&world);
    for _ in 0..20 {
        assert_eq!(world.get("/api/deploy/apps", &made_up()).await.status, 429);
    }
    assert_eq!(reads(&world), before);
    // Recently valid tokens keep working at the same address, and are looked up each time.
    assert_eq!(world.get("/api/deploy/apps", &access).await.status, 200);
    assert!(reads(&world) > before);
}

/// The result for an access token is cached until the next commit, that for a login is not.
#[tokio::test]
async fn a_rate_limited_login_is_refused_without_a_database_read() {
    let world = World::published();
    let jwt = world.member("one").await;
    for _ in 0..30 {
        assert_eq!(world.get("/api/auth/me", &jwt).await.status, 200);
    }
    let before = reads(&world);
    for _ in 0..20 {
        assert_eq!(world.get("/api/auth/me", &jwt).await.status, 429);
    }
    assert_eq!(reads(&world), before);
}

#[tokio::test]
async fn a_logged_out_token_is_refused_at_once() {
    let world = World::published();
    let jwt = world.member("one").await;
    assert_eq!(world.get("/api/auth/me", &jwt).await.status, 200);
    assert_eq!(world.post("/api/auth/logout", &jwt, json!({})).await.status, 200);
    for _ in 0..3 {
        assert_eq!(world.get("/api/auth/me", &jwt).await.refusal(), (401, "invalid_token"));
    }
}

#[tokio::test]
async fn a_logged_out_token_does_not_count_against_its_account() {
    let world = World::published();
    let ended = world.member("one").await;
    let jwt = world.log_in("one").await;
    assert_eq!(world.post("/api/auth/logout", &ended, json!({})).await.status, 200);
    for _ in 0..40 {
        assert_eq!(world.get("/api/auth/me", &ended).await.status, 401);
    }
    assert_eq!(world.get("/api/auth/me", &jwt).await.status, 200);
}

#[tokio::test]
async fn keys_of_one_payer_share_one_rate_limit() {
    let world = World::with(|config| config.rate_limits.reads = RateLimits::default().reads);
    let jwt = world.member("one").await;
    let org = org(&world, &jwt, "Acme").await;
    let mut keys = Vec::new();
    for name in ["Web", "Shop", "Mail"] {
        let team = team(&world, &jwt, &org, name).await;
        for _ in 0..10 {
            keys.push(key(&world, &jwt, &team, &["deployments:read"]).await.1);
        }
    }
    keys.push(key(&world, &jwt, &own_team(&world, &jwt).await, &["deployments:read"]).await.1);
    let mut answers = Vec::new();
    for key in &keys {
        answers.push(world.get("/api/deploy/tiers", key).await.status.as_u16());
    }
    assert_eq!(answers.iter().filter(|status| **status == 200).count(), 30, "{answers:?}");
    assert_eq!(answers.last(), Some(&429));
    // The account's own programs are not limited by its keys.
    let access = world.cli_tokens(&jwt).await["access_token"].as_str().unwrap().to_owned();
    assert_eq!(world.get("/api/deploy/tiers", &access).await.status, 200);
}

#[tokio::test]
async fn invalid_tokens_are_limited_per_address_and_valid_ones_still_work() {
    let world = World::published();
    let jwt = world.member("one").await;
    let tokens = world.cli_tokens(&jwt).await;
    let access = tokens["access_token"].as_str().unwrap();
    for attempt in 0..60 {
        let (path, token) = if attempt % 2 == 0 {
            ("/api/deploy/tiers", "buddo_at_AAAA")
        } else {
            ("/api/auth/me", "eyJ.e.y")
        };
        assert_eq!(world.get(path, token).await.status, 401);
    }
    let refused = world.get("/api/deploy/tiers", "buddo_at_AAAA").await;
    assert_eq!((refused.status.as_u16(), refused.header("retry-after").is_empty()), (429, false));
    assert_eq!(world.post("/api/oauth/apps", "eyJ.e.y", json!({})).await.status, 429);
    assert_eq!(world.get("/api/deploy/tiers", access).await.status, 200);
}
