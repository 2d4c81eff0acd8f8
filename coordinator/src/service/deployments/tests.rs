//! What happens to a failed first deploy, and to one ended by another act.

use buddo_shared::api::deploy::CreateDeployment;
use buddo_shared::host_wire::report::Phase;
use buddo_shared::model::id::DeploymentId;
use serde_json::json;

use super::{DeployError, IdempotencyKey};
use crate::domain::lifecycle::Status;
use crate::testing::deploys::{create, destroy, get, logs, restart, stop};
use crate::testing::story::{Story, status};
use crate::testing::{World, owner, request};

async fn of_name(world: &World, name: &str) -> Result<DeploymentId, DeployError> {
    let made = create(&world.state, owner(1), None, request(name), None).await?;
    Ok(made.deployment.id.parse().unwrap())
}

/// The log of a deployment: action, outcome, and cause.
async fn log(world: &World, id: DeploymentId) -> Vec<String> {
    let log = logs(&world.state, owner(1), id).await.unwrap().logs;
    let words = log.into_iter().map(|entry| {
        let details = entry.details.unwrap_or_default();
        let cause = details["cause"].as_str().unwrap_or_default().to_owned();
        format!("{} {} {cause}", entry.action, entry.status).trim().to_owned()
    });
    words.collect()
}

fn subdomain_is_taken(refused: &DeployError) -> bool {
    let DeployError::Invalid(fields) = refused else { return false };
    fields.iter().any(|field| field.pointer == "/subdomain" && field.detail.contains("is taken"))
}

#[tokio::test]
async fn a_create_with_its_name_replaces_a_failed_first_deploy() {
    let mut story = Story::begin().await;
    let wrong = story.id;
    assert!(subdomain_is_taken(&of_name(&story.world, "my-app").await.unwrap_err()), "it is begun");
    story.report(status(wrong, 1, Phase::Failed, None)).await;
    // For others the name is taken as usual.
    let other = story.world.operator("two").await;
    let body = json!({ "subdomain": "my-app", "image": "docker.io/library/nginx:latest",
        "tier": "buddo-starter" });
    let theirs = story.world.post("/api/deploy/apps", &other, body).await;
    assert_eq!(theirs.refusal(), (422, "validation_failed"), "{theirs:?}");
    assert_eq!(theirs.pointers(), ["/subdomain"]);
    let before = story.generation().await;
    let mended = of_name(&story.world, "my-app").await.unwrap();
    assert_ne!(mended, wrong);
    assert_eq!(story.stored().await.status(), Status::Destroyed);
    assert!(story.generation().await > before, "its host is told");
    let wanted: Vec<_> =
        story.manifest().await.deployments.iter().map(|desired| desired.id).collect();
    assert_eq!(wanted, [mended]);
    let told = log(&story.world, wrong).await;
    assert_eq!(
        told.last().unwrap(),
        "destroy completed its first deploy failed; another of its name replaces it"
    );
    let shown = get(&story.world.state, owner(1), mended).await.unwrap().deployment;
    assert_eq!((shown.status.as_str(), shown.revision), ("pending", 1));
}

#[tokio::test]
async fn a_deployment_that_served_or_was_stopped_keeps_its_name() {
    let mut story = Story::begin().await;
    story.goes_live(1).await;
    story.restart().await;
    story.report(status(story.id, 2, Phase::Failed, None)).await;
    let d = story.stored().await;
    assert!(d.status() == Status::Stopped && d.failure.is_some(), "{d:?}");
    assert!(subdomain_is_taken(&of_name(&story.world, "my-app").await.unwrap_err()));

    let mut story = Story::begin().await;
    story.stop().await;
    assert!(subdomain_is_taken(&of_name(&story.world, "my-app").await.unwrap_err()));
    story.restart().await;
    story.report(status(story.id, 2, Phase::Failed, None)).await;
    of_name(&story.world, "my-app").await.unwrap();
}

#[tokio::test]
async fn a_refused_create_leaves_the_failed_deployment_unchanged() {
    let mut story = Story::begin().await;
    story.report(status(story.id, 1, Phase::Failed, None)).await;
    let refused =
        CreateDeployment { custom_domain: Some("www.example.com".to_owned()), ..request("my-app") };
    let before = (story.stored().await, log(&story.world, story.id).await);
    create(&story.world.state, owner(1), None, refused, None).await.unwrap_err();
    assert_eq!((story.stored().await, log(&story.world, story.id).await), before);
}

#[tokio::test]
async fn failed_first_deploys_do_not_use_up_the_limit() {
    let world = World::with(|config| config.limits.deployments_per_account = 2);
    let mut story = Story::of(world, request("bad-1")).await;
    story.report(status(story.id, 1, Phase::Failed, None)).await;
    let bad = story.id;
    for name in ["bad-2", "bad-3"] {
        story.id = of_name(&story.world, name).await.unwrap();
        story.report(status(story.id, 1, Phase::Failed, None)).await;
    }
    // Two of the three are free, so there is room for one more, not for two.
    let good = of_name(&story.world, "good-1").await.unwrap();
    let full = of_name(&story.world, "good-2").await.unwrap_err();
    assert!(matches!(full, DeployError::LimitReached { limit: 2, .. }), "{full:?}");
    // A failed one that is retried counts in full.
    let again = restart(&story.world.state, owner(1), bad).await.unwrap_err();
    assert!(matches!(again, DeployError::LimitReached { limit: 2, .. }), "{again:?}");
    destroy(&story.world.state, owner(1), good).await.unwrap();
    restart(&story.world.state, owner(1), bad).await.unwrap();
}

#[tokio::test]
async fn a_deploy_ended_by_another_action_is_superseded_not_failed() {
    let mut story = Story::begin().await;
    story.report(status(story.id, 1, Phase::Pulling, None)).await;
    story.restart().await;
    stop(&story.world.state, owner(1), story.id).await.unwrap();
    story.restart().await;
    story.report(status(story.id, 3, Phase::Failed, None)).await;
    assert_eq!(
        log(&story.world, story.id).await,
        [
            "create completed",
            "deploy superseded superseded by a restart",
            "restart completed",
            "deploy superseded stopped before it was live",
            "stop completed",
            "restart completed",
            "deploy failed the registry has no such image",
        ]
    );
}

/// A later version reads it back: what is renamed in it, or becomes required, breaks replays for a
/// day.
#[tokio::test]
async fn the_stored_idempotency_result_matches_the_snapshot() {
    let world = World::new();
    world.host(1, 4096).await;
    let key = IdempotencyKey::parse(b"k-1").unwrap();
    create(&world.state, owner(1), None, request("my-app"), Some(key)).await.unwrap();
    let database = rusqlite::Connection::open(world.state.config.database()).unwrap();
    let sql = "SELECT result FROM idempotency";
    let text: String = database.query_row(sql, [], |row| row.get(0)).unwrap();
    let kept: serde_json::Value = serde_json::from_str(&text).unwrap();
    insta::assert_json_snapshot!(kept, {
        ".deployment.id" => "[id]",
        ".deployment.app_id" => "[id]",
        ".deployment.container_name" => "[name]",
        ".deployment.account" => "[id]",
        ".deployment.team" => "[id]",
        ".deployment.host" => "[id]",
    });
}
