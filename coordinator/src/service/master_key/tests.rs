use buddo_runtime::clock::Clock as _;
use buddo_shared::host_wire::manifest::DeploymentSpec;
use buddo_shared::model::id::{AccountId, Revision};
use buddo_shared::model::secret::Secret;
use buddo_shared::model::workload::{ServiceName, SpecDigest};
use serde_json::json;

use super::*;
use crate::crypto::random::SystemRandom;
use crate::testing::story::Story;
use crate::testing::{World, services};

const VALUE: &str = "canary-environment";

/// A coordinator with an environment in three revisions and a second factor.
async fn filled() -> (World, String) {
    let world = World::new();
    world.host(1, 4096).await;
    let jwt = world.member("one").await;
    let access = world.cli_tokens(&jwt).await["access_token"].as_str().unwrap().to_owned();
    let body = json!({ "subdomain": "my-app", "image": "docker.io/library/nginx:latest",
        "tier": "buddo-starter", "env_vars": { "KEY": VALUE } });
    let made = world.post("/api/deploy/apps", &access, body).await.json();
    let id = made["deployment"]["id"].as_str().unwrap().to_owned();
    for _ in 0..2 {
        let path = format!("/api/deploy/apps/{id}/restart");
        assert_eq!(world.post(&path, &access, json!({})).await.status, 200);
    }
    let body = json!({ "password": crate::testing::PASSWORD });
    let enrolled = world.post("/api/auth/totp/enroll", &jwt, body).await.json();
    (world, enrolled["secret"].as_str().unwrap().to_owned())
}

/// Every encrypted value, decrypted by `vault`.
async fn opened(world: &World, vault: &Vault) -> Result<Vec<String>, VaultError> {
    let values: Result<_, StoreError> =
        world.state.store.read(|tables| tables.sealed_otherwise(&[0; 12], 1000)).await;
    let open = |value: SealedValue| {
        vault.open_sealed(value.context, &value.sealed).map(|plain| plain.expose().to_owned())
    };
    values.unwrap().into_iter().map(open).collect()
}

fn vault(world: &World) -> Arc<Vault> {
    Arc::new(Vault::open_existing(&world.state.config.master_key()).unwrap())
}

fn rotation(world: &World) -> Result<Rotation, AtRestError> {
    Rotation::new(world.state.store.clone(), vault(world), &world.state.config.state_dir)
}

#[tokio::test]
async fn a_rotation_killed_at_any_step_resumes_with_every_value_readable() {
    // Begin, values, note, end.
    for killed_after in 0..=4 {
        let (world, secret) = filled().await;
        let serving = Arc::clone(&world.state.vault);
        let old = serving.key_id();
        let fingerprint = serving.fingerprint(b"x");
        let readable = async || {
            for vault in [&serving, &vault(&world)] {
                let values = opened(&world, vault).await.unwrap();
                assert_eq!(values.len(), 4);
                assert!(values.contains(&secret));
                assert_eq!(values.iter().filter(|value| value.contains(VALUE)).count(), 3);
            }
        };
        let now = world.clock.now();
        let mut first = rotation(&world).unwrap();
        for _ in 0..killed_after {
            first.step(&SystemRandom, now).await.unwrap();
            readable().await;
        }
        drop(first);
        readable().await;
        let mut again = rotation(&world).unwrap();
        assert_eq!(again.is_resumed(), (1..=3).contains(&killed_after));
        while again.step(&SystemRandom, now).await.unwrap() != Step::Ended {
            readable().await;
        }
        readable().await;
        let vault = vault(&world);
        assert!(vault.old_key_id().is_none());
        assert_ne!(vault.key_id(), old);
        assert_eq!(vault.fingerprint(b"x"), fingerprint);
        let file = std::fs::read_to_string(world.state.config.master_key()).unwrap();
        assert!(!file.contains("old"));
    }
}

