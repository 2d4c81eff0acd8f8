//! The published limits, in force by default.

use serde_json::json;

use crate::testing::World;

#[tokio::test]
async fn five_registrations_an_hour_from_one_address() {
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
async fn ten_logins_a_minute_from_one_address_right_or_wrong() {
    let world = World::published();
    world.register("one").await;
    let body = json!({ "email": "one@example.com", "password": "wrong password" });
    for _ in 0..10 {
        assert_eq!(world.post("/api/auth/login", "", body.clone()).await.status, 401);
    }
    assert_eq!(world.post("/api/auth/login", "", body).await.status, 429);
}

#[tokio::test]
async fn three_apps_an_hour_and_refusals_for_the_address_do_not_count() {
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
async fn thirty_reads_a_minute_of_one_account() {
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
    // The published table names a limit for each endpoint.
    let other = world.get("/api/deploy/apps", &one).await;
    assert!(other.header("ratelimit").starts_with(r#""default";r=29;"#), "{other:?}");
    assert_eq!(world.get("/api/auth/me", &two).await.status, 200);
}

#[tokio::test]
async fn sixty_invalid_tokens_a_minute_from_one_address_and_valid_ones_go_on() {
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
