//! The contract on real files.

use jiff::Timestamp;

use crate::store::contract::{JoinTokenRow, StoreError};
use crate::store::{Store, Tables};

fn token(n: u8) -> JoinTokenRow {
    let expires_at = Timestamp::from_second(1000).unwrap();
    JoinTokenRow { hash: [n; 32], name: format!("host-{n}"), max_memory_mb: None, expires_at }
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn keep(tables: &mut dyn Tables, n: u8) -> Result<(), StoreError> {
    tables.insert_join_token(&token(n), at(0))
}

async fn take(store: &Store, n: u8) -> bool {
    let taken = store.write(move |tables| tables.take_join_token(&[n; 32], at(1))).await;
    taken.unwrap().is_some()
}

#[tokio::test]
async fn commits_survive_a_reopen() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.db");
    let store = Store::open(&path).unwrap();
    store.write(|tables| keep(tables, 1)).await.unwrap();
    drop(store);
    assert!(take(&Store::open(&path).unwrap(), 1).await);
}

/// The machine is gone right after the answer: only what is in the files by then counts.
#[tokio::test]
async fn fm_16_an_acknowledged_commit_is_on_disk_and_fully_synced() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.db");
    let store = Store::open(&path).unwrap();
    for n in 1..=5u8 {
        store.write(move |tables| keep(tables, n)).await.unwrap();
        let after = directory.path().join(format!("after-{n}"));
        std::fs::create_dir(&after).unwrap();
        for file in ["a.db", "a.db-wal"] {
            std::fs::copy(directory.path().join(file), after.join(file)).unwrap();
        }
        let rebooted = Store::open(&after.join("a.db")).unwrap();
        for kept in 1..=n {
            assert!(take(&rebooted, kept).await, "{kept} of {n}");
        }
    }
    // Only in this mode does SQLite sync the WAL with each commit: 2 is FULL.
    let writer = super::migrate::open(&path).unwrap();
    let mode: i64 = writer.query_row("PRAGMA synchronous", [], |row| row.get(0)).unwrap();
    assert_eq!(mode, 2);
}

#[tokio::test]
async fn an_error_rolls_back_only_its_own_transaction() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(&directory.path().join("a.db")).unwrap();
    // Sent together, so that they can share a commit.
    let writes = (1..=40u8).map(|n| {
        store.write(move |tables| {
            keep(tables, n)?;
            if n % 2 == 0 { Err(StoreError::Busy) } else { Ok(()) }
        })
    });
    let results = futures_util::future::join_all(writes).await;
    for (n, result) in (1..=40u8).zip(results) {
        assert_eq!(result.is_ok(), n % 2 == 1);
        assert_eq!(take(&store, n).await, n % 2 == 1, "{n}");
    }
}

#[tokio::test]
async fn a_panic_rolls_back_its_transaction_and_the_store_keeps_working() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(&directory.path().join("a.db")).unwrap();
    let panicked: Result<(), StoreError> = store
        .write(|tables| {
            keep(tables, 1)?;
            panic!("on purpose")
        })
        .await;
    assert!(matches!(panicked, Err(StoreError::Closed)));
    assert!(!take(&store, 1).await);
    store.write(|tables| keep(tables, 2)).await.unwrap();
    let read: Result<(), StoreError> = store.read(|_| panic!("on purpose")).await;
    assert!(matches!(read, Err(StoreError::Closed)));
    assert!(take(&store, 2).await);
}

#[tokio::test]
async fn long_reads_do_not_block_other_reads() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(&directory.path().join("a.db")).unwrap();
    let (go_on, hold) = std::sync::mpsc::channel::<()>();
    let hold = std::sync::Arc::new(std::sync::Mutex::new(hold));
    // More than there are threads for them, so that some wait.
    let long: Vec<_> = (0..super::LONG_READERS + 3)
        .map(|_| {
            let (store, hold) = (store.clone(), hold.clone());
            tokio::spawn(async move {
                let read = store.read_long(move |tables| {
                    hold.lock().unwrap().recv().unwrap();
                    tables.tiers()
                });
                read.await.unwrap().len()
            })
        })
        .collect();
    while store.waiting().long_reads < 3 {
        tokio::task::yield_now().await;
    }
    let patience = std::time::Duration::from_secs(20);
    for _ in 0..10 {
        let read = tokio::time::timeout(patience, store.read(|tables| tables.tiers()));
        assert_eq!(read.await.expect("a read waits").unwrap().len(), 2);
    }
    for _ in &long {
        go_on.send(()).unwrap();
    }
    for read in long {
        assert_eq!(read.await.unwrap(), 2);
    }
}

