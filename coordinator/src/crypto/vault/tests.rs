use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64;

use buddo_shared::model::id::{AccountId, DeploymentId, Revision};
use uuid::Uuid;

use super::*;
use crate::crypto::random::SystemRandom;

fn vault() -> (tempfile::TempDir, Vault) {
    let directory = tempfile::tempdir().unwrap();
    let vault = Vault::open(&directory.path().join("master.key"), &SystemRandom).unwrap();
    (directory, vault)
}

fn id(n: u128) -> Uuid {
    Uuid::from_u128(n)
}

fn env_of(n: u128, revision: u32, service: &str) -> EncryptionContext {
    let (id, revision) = (DeploymentId::new(id(n)), Revision::new(revision));
    EncryptionContext::Environment(id, revision, service.parse().unwrap())
}

fn env(n: u128, revision: u32) -> EncryptionContext {
    env_of(n, revision, "app")
}

#[test]
fn opens_only_in_its_context_and_under_its_key() {
    let (_directory, vault) = vault();
    let sealed = vault.seal(env(1, 1), &Secret::new("DATABASE_URL")).unwrap();
    assert!(!sealed.windows(8).any(|window| window == b"DATABASE"));
    assert_eq!(vault.open_sealed(env(1, 1), &sealed).unwrap().expose(), "DATABASE_URL");
    let elsewhere = [
        env(2, 1),
        env(1, 2),
        env_of(1, 1, "db"),
        EncryptionContext::TotpSecret(AccountId::new(id(1))),
    ];
    for context in elsewhere {
        assert!(matches!(vault.open_sealed(context, &sealed), Err(VaultError::Open)), "{context}");
    }
    let (_other_directory, other) = self::vault();
    assert!(matches!(other.open_sealed(env(1, 1), &sealed), Err(VaultError::OtherKey)));
}

/// What was encrypted when a revision had one environment is bound to this text.
#[test]
fn the_environment_of_an_app_is_bound_as_it_always_was() {
    let id = "00000000-0000-0000-0000-000000000001";
    assert_eq!(env(1, 7).to_string(), format!("revisions.env/{id}/7"));
    assert_eq!(env_of(1, 7, "db").to_string(), format!("services.env/{id}/7/db"));
}

#[test]
fn every_changed_byte_is_noticed() {
    let (_directory, vault) = vault();
    let sealed = vault.seal(env(1, 1), &Secret::new("x")).unwrap();
    for index in 0..sealed.len() {
        let mut changed = sealed.clone();
        changed[index] ^= 1;
        assert!(vault.open_sealed(env(1, 1), &changed).is_err(), "byte {index}");
        assert!(vault.open_sealed(env(1, 1), &sealed[..index]).is_err(), "cut at {index}");
    }
}

#[test]
fn a_damaged_key_file_is_an_error_and_left_as_is() {
    let (directory, vault) = vault();
    let path = directory.path().join("master.key");
    std::fs::write(&path, "short").unwrap();
    assert!(matches!(Vault::open(&path, &SystemRandom), Err(VaultError::Key)));
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "short");
    // Nor does it go on with the previous key.
    assert!(matches!(vault.seal(env(1, 1), &Secret::new("x")), Err(VaultError::Key)));
}

#[test]
fn another_process_follows_a_rotation() {
    let (directory, rotating) = vault();
    let path = directory.path().join("master.key");
    let serving = Vault::open(&path, &SystemRandom).unwrap();
    let before = serving.seal(env(1, 1), &Secret::new("a")).unwrap();
    let fingerprint = serving.fingerprint(b"x");
    rotating.begin_rotation(&SystemRandom).unwrap();
    let after = rotating.seal(env(1, 2), &Secret::new("b")).unwrap();
    assert_eq!(serving.open_sealed(env(1, 2), &after).unwrap().expose(), "b");
    let own = serving.seal(env(1, 3), &Secret::new("c")).unwrap();
    assert!(own.starts_with(&rotating.head()), "it encrypts with the new key");
    let renewed = rotating.renew(env(1, 1), &before, false).unwrap().unwrap();
    assert!(rotating.renew(env(1, 1), &renewed, false).unwrap().is_none());
    rotating.end_rotation().unwrap();
    // A process that read the value before it was renewed can still open it.
    assert_eq!(serving.open_sealed(env(1, 1), &before).unwrap().expose(), "a");
    assert_eq!(serving.fingerprint(b"x"), fingerprint);
    // A process that starts now cannot: the old key is gone.
    let fresh = Vault::open(&path, &SystemRandom).unwrap();
    assert!(matches!(fresh.open_sealed(env(1, 1), &before), Err(VaultError::OtherKey)));
    assert_eq!(fresh.open_sealed(env(1, 1), &renewed).unwrap().expose(), "a");
    assert_eq!(fresh.fingerprint(b"x"), fingerprint);
}

#[test]
fn the_first_format_is_read_only_during_the_upgrade() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("master.key");
    secret_file::create(&path, &Secret::new(BASE64.encode([7; 32]))).unwrap();
    let vault = Vault::open(&path, &SystemRandom).unwrap();
    let old = vault.seal_first_form(env(1, 1), &Secret::new("secret"));
    assert!(vault.open_sealed(env(1, 1), &old).is_err());
    assert!(vault.renew(env(1, 1), &old, false).is_err());
    assert!(vault.renew(env(2, 1), &old, true).is_err(), "it is bound to its owner");
    let renewed = vault.renew(env(1, 1), &old, true).unwrap().unwrap();
    assert_eq!(vault.open_sealed(env(1, 1), &renewed).unwrap().expose(), "secret");
}

#[test]
fn values_from_before_a_rotation_are_re_encrypted() {
    let (directory, vault) = vault();
    let plain = Secret::new("a");
    let before = vault.seal(env(1, 1), &plain).unwrap();
    assert_eq!(vault.seal_again(env(1, 1), &plain, before.clone()).unwrap(), before);
    let rotating = Vault::open(&directory.path().join("master.key"), &SystemRandom).unwrap();
    rotating.begin_rotation(&SystemRandom).unwrap();
    rotating.end_rotation().unwrap();
    let after = vault.seal_again(env(1, 1), &plain, before).unwrap();
    assert!(after.starts_with(&rotating.head()));
}
