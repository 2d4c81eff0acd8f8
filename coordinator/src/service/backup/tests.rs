use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;

use buddo_runtime::clock::Clock as _;

use super::*;
use crate::api::tests::{browsers, keys, orgs};
use crate::crypto::random::SystemRandom;
use crate::service::master_key::{Rotation, Step};
use crate::testing::World;

const VALUE: &str = "canary-environment";

async fn deploy(world: &World, access: &str, name: &str) {
    let body = json!({ "subdomain": name, "image": "docker.io/library/nginx:latest",
        "tier": "buddo-starter", "env_vars": { "KEY": VALUE } });
    let made = world.post("/api/deploy/apps", access, body).await;
    assert_eq!(made.status, 201, "{made:?}");
}

/// The names of the account's deployments.
async fn names(world: &World, access: &str) -> Vec<String> {
    let list = world.get("/api/deploy/apps", access).await.json();
    let apps = list["deployments"].as_array().unwrap().iter();
    apps.map(|app| app["subdomain"].as_str().unwrap().to_owned()).collect()
}

async fn backed_up(world: &World, name: &str) -> PathBuf {
    let file = world.state.config.state_dir.join(name);
    back_up(&world.state.config.database(), &file, world.clock.now()).await.unwrap();
    file
}

/// Options of a test restore.
#[derive(Default)]
struct How {
    no_force: bool,
    keep_sessions: bool,
    old_master_key: Option<PathBuf>,
}

/// Restores into the world's own state directory, after its coordinator has ended, and serves it.
fn restored(world: World, how: How) -> (World, Result<Restored, BackupError>) {
    let config = world.state.config.clone();
    let now = world.clock.now();
    let wanted = Wanted {
        from: &config.state_dir.join("backup.db"),
        database: &config.database(),
        master_key: &config.master_key(),
        old_master_key: how.old_master_key.as_deref(),
        force: !how.no_force,
        keep_sessions: how.keep_sessions,
    };
    let mut result = None;
    let world = world.reopened_after(|| result = Some(restore(&wanted, now)));
    (world, result.unwrap())
}

async fn member(world: &World) -> (String, String) {
    let jwt = world.member("one").await;
    let access = world.cli_tokens(&jwt).await["access_token"].as_str().unwrap().to_owned();
    (jwt, access)
}

/// One of each kind of credential.
struct Credentials {
    jwt: String,
    access: String,
    cookie: String,
    key: String,
    invitation: String,
}

impl Credentials {
    /// Those of the member `one`, and an invitation of the member `two`.
    async fn of(world: &World, jwt: &str, access: &str) -> Self {
        let cookie = browsers::log_in(world, "one").await;
        let team = keys::own_team(world, jwt).await;
        let (_, key) = keys::key(world, jwt, &team, &["deployments:read"]).await;
        world.member("two").await;
        let org = orgs::org(world, jwt, "acme").await;
        let body = json!({ "email": "two@example.com" });
        assert_eq!(world.post(&format!("{org}/invitations"), jwt, body).await.status, 201);
        let invitation = orgs::invited_token(world, "two@example.com").await;
        Self { jwt: jwt.to_owned(), access: access.to_owned(), cookie, key, invitation }
    }

    async fn tried(&self, world: &World) -> [u16; 5] {
        let invitation = json!({ "token": self.invitation });
        let two = world.log_in("two").await;
        [
            world.get("/api/auth/me", &self.jwt).await.status,
            world.get("/api/deploy/apps", &self.access).await.status,
            world.browse("/api/auth/me", &self.cookie).await.status,
            world.get("/api/deploy/apps", &self.key).await.status,
            world.post("/api/invitations/accept", &two, invitation).await.status,
        ]
        .map(|status| status.as_u16())
    }
}

