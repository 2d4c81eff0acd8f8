//! Opens the file and migrates its schema.

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, TransactionBehavior};
use rusqlite_migration::{M, Migrations};

use super::driver::failed;
use super::{checkpoint, snapshot};
use crate::process::secret_file;
use crate::store::contract::StoreError;
use crate::store::sql::{Tx, audit_chain};

/// The schema, one file per step; a released step is never edited.
const STEPS: &[M<'static>] = &[
    M::up(include_str!("../migrations/0001_core.sql")),
    M::up(include_str!("../migrations/0002_accounts.sql")),
    M::up(include_str!("../migrations/0003_troubles.sql")),
    M::up(include_str!("../migrations/0004_revisions.sql")),
    M::up(include_str!("../migrations/0005_trust.sql")),
    M::up(include_str!("../migrations/0006_account_safety.sql")),
    M::up(include_str!("../migrations/0007_oauth.sql")),
    M::up(include_str!("../migrations/0008_teams.sql")),
    M::up(include_str!("../migrations/0009_at_rest.sql")),
    M::up(include_str!("../migrations/0010_bounded_hosts.sql")),
    M::up(include_str!("../migrations/0011_held.sql")),
    M::up(include_str!("../migrations/0012_tier_grants.sql")),
    M::up(include_str!("../migrations/0013_suspended_is_stopped.sql")),
    M::up(include_str!("../migrations/0014_restarts.sql")),
    M::up(include_str!("../migrations/0015_host_loads.sql")),
    M::up(include_str!("../migrations/0016_short_transactions.sql")),
    M::up(include_str!("../migrations/0017_failures.sql")),
    M::up(include_str!("../migrations/0018_host_leases.sql")),
    M::up(include_str!("../migrations/0019_services.sql")),
    M::up(include_str!("../migrations/0020_shared_statements.sql")),
    M::up(include_str!("../migrations/0021_placement_rank.sql")),
];

/// WAL mode before 3.51.3 can corrupt the file at a checkpoint reset.
const OLDEST_SQLITE: i32 = 3_051_003;

/// How long a statement waits for another process, such as `host add`, to commit.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// How often to poll the lock. SQLite's own timeout polls less and less often, finally every 100
/// ms: behind a process that commits again and again, such as `master-key rotate`, most of its
/// polls come too late.
const BUSY_LOOK: Duration = Duration::from_millis(1);

/// A writing connection to a file with an up-to-date schema.
pub(super) fn open(path: &Path) -> Result<Connection, StoreError> {
    if rusqlite::version_number() < OLDEST_SQLITE {
        return Err(StoreError::OldSqlite(rusqlite::version().to_owned()));
    }
    let failed = |source| StoreError::Open { path: path.display().to_string(), source };
    let mut connection = Connection::open(path).map_err(|error| failed(error.into()))?;
    prepare(&connection).map_err(|error| failed(error.into()))?;
    let found: i64 = connection
        .query_row("PRAGMA user_version", [], |row| row.get(0))
        .map_err(|error| failed(error.into()))?;
    let known = i64::try_from(STEPS.len()).unwrap_or(i64::MAX);
    if found > known {
        return Err(StoreError::NewerSchema { path: path.display().to_string(), found, known });
    }
    Migrations::from_slice(STEPS)
        .to_latest(&mut connection)
        .map_err(|error| failed(error.into()))?;
    begin_chain(&mut connection)?;
    Ok(connection)
}

/// Adds audit entries from before the chain to it.
fn begin_chain(connection: &mut Connection) -> Result<(), StoreError> {
    let failed = failed("begin the audit chain");
    let transaction =
        connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(&failed)?;
    audit_chain::begin(&Tx::new(&*transaction))?;
    transaction.commit().map_err(failed)
}

/// Migrates an existing file while nobody else has it open: a daemon of the previous version would
/// go on with statements that the new schema does not support.
pub(super) fn alone(path: &Path) -> Result<(), StoreError> {
    let failed = |source| StoreError::Open { path: path.display().to_string(), source };
    if !path.exists() {
        return Ok(());
    }
    let found: i64 = Connection::open(path)
        .and_then(|file| {
            file.busy_timeout(BUSY_TIMEOUT)?;
            file.query_row("PRAGMA user_version", [], |row| row.get(0))
        })
        .map_err(|error| failed(error.into()))?;
    let known = i64::try_from(STEPS.len()).unwrap_or(i64::MAX);
    // An empty file is not in use yet, and a newer one is refused elsewhere.
    if found == 0 || found >= known {
        return Ok(());
    }
    let lock = secret_file::lock(&snapshot::lock_path(path));
    let lock = lock.map_err(|error| failed(error.into()))?;
    let path_text = || path.display().to_string();
    let _alone = lock.ok_or_else(|| StoreError::Held { path: path_text(), found, known })?;
    open(path).map(drop)
}