#[tokio::test]
async fn a_rotation_re_encrypts_every_value_in_small_batches() {
    let (world, _) = filled().await;
    let sealing = Arc::clone(&world.state.vault);
    let added: Result<(), StoreError> = world
        .state
        .store
        .write(move |tables| {
            let values = tables.sealed_otherwise(&[0; 12], 1000)?;
            let id = values.iter().find_map(|value| match value.context {
                EncryptionContext::Environment(id, ..) => Some(id),
                EncryptionContext::TotpSecret(_) => None,
            });
            let id = id.unwrap();
            let row = tables.revision(id, Revision::FIRST)?.unwrap();
            for number in (4..=123).map(Revision::new) {
                let context = EncryptionContext::Environment(id, number, ServiceName::APP);
                let sealed = sealing.seal(context, &Secret::new(VALUE)).unwrap();
                let row = row.again(number, Timestamp::UNIX_EPOCH);
                tables.insert_revision(id, &row, &[(ServiceName::APP, sealed)].into())?;
            }
            Ok(())
        })
        .await;
    added.unwrap();
    let (mut rotation, now) = (rotation(&world).unwrap(), world.clock.now());
    let mut renewed = Vec::new();
    loop {
        match rotation.step(&SystemRandom, now).await.unwrap() {
            Step::Renewed(some) => renewed.push(some),
            Step::Began | Step::Noted => {}
            Step::Ended => break,
        }
    }
    assert_eq!(renewed, [50, 50, 24]);
    assert_eq!(opened(&world, &vault(&world)).await.unwrap().len(), 124);
}

fn specs(desired: &DeploymentSpec) -> Vec<SpecDigest> {
    desired.services.iter().map(|service| service.spec.clone()).collect()
}

#[tokio::test]
async fn a_rotation_covers_every_service_and_each_value_stays_in_its_place() {
    let story = Story::begin().await;
    let world = &story.world;
    services::deploy(&world.state, story.id, &["cache", "db"]).await;
    services::deploy(&world.state, story.id, &["db"]).await;
    let before = specs(&story.desired().await);
    let old = world.state.vault.head();
    let (mut rotation, now) = (rotation(world).unwrap(), world.clock.now());
    while rotation.step(&SystemRandom, now).await.unwrap() != Step::Ended {}
    let vault = vault(world);
    let values: Result<_, StoreError> =
        world.state.store.read(|tables| tables.sealed_otherwise(&[0; 12], 1000)).await;
    let values: Vec<SealedValue> = values.unwrap();
    let mut opened = Vec::new();
    for SealedValue { context, sealed } in &values {
        assert!(!sealed.starts_with(&old));
        let EncryptionContext::Environment(_, number, service) = *context else {
            panic!("{context}")
        };
        assert_eq!(
            vault.open_sealed(*context, sealed).unwrap().expose(),
            services::env_of(service.as_str())
        );
        opened.push((number.get(), service.to_string()));
        // Neither another service nor another revision can be given it.
        for other in values.iter().filter(|other| other.context != *context) {
            let moved = vault.open_sealed(other.context, sealed);
            assert!(matches!(moved, Err(VaultError::Open)), "{context} as {}", other.context);
        }
    }
    opened.sort();
    let expected = [(2, "cache"), (2, "db"), (3, "db")].map(|(n, name)| (n, name.to_owned()));
    assert_eq!(opened, expected);
    let host = story.host;
    let bumped = world.state.store.write(move |tables| tables.bump_generation(host)).await;
    bumped.map_err(|error: StoreError| error).unwrap();
    assert_eq!(specs(&story.desired().await), before, "the content is the same to its host");
}