#[tokio::test]
async fn a_restore_returns_to_the_state_of_the_backup() {
    let world = World::new();
    let (host, _) = world.host(1, 4096).await;
    let (jwt, access) = member(&world).await;
    deploy(&world, &access, "kept").await;
    let credentials = Credentials::of(&world, &jwt, &access).await;
    let file = backed_up(&world, "backup.db").await;
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let bytes = fs::read(&file).unwrap();
    assert!(!bytes.windows(VALUE.len()).any(|window| window == VALUE.as_bytes()));
    deploy(&world, &access, "later").await;
    let wanted = |world: &World| {
        let store = world.state.store.clone();
        async move {
            let host: Result<_, StoreError> = store.read(move |tables| tables.host(host)).await;
            host.unwrap().unwrap().wanted
        }
    };
    let before = wanted(&world).await;
    let (world, restored) = restored(world, How::default());
    let restored = restored.unwrap();
    assert!(matches!(restored.audit_chain, AuditChainState::Whole { .. }));
    assert_eq!(restored.raised.hosts, 1);
    assert!(wanted(&world).await > before, "hosts obey what comes now");
    // All users have to log in again, and then see what the backup contains.
    assert_eq!(credentials.tried(&world).await, [401, 401, 401, 401, 400]);
    let fresh = world.cli_tokens(&world.log_in("one").await).await;
    let access = fresh["access_token"].as_str().unwrap();
    assert_eq!(names(&world, access).await, ["kept"]);
    // Its environment can be read: a document with it can be built.
    crate::hosts::document(&world.state, host).await.unwrap();
    let acts: Result<_, StoreError> =
        world.state.store.read(|tables| tables.admin_acts(None, 9)).await;
    let acts: Vec<String> = acts.unwrap().into_iter().map(|act| act.action).collect();
    assert_eq!(acts, ["restore", "backup"]);
    let aside = restored.aside.unwrap();
    snapshot::check(&aside).unwrap();
    let state: Result<AuditChainState, StoreError> =
        world.state.store.read(|tables| tables.verify_audit_chain()).await;
    assert!(matches!(state.unwrap(), AuditChainState::Whole { .. }));
}

#[tokio::test]
async fn a_restore_keeps_sessions_if_asked_to() {
    let world = World::new();
    let (jwt, access) = member(&world).await;
    let credentials = Credentials::of(&world, &jwt, &access).await;
    backed_up(&world, "backup.db").await;
    let (world, result) = restored(world, How { keep_sessions: true, ..How::default() });
    result.unwrap();
    assert_eq!(credentials.tried(&world).await, [200; 5]);
}

#[tokio::test]
async fn existing_files_and_a_database_in_use_are_not_overwritten() {
    let world = World::new();
    member(&world).await;
    let file = backed_up(&world, "backup.db").await;
    let config = world.state.config.clone();
    let again = back_up(&config.database(), &file, world.clock.now()).await;
    assert!(matches!(again, Err(BackupError::Exists(_))));
    let wanted = Wanted {
        from: &file,
        database: &config.database(),
        master_key: &config.master_key(),
        old_master_key: None,
        force: true,
        keep_sessions: false,
    };
    assert!(matches!(restore(&wanted, world.clock.now()), Err(BackupError::InUse)));
    let (world, refused) = restored(world, How { no_force: true, ..How::default() });
    assert!(matches!(refused, Err(BackupError::Occupied(_))));
    world.log_in("one").await;
    assert!(!snapshot::beside(&config.database(), ".restoring").exists());
}

#[tokio::test]
async fn an_invalid_backup_changes_nothing() {
    let world = World::new();
    member(&world).await;
    let whole = fs::read(backed_up(&world, "whole.db").await).unwrap();
    let file = world.state.config.state_dir.join("backup.db");
    let mut torn = whole.clone();
    for byte in &mut torn[4096..12_288] {
        *byte = 0x5a;
    }
    let other = {
        let path = world.state.config.state_dir.join("other.db");
        let other = rusqlite::Connection::open(&path).unwrap();
        other.execute_batch("CREATE TABLE t (x)").unwrap();
        drop(other);
        fs::read(path).unwrap()
    };
    let mut newer = whole.clone();
    // The user version (SQLite's file format, 1.3).
    newer[60..64].copy_from_slice(&9999_u32.to_be_bytes());
    let mut world = world;
    for bad in [&b"no database"[..], &whole[..8192], &torn, &other, &newer] {
        fs::write(&file, bad).unwrap();
        let (reopened, refused) = restored(world, How::default());
        assert!(matches!(refused, Err(BackupError::Store(_))), "{refused:?}");
        world = reopened;
        world.log_in("one").await;
    }
}

#[tokio::test]
async fn a_backup_from_before_a_rotation_needs_its_old_key() {
    let world = World::new();
    world.host(1, 4096).await;
    let (_, access) = member(&world).await;
    deploy(&world, &access, "kept").await;
    backed_up(&world, "backup.db").await;
    let config = world.state.config.clone();
    let old = config.state_dir.join("master.key.of-may");
    fs::copy(config.master_key(), &old).unwrap();
    let vault = Arc::new(Vault::open_existing(&config.master_key()).unwrap());
    let mut rotation = Rotation::new(world.state.store.clone(), vault, &config.state_dir).unwrap();
    while rotation.step(&SystemRandom, world.clock.now()).await.unwrap() != Step::Ended {}
    drop(rotation);
    let (world, refused) = restored(world, How::default());
    assert!(matches!(refused, Err(BackupError::OtherKey(_))), "{refused:?}");
    let (world, result) = restored(world, How { old_master_key: Some(old), ..How::default() });
    result.unwrap();
    let hosts: Result<_, StoreError> = world.state.store.read(|tables| tables.hosts()).await;
    crate::hosts::document(&world.state, hosts.unwrap()[0].id).await.unwrap();
}