#[tokio::test]
async fn commits_are_checkpointed_in_the_background() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.db");
    let store = Store::open(&path).unwrap();
    let looks = super::migrate::open(&path).unwrap();
    let waiting = || {
        let (log, done) = super::checkpoint::ask(&looks, "NOOP").unwrap();
        log - done
    };
    // Large, so that a few commits fill the WAL; not so many that a commit would checkpoint it
    // itself.
    for _ in 0..60 {
        let write = store.write(|tables| {
            let mut details = serde_json::Map::new();
            details.insert("x".to_owned(), "y".repeat(100_000).into());
            tables.insert_admin_act("test", at(0), None, &details.into())
        });
        write.await.map_err(|error: StoreError| error).unwrap();
    }
    let patience = std::time::Instant::now();
    while waiting() > 1024 {
        assert!(patience.elapsed().as_secs() < 20, "{} pages wait", waiting());
        tokio::task::yield_now().await;
    }
}

/// Purges until done; returns the grants and codes that are left.
async fn purged(store: &Store, looks: &rusqlite::Connection, now: i64) -> (Vec<String>, i64) {
    while store.write(move |tables| tables.purge_oauth(at(now), 1)).await.unwrap() > 0 {}
    let mut grants = looks.prepare("SELECT client_id FROM oauth_grants ORDER BY 1").unwrap();
    let grants = grants.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
    let codes = looks.query_row("SELECT count(*) FROM oauth_codes", [], |row| row.get(0));
    (grants, codes.unwrap())
}

#[tokio::test]
async fn a_grant_is_purged_with_its_last_token_or_code() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.db");
    let store = Store::open(&path).unwrap();
    let looks = rusqlite::Connection::open(&path).unwrap();
    let sql = "
        INSERT INTO accounts (id, email, email_key, username, username_key, password, referral_code,
            created_at) VALUES ('a', '', '', '', '', '', '', 0);
        INSERT INTO oauth_clients (id, client_id, name, redirect_uris, scopes, is_approved, created_at)
            SELECT value, value, '', '[]', '', 1, 0
            FROM json_each('[\"device\", \"live\", \"spent\", \"revoked\", \"asked\"]');
        INSERT INTO oauth_grants (id, client_id, account_id, scopes, created_at, revoked_at)
            SELECT id, id, 'a', '', 0, iif(id = 'revoked', 1, NULL)
            FROM oauth_clients WHERE id = client_id;
        INSERT INTO oauth_tokens (hash, kind, grant_id, scopes, issued_at, expires_at) VALUES
            (randomblob(32), 'access', 'live', '', 0, 10000),
            (randomblob(32), 'refresh', 'live', '', 0, 100000),
            (randomblob(32), 'access', 'spent', '', 0, 5000),
            (randomblob(32), 'refresh', 'spent', '', 0, 10000),
            (randomblob(32), 'refresh', 'revoked', '', 0, 100000);
        INSERT INTO oauth_codes (hash, grant_id, redirect_uri, challenge, expires_at, used_at) VALUES
            (randomblob(32), 'live', '', '', 1000, 1),
            (randomblob(32), 'spent', '', '', 1000, 1),
            (randomblob(32), 'asked', '', '', 10000, NULL);
        INSERT INTO oauth_device_codes (hash, user_hash, client_id, scopes, expires_at, interval_s,
            is_allowed, grant_id) VALUES (randomblob(32), randomblob(32), 'device', '', 1000, 5, 1, 'device');";
    looks.execute_batch(sql).unwrap();
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let all = names(&["asked", "device", "live", "revoked", "spent"]);
    assert_eq!(purged(&store, &looks, 1).await, (all, 3));
    // An exchanged code is kept as long as its tokens are valid.
    let left = names(&["device", "live", "revoked"]);
    assert_eq!(purged(&store, &looks, 50).await, (left, 1));
    assert_eq!(purged(&store, &looks, 200).await, (names(&["device"]), 0));
    assert_eq!(purged(&store, &looks, 10_000).await, (names(&[]), 0));
}

#[tokio::test]
async fn expired_device_codes_are_not_counted() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.db");
    let store = Store::open(&path).unwrap();
    let sql = "
        INSERT INTO oauth_device_codes (hash, user_hash, client_id, scopes, expires_at, interval_s)
        VALUES (randomblob(32), randomblob(32), 'buddo-cli', '', 1000, 5),
            (randomblob(32), randomblob(32), 'buddo-cli', '', 2000, 5);";
    rusqlite::Connection::open(&path).unwrap().execute_batch(sql).unwrap();
    for (second, waiting) in [(0, 2), (1, 1), (2, 0)] {
        let counted = store.read(move |tables| tables.count_device_codes(at(second))).await;
        assert_eq!(counted.unwrap(), waiting, "after {second} s");
    }
}

