use buddo_runtime::clock::Clock as _;
use jiff::SignedDuration;

use super::*;
use crate::hosts;
use crate::service::{audit_chain, retention};
use crate::testing::story::Story;
use crate::testing::{World, deploys as deployments, owner};

const DAYS: SignedDuration = SignedDuration::from_hours(24 * 800);

fn tokens_and_logins(world: &World) -> Vec<i64> {
    let path = world.state.config.database();
    let connection = rusqlite::Connection::open(path).unwrap();
    ["logins", "oauth_tokens", "oauth_grants", "audit_chain"]
        .iter()
        .map(|table| {
            let sql = format!("SELECT count(*) FROM {table}");
            connection.query_row(&sql, [], |row| row.get(0)).unwrap()
        })
        .collect()
}

async fn sweep(world: &World) {
    crate::tasks::mail::sweep(&world.state).await;
    audit_chain::forget(&world.state).await.unwrap();
    retention::sweep(&world.state).await.unwrap();
}

#[tokio::test]
async fn fm_62_a_clock_jump_expires_no_tokens_or_logins() {
    let world = World::new();
    let jwt = world.member("one").await;
    world.cli_tokens(&jwt).await;
    let before = tokens_and_logins(&world);
    assert!(before.iter().all(|rows| *rows > 0), "{before:?}");
    world.clock.jump(DAYS);
    sweep(&world).await;
    assert_eq!(tokens_and_logins(&world), before);
    // Once it is corrected, everybody is still logged in.
    world.clock.jump(-DAYS);
    sweep(&world).await;
    assert_eq!(tokens_and_logins(&world), before);
    assert_eq!(world.get("/api/auth/me", &jwt).await.status, 200);
    // Real passing of time is different.
    world.clock.advance(DAYS);
    sweep(&world).await;
    let after = tokens_and_logins(&world);
    assert!(after.iter().zip(&before).all(|(after, before)| after < before), "{after:?}");
}

#[tokio::test]
async fn fm_62_nothing_is_signed_until_the_jump_is_confirmed() {
    let story = Story::begin().await;
    let (state, clock) = (&story.world.state, &story.world.clock);
    let first = hosts::document(state, story.host).await.unwrap();
    begin(state).await.unwrap();
    clock.jump(DAYS);
    // Documents signed before can still be sent.
    assert_eq!(hosts::document(state, story.host).await.unwrap().envelope, first.envelope);
    story.restart().await;
    let refused = hosts::document(state, story.host).await.unwrap_err();
    assert!(refused.to_string().contains("clock confirm"), "{refused}");
    let mut watch = Watch::default();
    watch.look(state).await.unwrap();
    hosts::document(state, story.host).await.unwrap_err();
    let shown = confirm(&state.store, clock.now()).await.unwrap();
    assert!(shown.seen.unwrap() < clock.now() - DAYS + SignedDuration::from_secs(1));
    watch.look(state).await.unwrap();
    let second = hosts::document(state, story.host).await.unwrap();
    assert!(second.issued_at > first.issued_at + DAYS - SignedDuration::from_secs(1));
    deployments::status(state, owner(1), story.id).await.unwrap();
}

#[tokio::test]
async fn fm_62_a_document_from_the_future_is_replaced_after_correction() {
    let story = Story::begin().await;
    let (state, clock) = (&story.world.state, &story.world.clock);
    // Below the doubt threshold, but above what a host accepts.
    clock.jump(SignedDuration::from_mins(9));
    let ahead = hosts::document(state, story.host).await.unwrap();
    clock.jump(SignedDuration::from_mins(-9));
    let right = hosts::document(state, story.host).await.unwrap();
    assert_eq!(right.issued_at, clock.now());
    assert!(right.generation > ahead.generation);
}

#[tokio::test]
async fn fm_10_after_days_of_downtime_the_clock_is_in_doubt_until_trusted() {
    let world = World::new();
    let (state, clock) = (&world.state, &world.clock);
    begin(state).await.unwrap();
    let seen = clock.now();
    let kept = async || show(&state.store, clock.now()).await.unwrap().seen.unwrap();
    assert_eq!(kept().await, seen);
    let mut watch = Watch::default();
    clock.advance(SignedDuration::from_mins(5));
    watch.look(state).await.unwrap();
    assert_eq!(kept().await, seen + SignedDuration::from_mins(5));
    // Whether it was off for three days or the clock is wrong cannot be told from this alone.
    clock.advance(SignedDuration::from_hours(72));
    let world = world.reopened();
    begin(&world.state).await.unwrap();
    assert!(world.state.time.check().is_err());
    world.clock.advance(SignedDuration::from_hours(1));
    world.state.time.check().unwrap();
    // A second start meanwhile would have begun from the last trusted time.
    let shown = show(&world.state.store, world.clock.now()).await.unwrap();
    assert_eq!(shown.seen, Some(seen + SignedDuration::from_mins(5)));
    Watch::default().look(&world.state).await.unwrap();
    begin(&world.state).await.unwrap();
    world.state.time.check().unwrap();
}

#[tokio::test]
async fn a_doubted_clock_is_shown_in_the_metrics() {
    let world = World::new();
    let shown = async || crate::api::scrape::text(&world.state).await.unwrap();
    assert!(shown().await.contains("buddo_coordinator_clock_doubted 0"));
    world.clock.jump(DAYS);
    assert!(shown().await.contains("buddo_coordinator_clock_doubted 1"));
}
