use std::collections::BTreeMap;

use axum::response::IntoResponse as _;
use buddo_shared::api::deploy::CreateDeployment;
use buddo_shared::host_wire::manifest::Manifest;
use buddo_shared::host_wire::report::{Phase, Report, ReportBody};
use buddo_shared::model::secret::Secret;
use rstest::rstest;

use super::super::document;
use super::*;
use crate::service::hosts::reports;
use crate::testing::story::{Story, commit, status};
use crate::testing::{World, deploys as deployments, owner, request};

fn with_env(name: &str) -> CreateDeployment {
    let vars = BTreeMap::from([("KEY".to_owned(), Secret::new("value"))]);
    CreateDeployment { env_vars: Some(vars), ..request(name) }
}

/// A live deployment with an environment, and another one on the same host.
async fn two() -> (Story, DeploymentId) {
    let mut story = Story::of(World::new(), with_env("my-app")).await;
    story.goes_live(1).await;
    let state = &story.world.state;
    let other = deployments::create(state, owner(1), None, request("other"), None).await;
    let other = other.unwrap().deployment.id.parse().unwrap();
    assert_eq!(story.manifest().await.deployments.len(), 2);
    (story, other)
}

fn change(story: &Story, sql: &str) {
    let connection = rusqlite::Connection::open(story.world.state.config.database()).unwrap();
    connection.pragma_update(None, "foreign_keys", false).unwrap();
    assert_ne!(connection.execute(sql, [story.id.to_string()]).unwrap(), 0);
}

fn change_host(story: &Story, sql: &str) {
    let connection = rusqlite::Connection::open(story.world.state.config.database()).unwrap();
    assert_ne!(connection.execute(sql, [story.host.to_string()]).unwrap(), 0);
}

/// Flips one bit of the environment of revision 1; a second call repairs it.
fn flip(story: &Story) {
    let connection = rusqlite::Connection::open(story.world.state.config.database()).unwrap();
    let id = story.id.to_string();
    let sql = "SELECT env FROM services WHERE deployment_id = ?1 AND revision = 1";
    let mut env: Vec<u8> = connection.query_row(sql, [&id], |row| row.get(0)).unwrap();
    *env.last_mut().unwrap() ^= 1;
    let sql = "UPDATE services SET env = ?2 WHERE deployment_id = ?1 AND revision = 1";
    connection.execute(sql, rusqlite::params![id, env]).unwrap();
}

async fn bump(story: &Story) {
    let host = story.host;
    let bumped = story.world.state.store.write(move |tables| tables.bump_generation(host));
    bumped.await.map_err(|error: StoreError| error).unwrap();
}

fn entry(manifest: &Manifest, id: DeploymentId) -> Option<&DeploymentSpec> {
    manifest.deployments.iter().find(|entry| entry.id == id)
}

async fn error_of(story: &Story, id: DeploymentId) -> Option<String> {
    let shown = deployments::status(&story.world.state, owner(1), id).await.unwrap();
    shown.waiting.or(shown.warning).map(|held| format!("{}\n{}", held.cause, held.fix))
}

/// The stored value, even if the rest of the row cannot be read.
fn held(story: &Story) -> Option<String> {
    let connection = rusqlite::Connection::open(story.world.state.config.database()).unwrap();
    let sql = "SELECT held_cause || char(10) || held_fix FROM deployments WHERE id = ?1";
    connection.query_row(sql, [story.id.to_string()], |row| row.get(0)).unwrap()
}

#[rstest]
#[case::a_changed_environment("")]
#[case::no_environment("UPDATE services SET env = zeroblob(60) WHERE deployment_id = ?1")]
#[case::a_corrupt_revision("UPDATE revisions SET domains = 'no JSON' WHERE deployment_id = ?1")]
#[case::no_service("DELETE FROM services WHERE deployment_id = ?1")]
#[case::no_public_one("UPDATE services SET public = 0 WHERE deployment_id = ?1")]
#[case::more_replicas_than_hosts_take("UPDATE services SET replicas = 33 WHERE deployment_id = ?1")]
#[case::a_corrupt_row("UPDATE deployments SET team_id = 'no id' WHERE id = ?1")]
#[tokio::test]
async fn fm_64_an_unreadable_app_keeps_its_last_entry_and_others_go_on(#[case] damage: &str) {
    let (story, other) = two().await;
    let before = story.manifest().await;
    if damage.is_empty() {
        flip(&story);
    } else {
        change(&story, damage);
    }
    let state = &story.world.state;
    deployments::restart(state, owner(1), other).await.unwrap();
    let after = story.manifest().await;
    assert!(after.generation > before.generation);
    assert_eq!(entry(&after, story.id), entry(&before, story.id), "as its host has it");
    assert_eq!(entry(&after, other).unwrap().revision.get(), 2, "and the other goes on");
    assert_eq!(error_of(&story, other).await, None);
    let told = held(&story).unwrap();
    assert!(told.contains("its host keeps what it has"), "{told}");
    if damage.contains("team_id") {
        assert!(told.contains("ask the platform's administrator"), "{told}");
    } else {
        assert_eq!(error_of(&story, story.id).await.unwrap(), told);
    }
    // Repeatedly, also from the document that held it.
    bump(&story).await;
    assert_eq!(entry(&story.manifest().await, story.id), entry(&before, story.id));
}