#[tokio::test]
async fn a_join_token_works_once_and_until_it_expires() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(&directory.path().join("a.db")).unwrap();
    store.write(|tables| keep(tables, 1)).await.unwrap();
    assert!(!take(&store, 9).await);
    assert!(take(&store, 1).await);
    assert!(!take(&store, 1).await);
    store.write(|tables| keep(tables, 2)).await.unwrap();
    let late = store.write(|tables| tables.take_join_token(&[2; 32], at(1000))).await;
    assert!(late.unwrap().is_none());
}

#[tokio::test]
async fn two_processes_can_write() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.db");
    let (first, second) = (Store::open(&path).unwrap(), Store::open(&path).unwrap());
    first.write(|tables| keep(tables, 1)).await.unwrap();
    second.write(|tables| keep(tables, 2)).await.unwrap();
    assert!(take(&second, 1).await);
    assert!(take(&first, 2).await);
}

#[tokio::test]
async fn a_corrupt_file_is_an_error_and_not_overwritten() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.db");
    std::fs::write(&path, "this is no database at all, and never was").unwrap();
    assert!(matches!(Store::open(&path), Err(StoreError::Open { .. })));
    assert!(std::fs::read_to_string(&path).unwrap().starts_with("this is no database"));

    // A valid database in which one page was overwritten, of a table or of an index: an operation
    // that needs the page is refused, never treats it as an empty table, and does not overwrite it.
    for damaged in ["tiers", "join_tokens"] {
        let path = directory.path().join(format!("{damaged}.db"));
        let store = Store::open(&path).unwrap();
        store.write(|tables| keep(tables, 1)).await.unwrap();
        drop(store);
        let page = overwrite_root(&path, damaged);
        let store = Store::open(&path).unwrap();
        let refused = if damaged == "tiers" {
            store.read(|tables| tables.tiers()).await.map(drop)
        } else {
            // Nor is there a new row in it, as there would be in a recreated table.
            let taken = store.write(|tables| tables.take_join_token(&[1; 32], at(1))).await;
            assert!(taken.is_err(), "a token that is there is not said to be unknown");
            store.write(|tables| keep(tables, 2)).await
        };
        let refused = refused.unwrap_err();
        assert!(matches!(refused, StoreError::Operation { .. }), "{damaged}: {refused:?}");
        let mut cause: Option<&dyn std::error::Error> = Some(&refused);
        let told = std::iter::from_fn(|| {
            let told = cause?.to_string();
            cause = cause.and_then(std::error::Error::source);
            Some(told)
        });
        let told = told.collect::<Vec<_>>().join(": ");
        assert!(told.contains("malformed"), "it is told as what it is: {told}");
        // What does not need the page still works, and the page is kept for analysis.
        if damaged == "tiers" {
            assert!(take(&store, 1).await);
        } else {
            assert_eq!(store.read(|tables| tables.tiers()).await.unwrap().len(), 2);
        }
        drop(store);
        let kept = std::fs::read(&path).unwrap();
        assert!(kept[page].iter().all(|byte| *byte == DAMAGE), "{damaged}");
    }
}

const DAMAGE: u8 = 0xa5;

/// Overwrites the first page of a table; returns its range in the file. Nobody has the file open.
fn overwrite_root(path: &std::path::Path, table: &str) -> std::ops::Range<usize> {
    let connection = rusqlite::Connection::open(path).unwrap();
    let sql = "SELECT rootpage FROM sqlite_schema WHERE name = ?1";
    let root: u32 = connection.query_row(sql, [table], |row| row.get(0)).unwrap();
    let size: u32 = connection.pragma_query_value(None, "page_size", |row| row.get(0)).unwrap();
    connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
    connection.close().unwrap();
    let mut bytes = std::fs::read(path).unwrap();
    let page = ((root - 1) * size) as usize..(root * size) as usize;
    bytes[page.clone()].fill(DAMAGE);
    std::fs::write(path, bytes).unwrap();
    page
}

#[tokio::test]
async fn the_first_migration_seeds_both_tiers() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(&directory.path().join("a.db")).unwrap();
    let tiers = store.read(|tables| tables.tiers()).await.unwrap();
    let slugs: Vec<_> = tiers.iter().map(|tier| tier.slug.as_str()).collect();
    assert_eq!(slugs, ["buddo-starter", "bitcoin-pro"]);
    assert!(tiers[0].monthly_cost_points.is_some() && tiers[0].monthly_cost_sats.is_none());
    assert!(tiers[1].monthly_cost_points.is_none() && tiers[1].monthly_cost_sats.is_some());
}
