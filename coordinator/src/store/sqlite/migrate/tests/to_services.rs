//! A database of schema 17, in which a revision was one container, becomes one of services.

use buddo_shared::model::id::{DeploymentId, Revision};
use buddo_shared::model::secret::Secret;
use buddo_shared::model::workload::ServiceName;
use rusqlite::params;
use uuid::Uuid;

use super::*;
use crate::crypto::random::SystemRandom;
use crate::crypto::vault::Vault;
use crate::domain::encryption::EncryptionContext;
use crate::domain::revision::RevisionRecord;
use crate::service::deployments::Shown;
use crate::store::contract::{Hosts as _, Revisions as _};
use crate::store::sql::Tx;

const ENV: &str = r#"{"KEY":"canary"}"#;

struct Migrated {
    connection: Connection,
    vault: Vault,
    _directory: tempfile::TempDir,
}

fn id(n: u128) -> DeploymentId {
    DeploymentId::new(Uuid::from_u128(n))
}

/// The app with an environment, and the one without.
const A: u128 = 0xa;
const B: u128 = 0xb;

fn migrated() -> Migrated {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.db");
    let vault = Vault::open(&directory.path().join("master.key"), &SystemRandom).unwrap();
    let mut old = Connection::open(&path).unwrap();
    Migrations::from_slice(&STEPS[..17]).to_latest(&mut old).unwrap();
    old.execute_batch(include_str!("../schema_17.sql")).unwrap();
    for number in [1, 2] {
        // Bound to the same text as then; a test of the vault holds it to that.
        let context =
            EncryptionContext::Environment(id(A), Revision::new(number), ServiceName::APP);
        let sealed = vault.seal(context, &Secret::new(ENV)).unwrap();
        let sql = "UPDATE revisions SET env = ?3 WHERE deployment_id = ?1 AND number = ?2";
        old.execute(sql, params![id(A).to_string(), number, sealed]).unwrap();
    }
    drop(old);
    Migrated { connection: open(&path).unwrap(), vault, _directory: directory }
}

impl Migrated {
    fn texts(&self, sql: &str) -> Vec<String> {
        let mut statement = self.connection.prepare(sql).unwrap();
        statement.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
    }

    fn revisions(&self, n: u128) -> Vec<RevisionRecord> {
        Tx::new(&self.connection).revisions(id(n)).unwrap()
    }

    fn is_counted_right(&self) {
        let wrong = Tx::new(&self.connection).miscounted_hosts(9).unwrap();
        assert!(wrong.is_empty(), "{wrong:?}");
    }

    fn env_bytes(&self) -> i64 {
        let sql = "SELECT env_bytes FROM host_loads";
        self.connection.query_row(sql, [], |row| row.get(0)).unwrap()
    }
}

#[test]
fn fm_48_every_revision_has_what_it_had_as_the_service_app() {
    let migrated = migrated();
    let services = migrated.texts(
        "SELECT format('%s %d %s %d %d %d %s %s %d %s %d', substr(deployment_id, -1), revision,
             name, introduced, public, replicas, image, coalesce(substr(digest, 1, 8), '-'), port,
             strategy, env IS NOT NULL)
         FROM services ORDER BY 1",
    );
    assert_eq!(
        services,
        [
            "a 1 app 1 1 1 ghcr.io/a/b:1 sha256:1 3000 rolling 1",
            "a 2 app 2 1 1 ghcr.io/a/b:1 - 3001 recreate 1",
            "b 1 app 1 1 1 docker.io/library/nginx:latest - 80 rolling 0",
            "c 1 app 1 1 1 docker.io/library/nginx:latest - 80 rolling 0",
        ]
    );
    let [first, second] = &migrated.revisions(A)[..] else { panic!() };
    assert_eq!(first.domains[0].as_str(), "app.example.com");
    assert!(first.live_at.is_some() && first.past().can_return());
    assert_eq!(second.rollback_of, Some(Revision::FIRST));
    assert!(second.failure.is_some());
    assert_eq!(second.services.public().introduced, Revision::new(2));
    let left = migrated.texts("SELECT name FROM pragma_table_info('revisions') ORDER BY name");
    assert_eq!(
        left,
        [
            "created_at",
            "deployment_id",
            "domains",
            "failure_cause",
            "failure_code",
            "failure_fix",
            "live_at",
            "number",
            "rollback_of"
        ]
    );
    assert!(migrated.texts("SELECT \"table\" FROM pragma_foreign_key_check").is_empty());
    assert_eq!(migrated.texts("PRAGMA integrity_check"), ["ok"]);
}

