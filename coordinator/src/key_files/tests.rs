use std::fs;
use std::path::PathBuf;

use super::*;
use crate::auth::password::Cost;
use crate::crypto::random::SystemRandom;
use crate::daemon;
use crate::testing::{World, account};

/// The outcome of a start after `names` were lost.
fn start_without(world: World, names: &[&str]) -> (World, Result<(), String>) {
    let config = world.state.config.clone();
    let clock = world.clock.clone();
    let moved: Vec<(PathBuf, PathBuf)> = names
        .iter()
        .map(|name| (config.state_dir.join(name), config.state_dir.join(format!("{name}.away"))))
        .collect();
    for (from, to) in &moved {
        fs::rename(from, to).unwrap();
    }
    let cost = Cost { memory_kib: 8, passes: 1 };
    let started = daemon::assemble(config, clock, Arc::new(SystemRandom), cost);
    let started = started.map(drop).map_err(|error| format!("{error:#}"));
    for (from, to) in &moved {
        if started.is_err() {
            assert!(!from.exists(), "another one was made");
        }
        fs::rename(to, from).unwrap();
    }
    (world, started)
}

#[tokio::test]
async fn fm_63_a_missing_key_that_hosts_depend_on_prevents_the_start() {
    let mut world = World::new();
    world.host(1, 4096).await;
    for file in ["ca.key", "ca.pem", "signing.key"] {
        let (same, started) = start_without(world, &[file]);
        let words = started.unwrap_err();
        for part in [file, "hosts", "backup", "is missing"] {
            assert!(words.contains(part), "{part:?} is missing in: {words}");
        }
        world = same;
    }
    // Nothing is encrypted yet, so a new master key does no harm.
    let (_, started) = start_without(world, &["master.key"]);
    started.unwrap();
}

#[tokio::test]
async fn fm_63_a_missing_master_key_prevents_the_start_if_values_are_encrypted() {
    let world = World::new();
    world.first_account().await;
    let id = account(1);
    let sealed = world.state.vault.seal(
        crate::domain::encryption::EncryptionContext::TotpSecret(id),
        &buddo_shared::model::secret::Secret::new("secret"),
    );
    let sealed = sealed.unwrap();
    let connection = rusqlite::Connection::open(world.state.config.database()).unwrap();
    let sql = "UPDATE accounts SET totp_secret = ?1";
    assert_eq!(connection.execute(sql, [sealed]).unwrap(), 1);
    let (world, started) = start_without(world, &["master.key"]);
    let words = started.unwrap_err();
    assert!(words.contains("master.key") && words.contains("backup"), "{words}");
    // There are no hosts yet.
    let (_, started) = start_without(world, &["ca.key", "ca.pem", "signing.key"]);
    started.unwrap();
}

/// After a rotation by an administrator's command, a serving coordinator reads its keys again.
#[tokio::test]
async fn fm_63_a_key_lost_while_serving_is_not_recreated() {
    let world = World::new();
    let state = &world.state;
    let kid = state.keys.keys().newest().public().kid.clone();
    let directory = &state.config.state_dir;
    for file in ["signing.key", "ca.key", "ca.pem"] {
        fs::remove_file(directory.join(file)).unwrap();
    }
    assert!(state.keys.reload().is_err());
    assert!(state.ca.reload().is_err());
    assert_eq!(state.keys.keys().newest().public().kid, kid);
    for file in ["signing.key", "ca.key", "ca.pem"] {
        assert!(!directory.join(file).exists(), "{file}");
    }
}