/// A connection that cannot write.
pub(super) fn open_reader(path: &Path) -> Result<Connection, StoreError> {
    let failed = |source: rusqlite::Error| StoreError::Open {
        path: path.display().to_string(),
        source: source.into(),
    };
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(failed)?;
    connection.busy_timeout(BUSY_TIMEOUT).map_err(failed)?;
    connection.set_prepared_statement_cache_capacity(128);
    Ok(connection)
}

fn prepare(connection: &Connection) -> rusqlite::Result<()> {
    connection.busy_handler(Some(wait))?;
    connection.set_prepared_statement_cache_capacity(128);
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "wal_autocheckpoint", checkpoint::MOST_PAGES)?;
    connection.pragma_update(None, "foreign_keys", true)
}

/// Waits for another process, after this many polls; `false`: it has waited long enough.
#[expect(clippy::disallowed_methods, reason = "SQLite blocks the thread that waits for its lock")]
fn wait(looks: i32) -> bool {
    let until_next = until_next_look(looks);
    if let Some(until_next) = until_next {
        std::thread::sleep(until_next);
    }
    until_next.is_some()
}

fn until_next_look(looks: i32) -> Option<Duration> {
    let waited = BUSY_LOOK.saturating_mul(u32::try_from(looks).unwrap_or(u32::MAX));
    (waited < BUSY_TIMEOUT).then_some(BUSY_LOOK)
}

/// A database from before the audit logs were chained.
#[cfg(test)]
pub(super) fn before_the_chain(path: &Path) -> Connection {
    let mut old = Connection::open(path).unwrap();
    Migrations::from_slice(&STEPS[..8]).to_latest(&mut old).unwrap();
    old
}

#[cfg(test)]
mod tests {
    mod to_services;

    use std::time::Instant;

    use super::*;

    #[test]
    fn fm_17_the_linked_sqlite_is_recent_enough_for_safe_wal() {
        assert!(rusqlite::version_number() >= OLDEST_SQLITE, "{}", rusqlite::version());
    }

    #[test]
    fn the_busy_handler_polls_often_until_its_timeout() {
        let waits: Vec<Duration> = (0..).map_while(until_next_look).collect();
        assert!(waits.iter().all(|wait| *wait <= Duration::from_millis(2)));
        assert_eq!(waits.iter().sum::<Duration>(), BUSY_TIMEOUT);
    }