#[tokio::test]
async fn fm_64_a_held_app_can_be_stopped_and_recovers_once_readable() {
    let (story, _) = two().await;
    let before = story.manifest().await;
    flip(&story);
    story.stop().await;
    let held = story.manifest().await;
    let entry_held = entry(&held, story.id).unwrap();
    assert_eq!(entry_held.run, RunState::Stopped);
    assert_eq!(entry_held.services, entry(&before, story.id).unwrap().services);
    assert!(error_of(&story, story.id).await.unwrap().contains(MAKE_AGAIN));
    flip(&story);
    bump(&story).await;
    let mended = story.manifest().await;
    assert!(entry(&mended, story.id).unwrap().services.public().env.is_some());
    assert_eq!(error_of(&story, story.id).await, None);
}

#[tokio::test]
async fn fm_64_an_unreadable_app_new_to_its_host_is_left_out_and_reported() {
    let story = Story::of(World::new(), with_env("my-app")).await;
    flip(&story);
    assert!(story.manifest().await.deployments.is_empty());
    let error = error_of(&story, story.id).await.unwrap();
    assert!(error.contains("it does not run"), "{error}");
}

#[tokio::test]
async fn fm_64_no_document_is_built_if_the_last_one_is_unreadable_too() {
    let (story, other) = two().await;
    change_host(&story, "UPDATE documents SET envelope = x'00' WHERE host_id = ?1");
    // Nothing has to be held: the next document is complete.
    bump(&story).await;
    assert_eq!(story.manifest().await.deployments.len(), 2);
    change_host(&story, "UPDATE documents SET envelope = x'00' WHERE host_id = ?1");
    flip(&story);
    bump(&story).await;
    let state = &story.world.state;
    let error = document::current(state, story.host).await.unwrap_err();
    assert!(matches!(error, DocumentError::Last(_)), "{error}");
    assert!(error.is_lasting() && !error.is_of_one());
    assert!(error.to_string().contains("mend the deployment, or destroy it"), "{error}");
    // Following that advice, the host gets a document for the rest.
    deployments::destroy(state, owner(1), story.id).await.unwrap();
    let rest = story.manifest().await;
    assert!(entry(&rest, other).is_some() && rest.deployments.len() == 1);
}

#[tokio::test]
async fn fm_64_an_undecryptable_revision_is_refused_with_advice() {
    let mut story = Story::of(World::new(), with_env("my-app")).await;
    story.goes_live(1).await;
    story.restart().await;
    story.goes_live(2).await;
    change(&story, "UPDATE services SET env = zeroblob(60) WHERE deployment_id = ?1");
    let restarted = deployments::restart(&story.world.state, owner(1), story.id).await;
    let rolled = story.roll_back(Some(1)).await;
    for refused in [restarted.map(drop).unwrap_err(), rolled.map(drop).unwrap_err()] {
        assert!(refused.to_string().contains(MAKE_AGAIN), "{refused}");
        let answer = crate::api::problem::ApiError::from(refused).into_response();
        assert_eq!(answer.status(), 422);
    }
}

#[tokio::test]
async fn fm_64_an_app_with_an_unreadable_revision_can_be_destroyed() {
    let (story, other) = two().await;
    change(&story, "UPDATE revisions SET domains = 'no JSON' WHERE deployment_id = ?1");
    deployments::destroy(&story.world.state, owner(1), story.id).await.unwrap();
    let rest = story.manifest().await;
    assert!(entry(&rest, other).is_some() && rest.deployments.len() == 1);
}

#[tokio::test]
async fn fm_64_only_the_unreadable_auto_rollback_is_left_out() {
    let mut story = Story::of(World::new(), with_env("my-app")).await;
    story.goes_live(1).await;
    story.restart().await;
    assert!(story.desired().await.auto_rollback.is_some());
    flip(&story);
    bump(&story).await;
    let desired = story.desired().await;
    assert_eq!((desired.revision.get(), desired.auto_rollback), (2, None));
    assert_eq!(error_of(&story, story.id).await, None);
}

#[tokio::test]
async fn fm_64_a_corrupt_row_does_not_block_reports_about_others() {
    let (story, other) = two().await;
    change(&story, "UPDATE deployments SET team_id = 'no id' WHERE id = ?1");
    let state = &story.world.state;
    let at = state.clock.now();
    let said = [story.id, other].map(|id| status(id, 1, Phase::Pulling, None));
    let batch = said.into_iter().zip(10..).map(|(body, seq)| Report {
        seq,
        at,
        body: ReportBody::Deployment(body),
    });
    assert_eq!(commit(state, story.host, batch.collect()).await.unwrap(), 11);
    let shown = deployments::status(state, owner(1), other).await.unwrap();
    assert_eq!(shown.status.as_str(), "deploying");
    let probes = [story.id, other].map(|id| buddo_shared::host_wire::report::Checked { id, at });
    reports::show(state, story.host, Vec::new(), probes.into()).await.unwrap();
    let shown = deployments::status(state, owner(1), other).await.unwrap();
    assert!(shown.last_health_check.is_some());
}
