use buddo_shared::api::deploy::Rollback;
use buddo_shared::host_wire::report::{DeploymentStatus, Phase};
use buddo_shared::model::workload::ServiceName;

use super::*;
use crate::domain::lifecycle::Status;
use crate::service::deployments::IdempotencyKey;
use crate::testing::story::{self, Story, digest, resolved, status};
use crate::testing::{account, deploys as deployments, owner, services};

/// Revisions 1 to `n`, each live with its own digest.
async fn live_to(n: u32) -> Story {
    let mut story = Story::begin().await;
    story.goes_live(1).await;
    for revision in 2..=n {
        story.restart().await;
        story.goes_live(revision).await;
    }
    story
}

fn refusal(result: Result<u32, DeployError>) -> String {
    result.unwrap_err().to_string()
}

#[tokio::test]
async fn fm_33_a_rollback_pins_the_old_digest_and_a_restart_resolves_the_tag() {
    let story = live_to(3).await;
    assert_eq!(story.roll_back(Some(1)).await.unwrap(), 4);
    let desired = story.desired().await;
    let app = desired.services.public();
    assert_eq!((desired.revision.get(), &app.digest), (4, &Some(digest(1))));
    // A digest reported now does not change it.
    let mut story = story;
    story.goes_live(4).await;
    assert_eq!(story.desired().await.services.public().digest, Some(digest(1)));
    story.restart().await;
    assert_eq!(story.desired().await.services.public().digest, None, "the tag is resolved again");
}

#[tokio::test]
async fn a_rollback_is_a_new_revision_and_its_entry_names_both_ends() {
    let mut story = live_to(2).await;
    assert_eq!(story.roll_back(Some(1)).await.unwrap(), 3);
    assert_eq!(story.stored().await.status(), Status::Deploying);
    let log = deployments::logs(&story.world.state, owner(1), story.id).await.unwrap().logs;
    let [.., rollback, deploy] = log.as_slice() else { panic!("{log:?}") };
    assert_eq!((rollback.action.as_str(), rollback.status.as_str()), ("rollback", "completed"));
    assert_eq!(rollback.initiated_by, Some(account(1).to_string()));
    assert_eq!(rollback.details, Some(json!({ "from": 2, "to": 1, "revision": 3 })));
    assert_eq!((deploy.action.as_str(), deploy.status.as_str()), ("deploy", "pending"));
    let d = story.goes_live(3).await;
    assert_eq!((d.status(), d.failure), (Status::Running, None));
    let list = deployments::revisions(&story.world.state, owner(1), story.id).await.unwrap();
    let numbers: Vec<_> = list.revisions.iter().map(|r| (r.revision, r.rollback_of)).collect();
    assert_eq!(numbers, [(3, Some(1)), (2, None), (1, None)]);
}

#[tokio::test]
async fn defaults_to_the_newest_other_good_revision() {
    let mut story = live_to(3).await;
    assert_eq!(story.roll_back(None).await.unwrap(), 4);
    assert_eq!(story.desired().await.services.public().digest, Some(digest(2)));
    story.goes_live(4).await;
    // There and back again.
    story.roll_back(None).await.unwrap();
    assert_eq!(story.desired().await.services.public().digest, Some(digest(3)));
}

#[tokio::test]
async fn the_default_skips_failed_and_identical_revisions() {
    let mut story = live_to(2).await;
    // 3: a restart that changed nothing. 4: failed. 5: live, then undone by auto rollback.
    story.restart().await;
    let live = status(story.id, 3, Phase::Live, Some(3));
    story.report(resolved(live, digest(2))).await;
    story.restart().await;
    story.report(status(story.id, 4, Phase::Failed, Some(3))).await;
    story.restart().await;
    story.goes_live(5).await;
    story.puts_back(5, 3).await;
    assert_eq!(story.stored().await.revision.get(), 3);
    story.roll_back(None).await.unwrap();
    assert_eq!(story.desired().await.services.public().digest, Some(digest(1)));
}

#[tokio::test]
async fn a_rolled_back_revision_can_be_chosen_explicitly() {
    let mut story = live_to(2).await;
    story.puts_back(2, 1).await;
    assert_eq!(story.roll_back(Some(2)).await.unwrap(), 3);
    let d = story.goes_live(3).await;
    assert_eq!((d.status(), d.failure), (Status::Running, None));
}

#[tokio::test]
async fn a_rollback_can_start_a_stopped_deployment() {
    let story = live_to(2).await;
    story.stop().await;
    story.roll_back(Some(2)).await.unwrap();
    let desired = story.desired().await;
    assert_eq!(
        (desired.run, &desired.services.public().digest),
        (buddo_shared::host_wire::manifest::RunState::Running, &Some(digest(2)))
    );
}

