//! What happens to deployments whose account is suspended and resumed.

use std::sync::Arc;

use buddo_shared::host_wire::manifest::RunState;
use buddo_shared::host_wire::report::{DeploymentStatus, Phase};
use buddo_shared::model::id::Revision;
use rstest::rstest;

use super::{AdminContext, resume, suspend};
use crate::crypto::random::SystemRandom;
use crate::domain::lifecycle::{Lifecycle, Status};
use crate::testing::story::{Story, status};
use crate::testing::{World, deploys as deployments, owner, request};

const OWNER: &str = "first@example.com";

fn admin_context(story: &Story) -> AdminContext {
    let (store, random) = (story.world.state.store.clone(), Arc::new(SystemRandom));
    AdminContext { store, random, now: story.world.clock_now(), actor: None }
}

async fn suspended(story: &Story) {
    suspend(&admin_context(story), OWNER, None).await.unwrap();
    let stored = story.stored().await;
    assert_eq!((stored.status(), stored.run), (Status::Stopped, RunState::Suspended));
    assert_eq!(stored.stopped_at, Some(story.world.clock_now()));
    let shown = deployments::status(&story.world.state, owner(1), story.id).await.unwrap();
    assert_eq!(shown.status.as_str(), "stopped");
    assert!(shown.last_error.unwrap().contains("is suspended"));
}

async fn resumed(story: &Story) -> Status {
    resume(&admin_context(story), OWNER).await.unwrap();
    let stored = story.stored().await;
    assert_eq!((stored.run, stored.stopped_at), (RunState::Running, None));
    stored.status()
}

/// The report of the host once it has parked the app.
fn parked(story: &Story) -> DeploymentStatus {
    status(story.id, 1, Phase::Stopped, None)
}

#[tokio::test]
async fn suspending_stops_an_app_and_resuming_redeploys_it() {
    let mut story = Story::begin().await;
    story.goes_live(1).await;
    suspended(&story).await;
    let parked = parked(&story);
    story.report(parked).await;
    assert_eq!(story.stored().await.status(), Status::Stopped);
    assert_eq!(resumed(&story).await, Status::Deploying);
    assert_eq!(story.goes_live(1).await.status(), Status::Running);
    assert_eq!(
        story.log().await,
        [
            "create completed",
            "deploy completed",
            "suspend completed",
            "reactivate completed",
            "deploy completed",
        ]
    );
}

#[tokio::test]
async fn an_app_not_yet_stopped_by_its_host_keeps_running_on_resume() {
    let mut story = Story::begin().await;
    story.goes_live(1).await;
    suspended(&story).await;
    // Nothing changed for its host, so no report will come.
    assert_eq!(resumed(&story).await, Status::Running);
    let log = story.log().await;
    assert_eq!(log.last().unwrap(), "reactivate completed");
}

#[tokio::test]
async fn resuming_restarts_deploys_and_leaves_stopped_apps_stopped() {
    let story = Story::begin().await;
    suspended(&story).await;
    assert_eq!(resumed(&story).await, Status::Deploying);
    assert_eq!(
        story.log().await,
        [
            "create completed",
            "deploy superseded",
            "suspend completed",
            "reactivate completed",
            "deploy pending",
        ]
    );
    story.stop().await;
    suspend(&admin_context(&story), OWNER, None).await.unwrap();
    resume(&admin_context(&story), OWNER).await.unwrap();
    let stored = story.stored().await;
    assert_eq!((stored.status(), stored.run), (Status::Stopped, RunState::Stopped));
}

#[tokio::test]
async fn an_app_suspended_by_an_older_version_is_resumed() {
    let story = Story::of(World::new(), request("my-app")).await;
    suspend(&admin_context(&story), OWNER, None).await.unwrap();
    let mut old = story.stored().await;
    // As the row was left: with its previous status.
    old.lifecycle = Lifecycle::stored(Status::Running);
    let kept = story.world.state.store.write(move |tables| tables.update_deployment(&old));
    kept.await.map_err(|error: crate::store::StoreError| error).unwrap();
    resume(&admin_context(&story), OWNER).await.unwrap();
    assert_eq!(story.stored().await.run, RunState::Running);
}

#[tokio::test]
async fn fm_64_an_unreadable_row_does_not_block_a_suspension() {
    let story = Story::begin().await;
    let state = &story.world.state;
    deployments::create(state, owner(1), None, request("other"), None).await.unwrap();
    let database = rusqlite::Connection::open(state.config.database()).unwrap();
    database.pragma_update(None, "foreign_keys", false).unwrap();
    let sql = "UPDATE deployments SET host_id = 'no id' WHERE subdomain = 'other'";
    assert_eq!(database.execute(sql, []).unwrap(), 1);
    let (account, changed) = suspend(&admin_context(&story), OWNER, None).await.unwrap();
    assert!(account.suspended.is_some());
    assert_eq!(changed, [(story.host, story.id)], "the host of the other is not known");
    assert_eq!(story.stored().await.run, RunState::Suspended);
    assert_eq!(super::account(&admin_context(&story), OWNER).await.unwrap().deployments, 2);
    assert_eq!(resumed(&story).await, Status::Deploying);
}

/// The audit log, as `action status`, even if the row cannot be read.
fn log(database: &rusqlite::Connection) -> Vec<String> {
    let sql = "SELECT action || ' ' || coalesce(o.status, a.status) FROM audit a
               LEFT JOIN audit_outcomes o ON o.audit_seq = a.seq ORDER BY a.seq";
    let mut statement = database.prepare(sql).unwrap();
    statement.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
}

#[rstest]
#[case::something_of_no_concern("team_id = 'no id'")]
#[case::what_its_host_is_asked_for("run = 'no word'")]
#[tokio::test]
async fn fm_64_a_damaged_app_can_be_suspended_and_resumed(#[case] damage: &str) {
    let mut story = Story::begin().await;
    story.goes_live(1).await;
    assert_eq!(story.desired().await.run, RunState::Running);
    let database = rusqlite::Connection::open(story.world.state.config.database()).unwrap();
    database.pragma_update(None, "foreign_keys", false).unwrap();
    database.pragma_update(None, "ignore_check_constraints", true).unwrap();
    assert_eq!(database.execute(&format!("UPDATE deployments SET {damage}"), []).unwrap(), 1);
    let (_, changed) = suspend(&admin_context(&story), OWNER, None).await.unwrap();
    assert_eq!(changed, [(story.host, story.id)]);
    assert_eq!(story.desired().await.run, RunState::Suspended, "its host parks it");
    assert_eq!(log(&database), ["create completed", "deploy completed", "suspend completed"]);
    let (_, changed) = resume(&admin_context(&story), OWNER).await.unwrap();
    assert_eq!(changed, [(story.host, story.id)]);
    let desired = story.desired().await;
    assert_eq!((desired.run, desired.revision), (RunState::Running, Revision::FIRST));
    assert_eq!(log(&database)[3..], ["reactivate completed"], "it serves what it is to serve");
}