#[test]
fn fm_48_environments_stay_readable() {
    let migrated = migrated();
    for number in [1, 2].map(Revision::new) {
        let envs = Tx::new(&migrated.connection).environments(id(A), number).unwrap();
        let context = EncryptionContext::Environment(id(A), number, ServiceName::APP);
        let plain = migrated.vault.open_sealed(context, &envs[&ServiceName::APP]).unwrap();
        assert_eq!(plain.expose(), ENV);
    }
    let tx = Tx::new(&migrated.connection);
    assert!(tx.environments(id(B), Revision::FIRST).unwrap().is_empty());
}

#[test]
fn what_hosts_carry_is_still_counted_and_the_rest_still_kept() {
    let migrated = migrated();
    let of_one = i64::try_from(12 + 12 + ENV.len() + 16).unwrap();
    assert_eq!(migrated.env_bytes(), of_one, "of the current revision only");
    migrated.is_counted_right();
    let run = |sql: &str| migrated.connection.execute(sql, []);
    let insert = |name: &str, public: u8| {
        run(&format!(
            "INSERT INTO services (deployment_id, revision, name, introduced, public, replicas,
                 image, port, env, probe, strategy)
             SELECT deployment_id, revision, '{name}', introduced, {public}, replicas, image, port,
                 zeroblob(100), probe, strategy
             FROM services WHERE port = 3001 AND name = 'app'"
        ))
    };
    insert("db", 0).unwrap();
    assert_eq!(migrated.env_bytes(), of_one + 100);
    migrated.is_counted_right();
    run("UPDATE services SET env = zeroblob(50) WHERE name = 'db'").unwrap();
    assert_eq!(migrated.env_bytes(), of_one + 50);
    // To another revision and back, as a deploy and its rollback.
    run("UPDATE deployments SET revision = 1 WHERE revision = 2").unwrap();
    assert_eq!(migrated.env_bytes(), of_one);
    run("UPDATE deployments SET revision = 2 WHERE subdomain = 'app-a'").unwrap();
    assert_eq!(migrated.env_bytes(), of_one + 50);
    run("DELETE FROM services WHERE name = 'db'").unwrap();
    assert_eq!(migrated.env_bytes(), of_one);
    migrated.is_counted_right();
    insert("other", 1).unwrap_err();
    run("DELETE FROM revisions WHERE number = 2").unwrap_err();
    let triggers = "SELECT count(*) || '' FROM sqlite_schema
                    WHERE type = 'trigger' AND name LIKE 'host_loads_%'";
    assert_eq!(migrated.texts(triggers), ["7"]);
}

/// A host that has a document of schema 1 under a generation is never given another under it.
#[test]
fn documents_are_made_again_under_new_generations() {
    let migrated = migrated();
    assert_eq!(migrated.texts("SELECT count(*) || '' FROM documents"), ["0"]);
    assert_eq!(migrated.texts("SELECT generation || '' FROM hosts"), ["8"]);
}

#[test]
fn a_request_that_comes_again_after_the_upgrade_is_answered_as_before() {
    let migrated = migrated();
    let kept = migrated.texts("SELECT result FROM idempotency WHERE key = 'kept'");
    let shown: Shown = serde_json::from_str(&kept[0]).unwrap();
    assert_eq!(shown.revision, migrated.revisions(B)[0]);
    let others = migrated.texts("SELECT result FROM idempotency WHERE key <> 'kept' ORDER BY key");
    assert_eq!(others, ["{", "{}"]);
}
