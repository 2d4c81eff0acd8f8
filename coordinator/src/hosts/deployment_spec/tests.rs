use std::collections::{BTreeMap, BTreeSet};

use buddo_shared::api::deploy::CreateDeployment;
use buddo_shared::host_wire::manifest::Strategy;
use buddo_shared::model::secret::Secret;
use jiff::SignedDuration;

use super::*;
use crate::testing::story::{Story, digest};
use crate::testing::{World, owner, request, services};

fn with_env(bytes: usize) -> CreateDeployment {
    let vars = BTreeMap::from([("KEY".to_owned(), Secret::new("v".repeat(bytes)))]);
    CreateDeployment { env_vars: Some(vars), ..request("my-app") }
}

#[tokio::test]
async fn a_first_deploy_has_no_auto_rollback() {
    let mut story = Story::begin().await;
    let first = story.desired().await;
    assert_eq!((first.auto_rollback, first.kept_images), (None, vec![]));
    story.goes_live(1).await;
    story.restart().await;
    assert!(story.desired().await.auto_rollback.is_some());
}

#[tokio::test]
async fn a_new_revisions_auto_rollback_contains_the_whole_fallback() {
    let mut story = Story::of(World::new(), with_env(5)).await;
    story.goes_live(1).await;
    story.restart().await;
    let desired = story.desired().await;
    assert_eq!(desired.revision.get(), 2);
    let auto_rollback = desired.auto_rollback.unwrap();
    assert_eq!(auto_rollback.seconds, 300);
    let back = auto_rollback.fallback;
    let app = back.services.public();
    assert_eq!((back.revision.get(), &app.digest), (1, &Some(digest(1))));
    let plain =
        app.env.as_ref().unwrap().open(&story.opening, Sealed::ENVIRONMENT, story.id).unwrap();
    assert_eq!(plain.expose(), r#"{"KEY":"vvvvv"}"#);
    assert_eq!(desired.kept_images, [desired.services.public().image.pinned(&digest(1))]);
}

#[tokio::test]
async fn an_expired_auto_rollback_is_dropped_from_the_document() {
    let mut story = Story::begin().await;
    story.goes_live(1).await;
    story.restart().await;
    story.goes_live(2).await;
    story.world.clock.advance(SignedDuration::from_mins(59));
    bump(&story).await;
    assert!(story.desired().await.auto_rollback.is_some());
    story.world.clock.advance(SignedDuration::from_mins(6));
    bump(&story).await;
    assert_eq!(story.desired().await.auto_rollback, None);
}

#[tokio::test]
async fn auto_rollback_can_be_turned_off_and_a_stopped_app_has_none() {
    let off = World::with(|config| config.deploy.auto_rollback_s = 0);
    let mut story = Story::of(off, request("my-app")).await;
    story.goes_live(1).await;
    story.restart().await;
    assert_eq!(story.desired().await.auto_rollback, None);

    let mut story = Story::begin().await;
    story.goes_live(1).await;
    story.restart().await;
    story.stop().await;
    assert_eq!(story.desired().await.auto_rollback, None);
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
    let images = [3, 4].map(|n| desired.services.public().image.pinned(&digest(n)));
    assert_eq!(desired.kept_images, images, "the rollback has the bytes of 3");
}

#[tokio::test]
async fn the_same_state_makes_the_same_document() {
    let mut story = Story::begin().await;
    story.goes_live(1).await;
    story.restart().await;
    let first = story.manifest().await;
    bump(&story).await;
    let second = story.manifest().await;
    assert_eq!(first.deployments, second.deployments);
}

#[tokio::test]
async fn auto_rollbacks_stay_within_the_document_size_limit() {
    let mut story = Story::of(World::new(), with_env(1000)).await;
    story.goes_live(1).await;
    story.restart().await;
    let deployment = story.stored().await;
    let (services, host) = (story.world.state.clone(), story.host);
    let store = services.store.clone();
    let auto_rollbacks = store
        .read(move |tables| {
            let host = tables.host(host)?.ok_or(DocumentError::Unknown)?;
            let mut writer = Writer::new(tables, &services, &host, services.clock.now());
            writer.room = 2500;
            let watched = (0..4).map(|_| Ok(writer.desired(&deployment)?.auto_rollback.is_some()));
            watched.collect::<Result<Vec<bool>, DocumentError>>()
        })
        .await;
    assert_eq!(auto_rollbacks.unwrap(), [true, true, false, false]);
}

#[tokio::test]
async fn strategy_and_domains_come_from_the_revision() {
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
    assert_eq!(desired.services.public().strategy, Strategy::Recreate);
    assert_eq!(desired.domains[0].as_str(), "app.example.com");
}

#[tokio::test]
async fn a_document_has_every_service_with_its_own_environment() {
    let mut story = Story::of(World::new(), with_env(5)).await;
    story.goes_live(1).await;
    services::deploy(&story.world.state, story.id, &["db", "cache"]).await;
    let desired = story.desired().await;
    let introduced = |services: &Services| -> Vec<(String, u32)> {
        services.iter().map(|s| (s.name.to_string(), s.revision.get())).collect()
    };
    let named = |all: [(&str, u32); 3]| all.map(|(name, number)| (name.to_owned(), number));
    assert_eq!(desired.revision.get(), 2);
    assert_eq!(
        introduced(&desired.services),
        named([("app", 1), ("cache", 2), ("db", 2)]),
        "what did not change keeps its number"
    );
    assert_eq!(desired.services.public().name, ServiceName::APP);
    for service in &desired.services {
        let sealed = service.env.as_ref().unwrap();
        let plain = sealed.open(&story.opening, Sealed::ENVIRONMENT, story.id).unwrap();
        let expected = match service.name {
            ServiceName::APP => r#"{"KEY":"vvvvv"}"#.to_owned(),
            other => services::env_of(other.as_str()),
        };
        assert_eq!(plain.expose(), expected);
    }
    // The fallback has the app as it is, so that its host leaves it alone.
    let fallback = desired.auto_rollback.as_ref().unwrap().fallback.clone();
    assert_eq!(introduced(&fallback.services), [("app".to_owned(), 1)]);
    assert_eq!(fallback.services.public().spec, desired.services.public().spec);
    let specs: BTreeSet<_> = desired.services.iter().map(|s| s.spec.clone()).collect();
    assert_eq!(specs.len(), 3);
    // A restart is everything again, with the same content.
    story.restart().await;
    let again = story.desired().await;
    assert_eq!(introduced(&again.services), named([("app", 3), ("cache", 3), ("db", 3)]));
    assert!(desired.services.iter().zip(&again.services).all(|(one, two)| one.spec == two.spec));
}

#[tokio::test]
async fn a_spec_digest_stays_as_long_as_the_content_and_tells_two_deployments_apart() {
    let story = Story::of(World::new(), with_env(5)).await;
    let first = story.desired().await.services.public().spec.clone();
    bump(&story).await;
    assert_eq!(story.desired().await.services.public().spec, first, "though it is sealed again");
    let other = CreateDeployment { subdomain: Some("other".to_owned()), ..with_env(5) };
    let state = &story.world.state;
    crate::testing::deploys::create(state, owner(1), None, other, None).await.unwrap();
    let both = story.manifest().await.deployments;
    assert_ne!(both[0].services.public().spec, both[1].services.public().spec);
}

async fn bump(story: &Story) {
    let host = story.host;
    let write = story.world.state.store.write(move |tables| tables.bump_generation(host));
    write.await.map_err(|error: StoreError| error).unwrap();
}
