use super::*;
use crate::testing::story::Story;
use crate::testing::{World, deploys as deployments, owner, request};

/// Revisions 1 to `n`, each live; two are kept.
async fn story(n: u32) -> Story {
    let world = World::with(|config| config.deploy.kept_revisions = 2);
    let mut story = Story::of(world, request("my-app")).await;
    story.goes_live(1).await;
    for revision in 2..=n {
        story.restart().await;
        story.goes_live(revision).await;
    }
    story
}

#[tokio::test]
async fn old_revisions_are_pruned_once_and_the_pruning_is_audited() {
    let story = story(5).await;
    assert_eq!(sweep(&story.world.state).await.unwrap(), 3);
    assert_eq!(story.revisions().await, [5, 4]);
    let database = rusqlite::Connection::open(story.world.state.config.database()).unwrap();
    let sql = "SELECT group_concat(revision) FROM services";
    let left: String = database.query_row(sql, [], |row| row.get(0)).unwrap();
    assert_eq!(left, "4,5", "no service is left of what was forgotten");
    assert_eq!(story.log().await.last().unwrap(), "prune completed");
    assert_eq!(story.details().await["revisions"], json!([1, 2, 3]));
    let log = story.log().await;
    assert_eq!(sweep(&story.world.state).await.unwrap(), 0);
    assert_eq!(story.log().await, log);
    let words = story.roll_back(Some(1)).await.unwrap_err().to_string();
    assert!(words.starts_with("revision 1 is not kept any more;"), "{words}");
    // The number of a deleted revision is never reused.
    story.restart().await;
    assert_eq!(story.revisions().await, [6, 5, 4]);
}

#[tokio::test]
async fn revisions_in_use_are_kept_however_old() {
    let mut story = story(5).await;
    // Back to 1, which now is both serving and desired.
    story.roll_back(Some(1)).await.unwrap();
    story.goes_live(6).await;
    story.puts_back(6, 1).await;
    sweep(&story.world.state).await.unwrap();
    let kept = story.revisions().await;
    assert!(kept.contains(&1), "{kept:?}");
    assert_eq!(story.desired().await.revision.get(), 1);
}

#[tokio::test]
async fn pruning_does_not_change_the_kept_images() {
    let story = story(5).await;
    let before = story.desired().await.kept_images;
    sweep(&story.world.state).await.unwrap();
    let host = story.host;
    let write = story.world.state.store.write(move |tables| tables.bump_generation(host));
    write.await.map_err(|error: StoreError| error).unwrap();
    assert_eq!(story.desired().await.kept_images, before);
}

#[tokio::test]
async fn every_deployment_is_pruned_except_destroyed_ones() {
    let mut story = story(4).await;
    let other =
        deployments::create(&story.world.state, owner(1), None, request("other"), None).await;
    let first = std::mem::replace(&mut story.id, other.unwrap().deployment.id.parse().unwrap());
    for revision in 1..=4 {
        if revision > 1 {
            story.restart().await;
        }
        story.goes_live(revision).await;
    }
    deployments::destroy(&story.world.state, owner(1), first).await.unwrap();
    assert_eq!(sweep(&story.world.state).await.unwrap(), 2);
    assert_eq!(story.revisions().await, [4, 3]);
    story.id = first;
    assert_eq!(story.revisions().await, [4, 3, 2, 1]);
}