/// Time advances only for waiting tasks.
#[tokio::test]
async fn a_rotation_pauses_after_each_transaction() {
    let (world, _) = filled().await;
    let (mut rotation, now) = (rotation(&world).unwrap(), world.clock.now());
    assert_eq!(rotation.step(&SystemRandom, now).await.unwrap(), Step::Began);
    tokio::time::pause();
    let began = tokio::time::Instant::now();
    assert_eq!(rotation.step(&SystemRandom, now).await.unwrap(), Step::Renewed(4));
    assert!(began.elapsed() >= SHORTEST_REST, "{:?}", began.elapsed());
}

#[tokio::test]
async fn two_rotations_at_once_are_refused() {
    let (world, _) = filled().await;
    let first = rotation(&world).unwrap();
    assert!(matches!(rotation(&world), Err(AtRestError::UnderWay)));
    drop(first);
    rotation(&world).unwrap();
}

#[tokio::test]
async fn the_old_key_is_kept_while_a_value_cannot_be_re_encrypted() {
    let (world, _) = filled().await;
    let values: Result<Vec<SealedValue>, StoreError> =
        world.state.store.read(|tables| tables.sealed_otherwise(&[0; 12], 1000)).await;
    // Two rows exchanged their environments.
    let mut values = values
        .unwrap()
        .into_iter()
        .filter(|value| matches!(value.context, EncryptionContext::Environment(..)));
    let (one, other) = (values.next().unwrap(), values.next().unwrap());
    let done: Result<(), StoreError> = world
        .state
        .store
        .write(move |tables| {
            for (value, by) in [(&one, &other), (&other, &one)] {
                assert!(tables.replace_sealed(value, &by.sealed)?);
            }
            Ok(())
        })
        .await;
    done.unwrap();
    assert!(matches!(opened(&world, &world.state.vault).await, Err(VaultError::Open)));
    let mut rotation = rotation(&world).unwrap();
    let now = world.clock.now();
    rotation.step(&SystemRandom, now).await.unwrap();
    let refused = rotation.step(&SystemRandom, now).await.unwrap_err();
    assert!(matches!(refused, AtRestError::Unreadable { .. }), "{refused}");
    assert!(vault(&world).old_key_id().is_some());
}

#[tokio::test]
async fn values_in_the_first_format_are_upgraded_once_at_startup() {
    let (world, secret) = filled().await;
    let account = AccountId::new(world.account_id("one").await);
    let context = EncryptionContext::TotpSecret(account);
    let old = world.state.vault.seal_first_form(context, &Secret::new(secret.clone()));
    put(&world, context, old.clone()).await;
    assert!(opened(&world, &world.state.vault).await.is_err());
    settle(&world.state.store, &world.state.vault).await.unwrap();
    assert!(opened(&world, &world.state.vault).await.unwrap().contains(&secret));
    // Later an old value cannot be brought back.
    put(&world, context, old).await;
    settle(&world.state.store, &world.state.vault).await.unwrap();
    assert!(opened(&world, &world.state.vault).await.is_err());
}

/// Replaces a ciphertext by another one.
async fn put(world: &World, context: EncryptionContext, by: Vec<u8>) {
    let done: Result<bool, StoreError> = world
        .state
        .store
        .write(move |tables| {
            let all = tables.sealed_otherwise(&[0; 12], 1000)?;
            let there = all.into_iter().find(|value| value.context == context).unwrap();
            tables.replace_sealed(&there, &by)
        })
        .await;
    assert!(done.unwrap());
}

/// A concurrent destroy or deploy is not overwritten.
#[tokio::test]
async fn a_value_changed_during_re_encryption_is_not_overwritten() {
    let (world, _) = filled().await;
    let write = world.state.store.write(|tables| {
        let value = tables.sealed_otherwise(&[0; 12], 1)?.remove(0);
        let stale = SealedValue { sealed: vec![1; 40], ..value.clone() };
        assert!(!tables.replace_sealed(&stale, b"another")?);
        Ok::<_, StoreError>(tables.sealed_otherwise(&[0; 12], 1)?.remove(0) == value)
    });
    assert!(write.await.unwrap());
}
