use buddo_runtime::clock::Clock as _;
use buddo_shared::api::deploy::CreateDeployment;
use buddo_shared::host_wire::manifest::RunState;
use buddo_shared::host_wire::report::{Phase, Report, ReportBody};
use buddo_shared::host_wire::sealed::Sealed;
use buddo_shared::model::id::{Generation, Revision};
use buddo_shared::model::secret::Secret;
use jiff::SignedDuration;
use rstest::rstest;

use super::*;
use crate::domain::failure::Failure;
use crate::domain::lifecycle::Status;
use crate::store::StoreError;
use crate::store::contract::{AdminActRow, SealedEnvironments};
use crate::testing::story::{Story, commit, digest, resolved, status};
use crate::testing::{World, deploys as deployments, owner, request};

fn admin_context(world: &World) -> AdminContext {
    AdminContext {
        store: world.state.store.clone(),
        random: Arc::clone(&world.state.random),
        now: world.clock.now(),
        actor: None,
    }
}

async fn run(world: &World, name: &str) -> Evacuated {
    let means = Means { vault: Arc::clone(&world.state.vault), overcommit: 1.0 };
    evacuate(&admin_context(world), &means, name, |_| ()).await.unwrap()
}

async fn wanted(world: &World, host: HostId) -> Generation {
    let found: Result<_, StoreError> =
        world.state.store.read(move |tables| tables.host(host)).await;
    found.unwrap().unwrap().wanted
}

async fn acts(world: &World) -> Vec<String> {
    let acts: Result<Vec<AdminActRow>, StoreError> =
        world.state.store.read(|tables| tables.admin_acts(None, 10)).await;
    acts.unwrap().into_iter().map(|act| format!("{} {}", act.action, act.details)).collect()
}

fn with_env() -> CreateDeployment {
    let vars = [("KEY".to_owned(), Secret::new("value"))].into_iter().collect();
    CreateDeployment { env_vars: Some(vars), ..request("my-app") }
}

/// An app running on the first of two hosts, which is lost.
async fn lost() -> Story {
    let mut story = Story::of(World::new(), with_env()).await;
    story.goes_live(1).await;
    let (host, since) = (story.host, story.world.clock.now());
    let away: Result<(), StoreError> =
        story.world.state.store.write(move |tables| tables.set_unreachable(host, since)).await;
    away.unwrap();
    story
}

