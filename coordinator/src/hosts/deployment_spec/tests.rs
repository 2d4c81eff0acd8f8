use std::collections::BTreeMap;

use buddo_shared::api::deploy::CreateDeployment;
use buddo_shared::manifest::Strategy;
use buddo_shared::secret::Secret;
use jiff::SignedDuration;

use super::*;
use crate::testing::story::{Story, digest};
use crate::testing::{World, request};

fn with_env(bytes: usize) -> CreateDeployment {
    let vars = BTreeMap::from([("KEY".to_owned(), Secret::new("v".repeat(bytes)))]);
    CreateDeployment { env_vars: Some(vars), ..request("my-app") }
}

#[tokio::test]
async fn a_first_deploy_has_nothing_to_put_back() {
    let mut story = Story::begin().await;
    let first = story.desired().await;
    assert_eq!((first.guard, first.kept_images), (None, vec![]));
    story.goes_live(1).await;
    story.restart().await;
    assert!(story.desired().await.guard.is_some());
}

#[tokio::test]
async fn a_new_revision_is_guarded_with_all_that_brings_the_old_one_back() {
    let mut story = Story::of(World::new(), with_env(5)).await;
    story.goes_live(1).await;
    story.restart().await;
    let desired = story.desired().await;
    assert_eq!(desired.revision.get(), 2);
    let guard = desired.guard.unwrap();
    assert_eq!(guard.seconds, 300);
    let back = guard.fallback;
    assert_eq!((back.revision.get(), back.digest), (1, digest(1)));
    let plain = back.env.unwrap().open(&story.opening, Sealed::ENVIRONMENT, story.id).unwrap();
    assert_eq!(plain.expose(), r#"{"KEY":"vvvvv"}"#);
    assert_eq!(desired.kept_images, [desired.image.pinned(&digest(1))]);
}

#[tokio::test]
async fn a_guard_leaves_the_document_when_it_is_surely_over() {
    let mut story = Story::begin().await;
    story.goes_live(1).await;
    story.restart().await;
    story.goes_live(2).await;
    story.world.clock.advance(SignedDuration::from_mins(59));
    bump(&story).await;
    assert!(story.desired().await.guard.is_some());
    story.world.clock.advance(SignedDuration::from_mins(6));
    bump(&story).await;
    assert_eq!(story.desired().await.guard, None);
}

#[tokio::test]
async fn a_guard_can_be_turned_off_and_a_stopped_app_has_none() {
    let off = World::with(|config| config.deploy.guard_s = 0);
    let mut story = Story::of(off, request("my-app")).await;
    story.goes_live(1).await;
    story.restart().await;
    assert_eq!(story.desired().await.guard, None);

    let mut story = Story::begin().await;
    story.goes_live(1).await;
    story.restart().await;
    story.stop().await;
    assert_eq!(story.desired().await.guard, None);
}

#[tokio::test]
async fn images_of_kept_revisions_are_named_once_each() {
    let world = World::with(|config| config.deploy.kept_revisions = 2);
    let mut story = Story::of(world, request("my-app")).await;
    story.goes_live(1).await;
    for revision in 2..=4 {
        story.restart().await;
        story.goes_live(revision).await;
    }
    story.roll_back(Some(3)).await.unwrap();
    let desired = story.desired().await;
    let images = [3, 4].map(|n| desired.image.pinned(&digest(n)));
    assert_eq!(desired.kept_images, images, "the rollback has the bytes of 3");
}

#[tokio::test]
async fn the_same_state_makes_the_same_document_but_for_what_is_sealed() {
    let mut story = Story::begin().await;
    story.goes_live(1).await;
    story.restart().await;
    let first = story.manifest().await;
    bump(&story).await;
    let second = story.manifest().await;
    assert_eq!(first.deployments, second.deployments);
}

#[tokio::test]
async fn guards_stay_within_the_room_that_documents_have() {
    let mut story = Story::of(World::new(), with_env(1000)).await;
    story.goes_live(1).await;
    story.restart().await;
    let deployment = story.stored().await;
    let (services, host) = (story.world.state.clone(), story.host);
    let store = services.store.clone();
    let guards = store
        .read(move |tables| {
            let host = tables.host(host)?.ok_or(DocumentError::Unknown)?;
            let mut writer = Writer::new(tables, &services, &host, services.clock.now());
            writer.room = 2500;
            let guarded = (0..4).map(|_| Ok(writer.desired(&deployment)?.guard.is_some()));
            guarded.collect::<Result<Vec<bool>, DocumentError>>()
        })
        .await;
    assert_eq!(guards.unwrap(), [true, true, false, false]);
}

#[tokio::test]
async fn strategy_and_domains_are_the_revisions_own() {
    let request = CreateDeployment {
        strategy: Some("recreate".to_owned()),
        tier: Some("bitcoin-pro".to_owned()),
        custom_domain: Some("app.example.com".to_owned()),
        ..request("my-app")
    };
    let world = World::new();
    world.open_tier("bitcoin-pro").await;
    let mut story = Story::of(world, request).await;
    story.goes_live(1).await;
    story.restart().await;
    let desired = story.desired().await;
    assert_eq!(desired.strategy, Strategy::Recreate);
    assert_eq!(desired.domains[0].as_str(), "app.example.com");
}

async fn bump(story: &Story) {
    let host = story.host;
    let write = story.world.state.store.write(move |tables| tables.bump_generation(host));
    write.await.map_err(|error: StoreError| error).unwrap();
}
