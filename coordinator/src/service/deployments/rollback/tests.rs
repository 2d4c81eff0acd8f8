use buddo_shared::api::deploy::Rollback;
use buddo_shared::report::Phase;

use super::*;
use crate::domain::lifecycle::Status;
use crate::service::deployments::IdempotencyKey;
use crate::testing::story::{Story, digest, status};
use crate::testing::{account, deploys as deployments, owner};

/// Revisions 1 to `n`, each live with its own digest.
async fn story(n: u32) -> Story {
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
async fn fm_33_a_rollback_runs_the_bytes_of_then_and_a_restart_those_of_now() {
    let story = story(3).await;
    assert_eq!(story.roll_back(Some(1)).await.unwrap(), 4);
    let desired = story.desired().await;
    assert_eq!((desired.revision.get(), desired.digest), (4, Some(digest(1))));
    // A digest reported now does not change it.
    let mut story = story;
    story.goes_live(4).await;
    assert_eq!(story.desired().await.digest, Some(digest(1)));
    story.restart().await;
    assert_eq!(story.desired().await.digest, None, "the tag is resolved again");
}

#[tokio::test]
async fn a_rollback_is_a_deploy_of_its_own_with_an_entry_that_says_from_where_to_where() {
    let mut story = story(2).await;
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
async fn without_a_number_it_goes_to_the_newest_other_one_that_stayed_good() {
    let mut story = story(3).await;
    assert_eq!(story.roll_back(None).await.unwrap(), 4);
    assert_eq!(story.desired().await.digest, Some(digest(2)));
    story.goes_live(4).await;
    // There and back again.
    story.roll_back(None).await.unwrap();
    assert_eq!(story.desired().await.digest, Some(digest(3)));
}

#[tokio::test]
async fn without_a_number_what_failed_and_what_is_the_same_are_passed_over() {
    let mut story = story(2).await;
    // 3: a restart that changed nothing. 4: failed. 5: live, then undone by auto rollback.
    story.restart().await;
    let live = status(story.id, 3, Phase::Live, Some(3));
    story.report(buddo_shared::report::DeploymentStatus { digest: Some(digest(2)), ..live }).await;
    story.restart().await;
    story.report(status(story.id, 4, Phase::Failed, Some(3))).await;
    story.restart().await;
    story.goes_live(5).await;
    story.puts_back(5, 3).await;
    assert_eq!(story.stored().await.revision.get(), 3);
    story.roll_back(None).await.unwrap();
    assert_eq!(story.desired().await.digest, Some(digest(1)));
}

#[tokio::test]
async fn what_was_given_up_can_be_named_and_tried_again() {
    let mut story = story(2).await;
    story.puts_back(2, 1).await;
    assert_eq!(story.roll_back(Some(2)).await.unwrap(), 3);
    let d = story.goes_live(3).await;
    assert_eq!((d.status(), d.failure), (Status::Running, None));
}

#[tokio::test]
async fn a_stopped_deployment_can_be_started_on_the_bytes_it_had() {
    let story = story(2).await;
    story.stop().await;
    story.roll_back(Some(2)).await.unwrap();
    let desired = story.desired().await;
    assert_eq!(
        (desired.run, desired.digest),
        (buddo_shared::manifest::RunState::Running, Some(digest(2)))
    );
}

#[tokio::test]
async fn each_refusal_says_what_is_wrong_and_changes_nothing() {
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
async fn one_whose_bytes_its_host_never_told_cannot_come_back() {
    let mut story = Story::begin().await;
    story.report(status(story.id, 1, Phase::Live, Some(1))).await;
    story.restart().await;
    story.goes_live(2).await;
    let words = refusal(story.roll_back(Some(1)).await);
    assert!(words.starts_with("the image digest of revision 1 is unknown"), "{words}");
}

#[tokio::test]
async fn a_key_makes_a_rollback_happen_once() {
    let story = story(3).await;
    let key = || Some(IdempotencyKey::parse(b"k-1").unwrap());
    let state = &story.world.state;
    let to =
        |revision| deployments::rollback(state, owner(1), story.id, Rollback { revision }, key());
    let first = to(Some(1)).await.unwrap();
    assert_eq!(to(Some(1)).await.unwrap(), first);
    assert_eq!(story.revisions().await, [4, 3, 2, 1]);
    assert!(matches!(to(Some(2)).await, Err(DeployError::KeyReused)));
}