#[tokio::test]
async fn fm_69_an_evacuated_app_keeps_its_image_and_secrets() {
    let mut story = lost().await;
    let (second, opening) = story.world.host(2, 4096).await;
    let before = (wanted(&story.world, story.host).await, wanted(&story.world, second).await);
    let done = run(&story.world, "container-host-1").await;
    assert_eq!(done.changed, [(second, story.id), (story.host, story.id)]);
    assert!(done.left.is_empty());
    let stored = story.stored().await;
    assert_eq!((stored.host, stored.revision), (second, Revision::new(2)));
    assert_eq!((stored.status(), stored.run), (Status::Deploying, RunState::Running));
    assert_eq!((stored.serving, stored.health), (None, None));
    // Both hosts get a document: one with it, one without.
    assert!(wanted(&story.world, story.host).await > before.0);
    assert!(wanted(&story.world, second).await > before.1);
    assert!(story.manifest().await.deployments.is_empty());
    let old = story.host;
    story.host = second;
    let desired = story.desired().await;
    let app = desired.services.public();
    assert_eq!((desired.revision, &app.digest), (Revision::new(2), &Some(digest(1))));
    let env = app.env.as_ref().unwrap().open(&opening, Sealed::ENVIRONMENT, story.id).unwrap();
    assert_eq!(env.expose(), r#"{"KEY":"value"}"#);
    // The owner's log has it; reports of the previous host about it are ignored.
    assert_eq!(story.details().await["cause"], "evacuation");
    let late = status(story.id, 2, Phase::Failed, None);
    let late = Report { seq: 9, at: story.world.clock.now(), body: ReportBody::Deployment(late) };
    commit(&story.world.state, old, vec![late]).await.unwrap();
    assert_eq!(story.stored().await.status(), Status::Deploying);
    let live = resolved(status(story.id, 2, Phase::Live, Some(2)), digest(1));
    let live = Report { seq: 1, at: story.world.clock.now(), body: ReportBody::Deployment(live) };
    commit(&story.world.state, second, vec![live]).await.unwrap();
    assert_eq!(story.stored().await.status(), Status::Running);
    // The host is drained, and can be removed once an administrator decides so.
    let words = acts(&story.world).await;
    assert!(
        words[0].starts_with("host_evacuated") && words[0].contains("\"moved\":1"),
        "{words:?}"
    );
    assert!(words[1].starts_with("host_evacuate "), "{words:?}");
}

#[tokio::test]
async fn fm_69_apps_without_room_elsewhere_are_reported_and_can_move_later() {
    let story = lost().await;
    let done = run(&story.world, "container-host-1").await;
    assert!(done.changed.is_empty());
    assert_eq!(done.left.len(), 1);
    assert!(done.left[0].reason.contains("no host takes new apps"), "{:?}", done.left);
    assert_eq!(story.stored().await.host, story.host);
    let (second, _) = story.world.host(2, 4096).await;
    assert_eq!(run(&story.world, "container-host-1").await.changed.len(), 2);
    assert_eq!(story.stored().await.host, second);
    // Again: nothing is left to do.
    let again = run(&story.world, "container-host-1").await;
    assert!(again.changed.is_empty() && again.left.is_empty());
}

#[tokio::test]
async fn fm_69_an_evacuation_never_overfills_a_host() {
    let world = World::new();
    world.host(1, 32_000).await;
    let all = 6;
    for n in 0..all {
        let spec = request(&format!("app-{n}"));
        deployments::create(&world.state, owner(1), None, spec, None).await.unwrap();
    }
    // Room for three and one update.
    world.host(2, 1500).await;
    let done = run(&world, "container-host-1").await;
    assert_eq!((done.changed.len() / 2, done.left.len()), (3, all - 3));
    assert!(done.left[0].reason.contains("MB of memory"), "{:?}", done.left[0]);
}

#[tokio::test]
async fn an_evacuated_host_gets_no_new_apps() {
    let world = World::new();
    world.host(1, 32_000).await;
    world.host(2, 4096).await;
    assert!(run(&world, "container-host-1").await.host.identity.drained_at.is_some());
    let made = deployments::create(&world.state, owner(1), None, request("my-app"), None).await;
    assert_eq!(made.unwrap().deployment.host_server.as_deref(), Some("container-host-2"));
}

#[tokio::test]
async fn fm_69_a_stopped_app_moves_without_starting() {
    let story = lost().await;
    story.stop().await;
    let (second, _) = story.world.host(2, 4096).await;
    run(&story.world, "container-host-1").await;
    let stored = story.stored().await;
    assert_eq!((stored.host, stored.revision), (second, Revision::FIRST));
    assert_eq!((stored.status(), stored.run), (Status::Stopped, RunState::Stopped));
}

#[tokio::test]
async fn a_deploy_moved_before_it_is_live_is_superseded_not_failed() {
    let story = Story::begin().await;
    story.world.host(2, 4096).await;
    run(&story.world, "container-host-1").await;
    assert_eq!(story.log().await, ["create completed", "deploy superseded", "deploy pending"]);
}

#[tokio::test]
async fn fm_69_an_app_on_an_unreachable_host_warns_after_one_minute() {
    let story = lost().await;
    let state = &story.world.state;
    let shown = async || {
        let long = deployments::get(state, owner(1), story.id).await.unwrap().deployment;
        let short = deployments::status(state, owner(1), story.id).await.unwrap();
        assert_eq!((&long.health_status, &long.warning), (&short.health_status, &short.warning));
        assert_eq!(short.last_error, None, "no deploy has failed");
        (short.health_status.unwrap(), short.warning)
    };
    story.world.clock.advance(SignedDuration::from_secs(59));
    assert_eq!(shown().await, ("healthy".to_owned(), None));
    story.world.clock.advance(SignedDuration::from_secs(1));
    // Nothing was written meanwhile.
    let (health, warning) = shown().await;
    assert_eq!(health, "unknown");
    let warning = warning.unwrap().cause;
    let words = "the host container-host-1 has been out of reach since 2026-05-21T10:00:00Z";
    assert!(warning.starts_with(words), "{warning}");
    let (host, now) = (story.host, story.world.clock.now());
    let back: Result<(), StoreError> =
        state.store.write(move |tables| tables.set_reached(host, now)).await;
    back.unwrap();
    assert_eq!(shown().await, ("healthy".to_owned(), None));
    // If it is locked, the state of its apps is just as unknown.
    let locked: Result<(), StoreError> =
        state.store.write(move |tables| tables.lock_host(host, now)).await;
    locked.unwrap();
    story.world.clock.advance(SignedDuration::from_mins(1));
    let (health, warning) = shown().await;
    assert_eq!(health, "unknown");
    assert!(warning.unwrap().cause.contains("has been locked since"));
    // One that should not run is not missed.
    story.stop().await;
    let stopped = deployments::status(state, owner(1), story.id).await.unwrap();
    assert_eq!((stopped.health_status, stopped.warning), (None, None));
}

#[tokio::test]
async fn an_administrator_destroys_a_deployment_by_id_or_name() {
    let story = lost().await;
    for unknown in ["nothing", "no such name", &story.id.as_uuid().simple().to_string()] {
        let refused = destroy(&admin_context(&story.world), unknown).await.unwrap_err();
        assert!(matches!(refused, AdminError::NoDeployment(_)), "{unknown}: {refused}");
    }
    let before = story.generation().await;
    let destroyed = destroy(&admin_context(&story.world), "my-app").await.unwrap();
    assert_eq!((destroyed.host, destroyed.id), (story.host, story.id));
    assert_eq!(destroyed.name, "my-app");
    assert_eq!(story.stored().await.status(), Status::Destroyed);
    assert_eq!(story.generation().await, before + 1);
    assert!(story.manifest().await.deployments.is_empty());
    assert_eq!(story.log().await.last().unwrap(), "destroy completed");
    assert!(acts(&story.world).await[0].starts_with("deployment_destroy"));
    // Its environment is erased.
    let id = story.id;
    let env: Result<_, StoreError> =
        story.world.state.store.read(move |tables| tables.environments(id, Revision::FIRST)).await;
    assert_eq!(env.unwrap(), SealedEnvironments::new());
    let again = destroy(&admin_context(&story.world), &id.to_string()).await.unwrap_err();
    assert!(matches!(again, AdminError::Deployment(_)), "{again}");
}

/// Runs SQL on the database, as if by hand.
fn by_hand(world: &World, sql: &str) {
    let database = rusqlite::Connection::open(world.state.config.database()).unwrap();
    database.pragma_update(None, "foreign_keys", false).unwrap();
    database.execute_batch(sql).unwrap();
}

#[tokio::test]
async fn fm_64_unreadable_apps_stay_and_the_rest_is_evacuated() {
    let world = World::new();
    let (first, _) = world.host(1, 8192).await;
    let mut ids = Vec::new();
    for name in ["bad-row", "bad-env", "no-revision", "good"] {
        let spec = CreateDeployment { subdomain: Some(name.to_owned()), ..with_env() };
        let made = deployments::create(&world.state, owner(1), None, spec, None).await.unwrap();
        ids.push(made.deployment.id);
    }
    let (second, _) = world.host(2, 8192).await;
    by_hand(
        &world,
        &format!(
            "UPDATE deployments SET team_id = 'no id' WHERE id = '{}';
             UPDATE services SET env = zeroblob(60) WHERE deployment_id = '{}';
             CREATE TRIGGER full BEFORE INSERT ON revisions WHEN NEW.deployment_id = '{}'
                 BEGIN SELECT RAISE(ABORT, 'no'); END;",
            ids[0], ids[1], ids[2]
        ),
    );
    let done = run(&world, "container-host-1").await;
    let good: DeploymentId = ids[3].parse().unwrap();
    assert_eq!(done.changed, [(second, good), (first, good)]);
    let left: Vec<(&str, &str)> =
        done.left.iter().map(|left| (&*left.name, &*left.reason)).collect();
    assert_eq!(left.len(), 3, "{left:?}");
    assert_eq!((left[0].0, left[1].0, left[2].0), (&*ids[0], "bad-env", "no-revision"));
    assert!(left[0].1.contains("cannot be read"), "{left:?}");
    assert!(left[1].1.contains("create it again with its whole environment"), "{left:?}");
    assert!(left[2].1.contains("cannot store a revision"), "{left:?}");
    let stays: DeploymentId = ids[2].parse().unwrap();
    let stored: Result<_, StoreError> =
        world.state.store.read(move |tables| tables.deployment(stays)).await;
    let stored = stored.unwrap().unwrap();
    assert_eq!((stored.host, stored.revision), (first, Revision::FIRST));
    // The act that ended the first deploy is shown.
    let log = deployments::logs(&world.state, owner(1), good).await.unwrap().logs;
    let log: Vec<String> =
        log.iter().map(|entry| format!("{} {}", entry.action, entry.status)).collect();
    assert_eq!(log, ["create completed", "deploy superseded", "deploy pending"]);
}

#[rstest]
#[case::its_team("UPDATE deployments SET team_id = 'no id'", "my-app")]
#[case::its_name("UPDATE deployments SET subdomain = 'no name'", "")]
#[case::its_revision("UPDATE revisions SET domains = 'no JSON'", "my-app")]
#[tokio::test]
async fn fm_64_an_administrator_can_destroy_a_damaged_deployment(
    #[case] damage: &str,
    #[case] name: &str,
) {
    let mut story = Story::of(World::new(), with_env()).await;
    story.goes_live(1).await;
    assert_eq!(story.manifest().await.deployments.len(), 1);
    by_hand(&story.world, damage);
    let id = story.id.to_string();
    let name = if name.is_empty() { id.as_str() } else { name };
    let destroyed = destroy(&admin_context(&story.world), name).await.unwrap();
    assert_eq!((destroyed.host, destroyed.id, &*destroyed.name), (story.host, story.id, name));
    assert!(story.manifest().await.deployments.is_empty());
    let act = &acts(&story.world).await[0];
    let account = crate::testing::account(1).to_string();
    assert!(act.starts_with("deployment_destroy") && act.contains(&account), "{act}");
    let database = rusqlite::Connection::open(story.world.state.config.database()).unwrap();
    let sql = "SELECT count(*) FROM services WHERE env IS NOT NULL";
    assert_eq!(database.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap(), 0);
    let sql = "SELECT action || ' ' || status FROM audit ORDER BY seq DESC LIMIT 1";
    let last: String = database.query_row(sql, [], |row| row.get(0)).unwrap();
    assert_eq!(last, "destroy completed");
    let again = destroy(&admin_context(&story.world), &id).await.unwrap_err();
    assert!(matches!(again, AdminError::Deployment(_)), "{again}");
}

#[tokio::test]
async fn an_aborted_evacuation_is_audited_with_its_progress() {
    let story = lost().await;
    let world = &story.world;
    world.host(2, 4096).await;
    let boss = crate::testing::account(1);
    let promoted: Result<(), StoreError> =
        world.state.store.write(move |tables| tables.set_admin(boss, true)).await;
    promoted.unwrap();
    let means = Means { vault: Arc::clone(&world.state.vault), overcommit: 1.0 };
    let context = AdminContext { actor: Some(boss), ..admin_context(world) };
    let demoted = |changed: &[_]| {
        assert_eq!(changed.len(), 2, "it is told at once");
        by_hand(world, "UPDATE accounts SET is_admin = 0");
    };
    let refused = evacuate(&context, &means, "container-host-1", demoted).await.unwrap_err();
    assert!(matches!(refused, AdminError::NotAdmin), "{refused}");
    let last = &acts(world).await[0];
    assert!(last.starts_with("host_evacuated") && last.contains("\"moved\":1"), "{last}");
    assert!(last.contains("not an administrator"), "{last}");
}

#[tokio::test]
async fn destroying_a_suspended_app_clears_its_state() {
    let story = Story::begin().await;
    let world = &story.world;
    super::super::suspend(&admin_context(world), "first@example.com", None).await.unwrap();
    let held = "held_code = 'x', held_cause = 'what its host has stays', held_fix = 'ask'";
    by_hand(world, &format!("UPDATE deployments SET {held}, restarts = 3"));
    destroy(&admin_context(world), "my-app").await.unwrap();
    let stored = story.stored().await;
    assert_eq!((stored.status(), stored.held, stored.restarts), (Status::Destroyed, None, 0));
    let shown = deployments::status(&world.state, owner(1), story.id).await.unwrap();
    assert_eq!(shown.last_error, None);
    let log = story.log().await;
    assert!(log.contains(&"deploy superseded".to_owned()), "{log:?}");
}

#[tokio::test]
async fn only_a_deployments_own_host_can_mark_it_held() {
    let story = Story::begin().await;
    let world = &story.world;
    let (other, _) = world.host(2, 4096).await;
    let (host, id) = (story.host, story.id);
    let hold = async |host| {
        let held = [(id, Failure::new("record_damaged", "cannot be read", "ask"))];
        let kept: Result<(), StoreError> =
            world.state.store.write(move |tables| tables.set_held(host, &held)).await;
        kept.unwrap();
        story.stored().await.held.is_some()
    };
    assert!(!hold(other).await, "it has been moved since");
    assert!(hold(host).await);
    let moved: Result<(), StoreError> =
        world.state.store.write(move |tables| tables.set_host(id, other)).await;
    moved.unwrap();
    assert_eq!(story.stored().await.held, None);
}