#[tokio::test]
async fn refusals_give_the_reason_and_change_nothing() {
    let mut story = Story::begin().await;
    let words = refusal(story.roll_back(None).await);
    assert!(words.contains("is pending, so rollback is not possible"), "{words}");
    story.goes_live(1).await;
    let before = (story.generation().await, story.log().await);
    let words = refusal(story.roll_back(None).await);
    assert!(words.starts_with("there is no other revision to go back to"), "{words}");
    assert!(refusal(story.roll_back(Some(7)).await).starts_with("there is no revision 7;"));
    assert!(refusal(story.roll_back(Some(0)).await).starts_with("there is no revision 0;"));
    assert_eq!((story.generation().await, story.log().await), before);

    story.restart().await;
    let words = refusal(story.roll_back(Some(1)).await);
    assert!(words.contains("is deploying, so rollback is not possible"), "{words}");
    story.report(status(story.id, 2, Phase::Failed, Some(1))).await;
    assert!(refusal(story.roll_back(Some(2)).await).starts_with("revision 2 was never live;"));
    deployments::destroy(&story.world.state, owner(1), story.id).await.unwrap();
    let words = refusal(story.roll_back(Some(1)).await);
    assert!(words.contains("is destroyed"), "{words}");
}

#[tokio::test]
async fn a_revision_without_a_known_digest_is_refused() {
    let mut story = Story::begin().await;
    story.report(status(story.id, 1, Phase::Live, Some(1))).await;
    story.restart().await;
    story.goes_live(2).await;
    let words = refusal(story.roll_back(Some(1)).await);
    assert!(words.starts_with("the image digest of revision 1 is unknown"), "{words}");
}

#[tokio::test]
async fn an_idempotency_key_makes_a_rollback_happen_once() {
    let story = live_to(3).await;
    let key = || Some(IdempotencyKey::parse(b"k-1").unwrap());
    let state = &story.world.state;
    let to =
        |revision| deployments::rollback(state, owner(1), story.id, Rollback { revision }, key());
    let first = to(Some(1)).await.unwrap();
    assert_eq!(to(Some(1)).await.unwrap(), first);
    assert_eq!(story.revisions().await, [4, 3, 2, 1]);
    assert!(matches!(to(Some(2)).await, Err(DeployError::KeyReused)));
}

/// The numbers of a document's services.
fn introduced(desired: &buddo_shared::host_wire::manifest::DeploymentSpec) -> Vec<(String, u32)> {
    desired.services.iter().map(|s| (s.name.to_string(), s.revision.get())).collect()
}

#[tokio::test]
async fn only_services_that_a_rollback_changes_are_started_again() {
    let mut story = live_to(1).await;
    services::deploy(&story.world.state, story.id, &["cache", "db"]).await;
    let live = status(story.id, 2, Phase::Live, Some(2));
    let told = ["cache", "db"].map(|name| story::service(name, 2, Some(digest(20))));
    story.report(DeploymentStatus { services: told.to_vec(), ..live }).await;
    // 3: without the cache. 4: back to 2, where only the cache is missing.
    services::deploy(&story.world.state, story.id, &["db"]).await;
    story.report(status(story.id, 3, Phase::Live, Some(3))).await;
    assert_eq!(story.roll_back(Some(2)).await.unwrap(), 4);
    let desired = story.desired().await;
    let expected = [("app", 1), ("cache", 4), ("db", 2)].map(|(name, n)| (name.to_owned(), n));
    assert_eq!(introduced(&desired), expected);
    assert!(
        desired
            .services
            .iter()
            .all(|service| service.env.is_some() == (service.name != ServiceName::APP))
    );
}

#[tokio::test]
async fn a_rollback_to_what_runs_already_restarts_nothing_unless_it_was_given_up() {
    let mut story = live_to(1).await;
    story.restart().await;
    story.report(resolved(status(story.id, 2, Phase::Live, Some(2)), digest(1))).await;
    story.roll_back(Some(1)).await.unwrap();
    assert_eq!(introduced(&story.desired().await), [("app".to_owned(), 2)]);
    let d = story.report(status(story.id, 3, Phase::Live, Some(3))).await;
    assert_eq!((d.status(), d.revision.get()), (Status::Running, 3));
    // It fails later; to go back to its content is to try it again.
    story.report(status(story.id, 3, Phase::Failed, None)).await;
    story.roll_back(Some(1)).await.unwrap();
    assert_eq!(introduced(&story.desired().await), [("app".to_owned(), 4)]);
}

/// One whose environment is lost cannot be compared; another one that can be read comes back.
#[tokio::test]
async fn what_cannot_be_read_of_the_current_revision_keeps_no_earlier_one_from_coming_back() {
    let vars = [("KEY".to_owned(), buddo_shared::model::secret::Secret::new("value"))].into();
    let request = buddo_shared::api::deploy::CreateDeployment {
        env_vars: Some(vars),
        ..crate::testing::request("my-app")
    };
    let mut story = Story::of(crate::testing::World::new(), request).await;
    story.goes_live(1).await;
    story.restart().await;
    story.report(resolved(status(story.id, 2, Phase::Live, Some(2)), digest(1))).await;
    let database = rusqlite::Connection::open(story.world.state.config.database()).unwrap();
    database.execute("UPDATE services SET env = zeroblob(60) WHERE revision = 2", []).unwrap();
    assert_eq!(story.roll_back(Some(1)).await.unwrap(), 3);
    assert_eq!(introduced(&story.desired().await), [("app".to_owned(), 3)]);
}