    /// SQLite's own timeout would poll after 1, 3, 8, 18, 33, 53, 78, 103, 128, 178, 228, 328 … ms.
    #[test]
    fn a_waiting_writer_continues_soon_after_the_lock_is_released() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.db");
        let (mut holds, mut waits) = (open(&path).unwrap(), open(&path).unwrap());
        let mut late = Vec::new();
        for _ in 0..5 {
            let held = holds.transaction_with_behavior(TransactionBehavior::Immediate).unwrap();
            let waiter = &mut waits;
            late.push(std::thread::scope(|scope| {
                let (begins, begun) = std::sync::mpsc::channel();
                let waiting = scope.spawn(move || {
                    begins.send(()).unwrap();
                    drop(waiter.transaction_with_behavior(TransactionBehavior::Immediate).unwrap());
                    Instant::now()
                });
                begun.recv().unwrap();
                let (_held, never) = std::sync::mpsc::channel::<()>();
                never.recv_timeout(Duration::from_millis(240)).unwrap_err();
                drop(held);
                let freed = Instant::now();
                waiting.join().unwrap().duration_since(freed)
            }));
        }
        // At least one of them, on a machine that is also busy otherwise.
        assert!(late.iter().min().unwrap() < &Duration::from_millis(40), "{late:?}");
    }

    #[test]
    fn the_migrations_are_valid() {
        Migrations::from_slice(STEPS).validate().unwrap();
    }

    #[test]
    fn fm_48_a_newer_schema_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.db");
        drop(open(&path).unwrap());
        Connection::open(&path).unwrap().pragma_update(None, "user_version", 999).unwrap();
        let error = open(&path).unwrap_err();
        assert!(matches!(error, StoreError::NewerSchema { found: 999, .. }), "{error}");
        assert!(error.to_string().contains("install the version that wrote it"));
    }

    #[test]
    fn fm_48_migrating_keeps_the_meaning_of_revisions() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.db");
        let mut old = Connection::open(&path).unwrap();
        Migrations::from_slice(&STEPS[..3]).to_latest(&mut old).unwrap();
        old.execute_batch(include_str!("migrate/schema_3.sql")).unwrap();
        drop(old);
        let connection = open(&path).unwrap();
        let sql = "SELECT number || ' ' || domains || ' ' || coalesce(live_at, '-')
                   FROM revisions ORDER BY deployment_id, number";
        let mut statement = connection.prepare(sql).unwrap();
        let rows = statement.query_map([], |row| row.get(0)).unwrap();
        let rows: Vec<String> = rows.map(Result::unwrap).collect();
        assert_eq!(
            rows,
            [
                "1 [\"app.example.com\"] -",
                "2 [\"app.example.com\"] 5000",
                "3 [\"app.example.com\"] -",
                "1 [] -",
            ]
        );
    }

    #[test]
    fn queued_mail_survives_an_upgrade() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.db");
        let mut old = Connection::open(&path).unwrap();
        Migrations::from_slice(&STEPS[..5]).to_latest(&mut old).unwrap();
        old.execute_batch(
            "INSERT INTO accounts (id, email, email_key, username, username_key, password,
                 referral_code, created_at)
             VALUES ('a', 'a@b.example', 'a@b.example', 'one', 'one', '$', 'CODE', 1);
             INSERT INTO mail_outbox (account_id, kind, created_at, attempts, due_at)
             VALUES ('a', 'verify_email', 1, 2, 3);",
        )
        .unwrap();
        drop(old);
        let connection = open(&path).unwrap();
        let sql = "SELECT format('%s %s <%s> %d %d %d', account_id, kind, recipient, created_at,
                       attempts, due_at)
                   FROM mail_outbox";
        let row: String = connection.query_row(sql, [], |row| row.get(0)).unwrap();
        assert_eq!(row, "a verify_email <> 1 2 3");
    }

    #[test]
    fn migrating_moves_each_accounts_deployments_to_its_personal_team() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.db");
        let mut old = Connection::open(&path).unwrap();
        Migrations::from_slice(&STEPS[..7]).to_latest(&mut old).unwrap();
        let account = |id: &str, name: &str, deleted: &str| {
            format!(
                "INSERT INTO accounts (id, email, email_key, username, username_key, password,
                     referral_code, created_at, deleted_at)
                 VALUES ('{id}', '{id}', '{id}', '{name}', lower('{name}'), '$', '{id}', 7, {deleted});"
            )
        };
        old.execute_batch(&account("a", "My-op_1", "NULL")).unwrap();
        old.execute_batch(&account("b", "", "8")).unwrap();
        old.execute_batch(
            "INSERT INTO mail_outbox (account_id, kind, recipient, created_at, due_at)
             VALUES ('a', 'change_email', 'n@b.example', 1, 3);
             INSERT INTO hosts (id, name, address, sealing_key, joined_at, epoch, generation)
             VALUES ('h', 'h', '127.0.0.1:1', 'k', 0, 1, 1);
             INSERT INTO deployments (id, app_id, account_id, tier_id, host_id, subdomain, status,
                 run, revision, container_name, memory_limit_mb, cpu_limit_millicores, pids_limit,
                 inserted_at)
             SELECT 'd-' || id, 'app', id, (SELECT id FROM tiers LIMIT 1), 'h', 's-' || id,
                 iif(id = 'a', 'running', 'destroyed'), 'running', 1, 'c', 1, 1, 1, 1
             FROM accounts;",
        )
        .unwrap();
        drop(old);
        let connection = open(&path).unwrap();
        let all = |sql: &str| -> Vec<String> {
            let mut statement = connection.prepare(sql).unwrap();
            let rows = statement.query_map([], |row| row.get(0)).unwrap();
            rows.map(Result::unwrap).collect()
        };
        assert_eq!(
            all("SELECT format('%s %s %s %s %s %d', o.id, o.name, o.slug, o.personal_of, m.role,
                     o.created_at)
                 FROM orgs o JOIN org_members m ON m.org_id = o.id AND m.account_id = o.payer_id"),
            ["a My-op_1 @my-op_1 a org_owner 7"]
        );
        assert_eq!(all("SELECT id || ' ' || org_id || ' ' || slug FROM teams"), ["a a default"]);
        assert_eq!(
            all("SELECT id || ' ' || coalesce(team_id, '-') FROM deployments ORDER BY id"),
            ["d-a a", "d-b -"]
        );
        assert_eq!(
            all("SELECT kind || ' ' || recipient || subject FROM mail_outbox"),
            ["change_email n@b.example"]
        );
        assert_eq!(
            all("SELECT scopes FROM oauth_clients WHERE client_id = 'buddo-cli'"),
            ["profile:read points:read deploy:manage teams:manage"]
        );
        assert!(all("SELECT \"table\" FROM pragma_foreign_key_check").is_empty());
    }

    #[test]
    fn migrating_grants_accounts_the_restricted_tiers_they_use() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.db");
        let mut old = Connection::open(&path).unwrap();
        Migrations::from_slice(&STEPS[..11]).to_latest(&mut old).unwrap();
        for id in ["a", "b", "c"] {
            old.execute_batch(&format!(
                "INSERT INTO accounts (id, email, email_key, username, username_key, password,
                     referral_code, created_at)
                 VALUES ('{id}', '{id}', '{id}', '{id}', '{id}', '$', '{id}', 7);"
            ))
            .unwrap();
        }
        old.execute_batch(
            "INSERT INTO hosts (id, name, address, sealing_key, joined_at, epoch, generation)
             VALUES ('h', 'h', '127.0.0.1:1', 'k', 0, 1, 1);
             INSERT INTO deployments (id, app_id, account_id, tier_id, host_id, subdomain, status,
                 run, revision, container_name, memory_limit_mb, cpu_limit_millicores, pids_limit,
                 inserted_at)
             SELECT 'd-' || a.id || t.slug, 'app', a.id, t.id, 'h', a.id || t.slug,
                 iif(a.id = 'c', 'destroyed', 'stopped'), 'running', 1, 'c', 1, 1, 1, 5
             FROM accounts a JOIN tiers t ON a.id <> 'b' OR t.slug <> 'bitcoin-pro';",
        )
        .unwrap();
        drop(old);
        let connection = open(&path).unwrap();
        let sql = "SELECT group_concat(account_id || ' ' || slug)
                   FROM tier_grants JOIN tiers ON id = tier_id";
        let granted: String = connection.query_row(sql, [], |row| row.get(0)).unwrap();
        assert_eq!(granted, "a bitcoin-pro");
        let sql = "SELECT group_concat(slug) FROM tiers WHERE open_to_all";
        let open_to_all: String = connection.query_row(sql, [], |row| row.get(0)).unwrap();
        assert_eq!(open_to_all, "buddo-starter");
    }

    #[test]
    fn a_database_open_in_an_older_daemon_is_not_migrated() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.db");
        drop(before_the_chain(&path));
        // Held by an older daemon as long as it serves.
        let daemon = secret_file::lock_shared(&snapshot::lock_path(&path)).unwrap().unwrap();
        let refused = super::super::Sqlite::open(&path).unwrap_err();
        assert!(matches!(refused, StoreError::Held { found: 8, .. }), "{refused}");
        assert!(refused.to_string().contains("with the version that serves"), "{refused}");
        let version = |path: &Path| -> i64 {
            let file = Connection::open(path).unwrap();
            file.query_row("PRAGMA user_version", [], |row| row.get(0)).unwrap()
        };
        assert_eq!(version(&path), 8, "nothing was changed");
        drop(daemon);
        super::super::Sqlite::open(&path).unwrap();
        assert_eq!(version(&path), i64::try_from(STEPS.len()).unwrap());
        // Any number of processes of one version work beside each other.
        let _daemon = secret_file::lock_shared(&snapshot::lock_path(&path)).unwrap().unwrap();
        super::super::Sqlite::open(&path).unwrap();
    }

    #[test]
    fn commits_are_synced() {
        let directory = tempfile::tempdir().unwrap();
        let connection = open(&directory.path().join("a.db")).unwrap();
        let mode: String =
            connection.query_row("PRAGMA journal_mode", [], |row| row.get(0)).unwrap();
        let synchronous: i64 =
            connection.query_row("PRAGMA synchronous", [], |row| row.get(0)).unwrap();
        assert_eq!((mode.as_str(), synchronous), ("wal", 2));
    }
}
