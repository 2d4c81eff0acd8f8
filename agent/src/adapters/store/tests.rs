use std::sync::atomic::{AtomicU32, Ordering};

use buddo_shared::host_wire::manifest::Trust;
use buddo_shared::host_wire::report::{Report, ReportBody};
use buddo_shared::host_wire::signed::digest_of;
use buddo_shared::model::id::{DeploymentId, Generation, HostId, Revision};
use jiff::Timestamp;
use uuid::Uuid;

use super::*;
use crate::model::persisted::{Persisted, Serving};
use crate::model::workload::{Slot, WorkloadId};

/// Disk faults, for the tests of the writers.
impl Store {
    async fn pragma(&self, pragma: &'static str) {
        self.call("inject a fault", move |c| c.query_row(pragma, [], |_| Ok(())).or(Ok(())))
            .await
            .unwrap();
    }

    /// From now on the file cannot grow: writes that need space fail as on a full disk.
    pub(crate) async fn fill(&self) {
        self.pragma("PRAGMA max_page_count = 1").await;
    }

    /// There is space again.
    pub(crate) async fn make_room(&self) {
        self.pragma("PRAGMA max_page_count = 1000000").await;
    }

    /// Every write fails from now on.
    pub(crate) async fn refuse_writes(&self) {
        self.call("inject a fault", |c| c.execute_batch("PRAGMA query_only = ON")).await.unwrap();
    }

    pub(crate) async fn allow_writes(&self) {
        self.call("end a fault", |c| c.execute_batch("PRAGMA query_only = OFF")).await.unwrap();
    }
}

fn removed(n: u128) -> Entry {
    let id = DeploymentId::new(Uuid::from_u128(n));
    Entry { subject: id.to_string(), body: ReportBody::Removed { id }, last: false }
}

fn held(generation: u64) -> Held {
    Held {
        envelope: vec![7; 3],
        generation: Generation { epoch: 1, generation },
        digest: digest_of(b"x"),
        floor: Timestamp::from_second(1_000).unwrap(),
        trust: None,
    }
}

#[test]
fn fm_17_sqlite_is_new_enough() {
    assert!(rusqlite::version_number() >= LEAST_SQLITE, "{}", rusqlite::version());
}

#[tokio::test]
async fn fm_16_commits_are_synced_in_full_and_survive_a_reopen() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("agent.db");
    let store = Store::open(&path, 0).unwrap();
    let mode = store
        .call("look", |c| c.pragma_query_value(None, "synchronous", |r| r.get::<_, i64>(0)))
        .await
        .unwrap();
    assert_eq!(mode, 2, "FULL");
    store.put_document(held(u64::MAX)).await.unwrap();
    let id = WorkloadId::app(DeploymentId::new(Uuid::from_u128(5)));
    store.save([(id, Some(Persisted::default()))].into()).await.unwrap();
    drop(store);
    let store = Store::open(&path, 0).unwrap();
    assert_eq!(store.document().await.unwrap(), Some(held(u64::MAX)));
    assert_eq!(store.workloads().await.unwrap().into_keys().collect::<Vec<_>>(), [id]);
    store.save([(id, None)].into()).await.unwrap();
    assert!(store.workloads().await.unwrap().is_empty());
}

#[tokio::test]
async fn the_time_floor_never_decreases_within_an_epoch() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("agent.db"), 0).unwrap();
    store.put_document(held(1)).await.unwrap();
    let earlier = Held { floor: Timestamp::from_second(10).unwrap(), ..held(2) };
    store.put_document(earlier).await.unwrap();
    let floor = store.document().await.unwrap().unwrap().floor;
    assert_eq!(floor, Timestamp::from_second(1_000).unwrap());
    // But with a higher epoch it starts over.
    let generation = Generation { epoch: 2, generation: 1 };
    let raised = Held { floor: Timestamp::from_second(20).unwrap(), generation, ..held(2) };
    store.put_document(raised.clone()).await.unwrap();
    assert_eq!(store.document().await.unwrap(), Some(raised));
}

#[test]
fn fm_48_a_newer_schema_is_refused_and_untouched() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("agent.db");
    drop(Store::open(&path, 0).unwrap());
    let newer = i32::try_from(MIGRATIONS.len()).unwrap() + 1;
    let connection = Connection::open(&path).unwrap();
    connection.pragma_update(None, "user_version", newer).unwrap();
    drop(connection);
    assert!(matches!(Store::open(&path, 0), Err(StoreError::NewerSchema { .. })));
    let connection = Connection::open(&path).unwrap();
    let version: i32 = connection.pragma_query_value(None, "user_version", |r| r.get(0)).unwrap();
    assert_eq!(version, newer);
}

/// Its containers would be strangers to this agent: it must not begin to deploy beside them.
#[test]
fn fm_48_a_database_of_an_agent_without_services_is_refused_and_untouched() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("agent.db");
    let connection = Connection::open(&path).unwrap();
    connection.execute_batch(include_str!("golden/schema-1.sql")).unwrap();
    for schema in [1, 2, 3] {
        connection.pragma_update(None, "user_version", schema).unwrap();
        let error = Store::open(&path, 0).unwrap_err();
        let StoreError::OlderSchema { found, .. } = error else { panic!("{error}") };
        assert_eq!(found, usize::try_from(schema).unwrap());
        for part in [
            format!("schema {schema}"),
            path.display().to_string(),
            "podman ps -aq --filter label=buddo.deployment | xargs -r podman rm -f -t 0".to_owned(),
            "podman secret ls --format '{{.Name}}' | grep ^buddo-".to_owned(),
        ] {
            assert!(error.to_string().contains(&part), "{part} is missing in: {error}");
        }
    }
    let count = |sql| connection.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap();
    assert_eq!(count("SELECT count(*) FROM deployments"), 1);
    assert_eq!(count("PRAGMA user_version"), 3);
}

/// A database of an earlier agent, with a row of everything: an upgrade keeps all of it, and the
/// counter continues where it was.
#[tokio::test]
async fn fm_48_a_database_of_the_oldest_schema_is_taken_up_whole() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("agent.db");
    Connection::open(&path).unwrap().execute_batch(include_str!("golden/schema-4.sql")).unwrap();
    let store = Store::open(&path, 0).unwrap();
    let held = store.document().await.unwrap().unwrap();
    assert_eq!(held.generation, Generation { epoch: 1, generation: u64::MAX });
    assert_eq!(held.envelope, b"{}");
    assert_eq!(held.trust.unwrap().cas, ["a CA"]);
    let app = DeploymentId::new(Uuid::from_u128(5));
    let persisted = store.workloads().await.unwrap().remove(&WorkloadId::app(app)).unwrap();
    let [first, second] = [1, 2].map(Revision::new);
    assert_eq!(persisted.live, Some(Serving { revision: second, slot: Slot::B }));
    assert_eq!(persisted.failures[&first].code, "never_healthy");
    assert!(persisted.digests.contains_key(&second) && persisted.proven.contains(&second));
    assert!(persisted.index.is_some() && persisted.rollback_watch.is_some());
    let reports = store.reports_after(0, 10).await.unwrap();
    let [Report { seq: 1_793_527_200_041, body: ReportBody::Deployment(status), .. }] = &*reports
    else {
        panic!("{reports:?}");
    };
    assert_eq!((status.id, status.serving), (app, Some(Revision::new(4))));
    assert_eq!(status.services[0].replicas[0].serving, Some(second));
    assert_eq!(store.reported().await.unwrap().len(), 1);
    assert_eq!(store.acknowledged().await.unwrap(), 1_793_527_200_040);
    let seq = store.report(vec![removed(1)], Timestamp::UNIX_EPOCH).await.unwrap();
    assert_eq!(seq, 1_793_527_200_042);
    let [host, joined] = [1, 2].map(Uuid::from_u128);
    assert!(!store.belong_to(HostId::new(host), joined).await.unwrap());
    assert!(store.document().await.unwrap().is_some());
}

#[test]
fn a_damaged_file_is_an_error_and_not_an_empty_database() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("agent.db");
    std::fs::write(&path, "this is no database, and never was one".repeat(100)).unwrap();
    assert!(matches!(Store::open(&path, 0), Err(StoreError::Open { .. })));
}

#[tokio::test]
async fn report_numbers_continue_after_acknowledgement_and_reopen() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("agent.db");
    let store = Store::open(&path, 100).unwrap();
    let last = store.report(vec![removed(1), removed(2)], Timestamp::UNIX_EPOCH).await.unwrap();
    assert_eq!(last, 102);
    let seqs =
        |reports: Vec<Report>| reports.into_iter().map(|report| report.seq).collect::<Vec<_>>();
    assert_eq!(seqs(store.reports_after(0, 10).await.unwrap()), [101, 102]);
    assert_eq!(seqs(store.reports_after(101, 10).await.unwrap()), [102]);
    store.acknowledge(102).await.unwrap();
    drop(store);
    // A later first number does not move a database that counts already.
    let store = Store::open(&path, 5_000).unwrap();
    assert_eq!(store.report(vec![removed(1)], Timestamp::UNIX_EPOCH).await.unwrap(), 103);
}

#[tokio::test]
async fn a_newer_report_replaces_an_older_one_for_the_same_subject() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("agent.db"), 0).unwrap();
    for _ in 0..5 {
        store.report(vec![removed(1)], Timestamp::UNIX_EPOCH).await.unwrap();
    }
    let reports = store.reports_after(0, 10).await.unwrap();
    assert_eq!(reports.len(), 1);
    assert_eq!(reports[0].seq, 5);
}

#[tokio::test]
async fn a_new_host_identity_clears_documents_and_reports() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("agent.db"), 0).unwrap();
    let workload = WorkloadId::app(DeploymentId::new(Uuid::from_u128(5)));
    store.put_document(held(9)).await.unwrap();
    store.report(vec![removed(1)], Timestamp::UNIX_EPOCH).await.unwrap();
    store.save([(workload, Some(Persisted::default()))].into()).await.unwrap();
    let [first, second] = [1, 2].map(|n| HostId::new(Uuid::from_u128(n)));
    // A database from before owners were recorded belongs to its host.
    let joins = [1, 2, 3].map(Uuid::from_u128);
    for _ in 0..2 {
        assert!(!store.belong_to(first, joins[0]).await.unwrap());
        assert_eq!(store.document().await.unwrap(), Some(held(9)));
    }
    assert!(store.belong_to(second, joins[1]).await.unwrap());
    assert_eq!(store.document().await.unwrap(), None, "its place would refuse the new ones");
    assert!(store.reported().await.unwrap().is_empty(), "the new coordinator was told nothing");
    assert!(store.reports_after(0, 10).await.unwrap().is_empty());
    assert_eq!(store.workloads().await.unwrap().len(), 1);
    assert_eq!(store.report(vec![removed(1)], Timestamp::UNIX_EPOCH).await.unwrap(), 2);
    assert!(!store.belong_to(second, joins[1]).await.unwrap());
}

#[tokio::test]
async fn trust_is_stored_with_its_document_and_forgotten_with_the_next_join() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("agent.db"), 0).unwrap();
    let host = HostId::new(Uuid::from_u128(1));
    store.belong_to(host, Uuid::from_u128(1)).await.unwrap();
    let trust = Trust { signing_keys: Vec::new(), cas: vec!["a CA".to_owned()] };
    let bringing = Held { trust: Some(trust.clone()), ..held(1) };
    store.refuse_writes().await;
    assert!(store.put_document(bringing.clone()).await.is_err());
    store.allow_writes().await;
    assert_eq!(store.document().await.unwrap(), None);
    store.put_document(bringing).await.unwrap();
    // One that says nothing about trust leaves it as it is.
    store.put_document(held(2)).await.unwrap();
    store.belong_to(host, Uuid::from_u128(1)).await.unwrap();
    let later = Held { trust: Some(trust), ..held(2) };
    assert_eq!(store.document().await.unwrap(), Some(later));
    // The same host joins again: what it is told then counts.
    assert!(!store.belong_to(host, Uuid::from_u128(2)).await.unwrap());
    let floor = Timestamp::UNIX_EPOCH;
    assert_eq!(store.document().await.unwrap(), Some(Held { floor, ..held(2) }));
}

#[tokio::test]
async fn the_highest_valid_acknowledgement_is_remembered() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("agent.db"), 100).unwrap();
    assert_eq!(store.acknowledged().await.unwrap(), 0);
    store.report(vec![removed(1)], Timestamp::UNIX_EPOCH).await.unwrap();
    store.acknowledge(101).await.unwrap();
    store.acknowledge(5).await.unwrap();
    assert_eq!(store.acknowledged().await.unwrap(), 101);
    // Nobody can acknowledge what was never sent.
    store.acknowledge(u64::MAX).await.unwrap();
    assert_eq!(store.acknowledged().await.unwrap(), 101);
}

fn disk_full<T>() -> rusqlite::Result<T> {
    let full = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_FULL);
    Err(rusqlite::Error::SqliteFailure(full, None))
}

/// What it did before the disk was full is not done twice.
#[tokio::test]
async fn fm_59_a_store_write_on_a_full_disk_is_retried_without_the_reserve() {
    let folder = tempfile::tempdir().unwrap();
    let reserve = Reserve::new(folder.path().join("reserve"), 1024 * 1024);
    reserve.keep(u64::MAX).unwrap();
    let store = Store::open_behind(&reserve, &folder.path().join("agent.db"), 0).unwrap();
    let (held_back, mut tries) = (reserve.clone(), 0);
    let write = move |connection: &mut Connection| {
        tries += 1;
        let transaction = connection.transaction()?;
        transaction.execute("UPDATE counter SET seq = seq + 1", [])?;
        if held_back.is_whole() {
            return disk_full();
        }
        transaction.commit()?;
        Ok(tries)
    };
    assert_eq!(store.call("write", write).await.unwrap(), 2);
    assert!(!reserve.is_whole());
    let seq = |c: &mut Connection| c.query_row("SELECT seq FROM counter", [], |row| row.get(0));
    assert_eq!(store.call::<i64>("look", seq).await.unwrap(), 1);
    // There is nothing more to release.
    let tries = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&tries);
    let never = move |_: &mut Connection| {
        counted.fetch_add(1, Ordering::SeqCst);
        disk_full()
    };
    assert!(store.call::<()>("write", never).await.is_err());
    assert_eq!(tries.load(Ordering::SeqCst), 1);
}

/// On a full disk that may be any of several errors, and not all of them say so.
#[test]
fn fm_59_a_failed_open_on_a_full_disk_releases_the_reserve() {
    let folder = tempfile::tempdir().unwrap();
    let reserve = Reserve::new(folder.path().join("reserve"), 1024 * 1024);
    reserve.keep(u64::MAX).unwrap();
    let unusable = folder.path().join("none/agent.db");
    Store::open_behind(&reserve, &unusable, 0).unwrap_err();
    assert!(!reserve.is_whole(), "the reserve is kept, and the agent does not start");
    // An error unrelated to space costs nothing.
    let newer = folder.path().join("newer.db");
    let connection = Connection::open(&newer).unwrap();
    connection.pragma_update(None, "user_version", 1_000).unwrap();
    drop(connection);
    reserve.keep(u64::MAX).unwrap();
    Store::open_behind(&reserve, &newer, 0).unwrap_err();
    assert!(reserve.is_whole());
}

/// What could not be written is written on retry.
#[tokio::test]
async fn a_failed_write_releases_the_reserve_only_when_the_disk_is_full() {
    let folder = tempfile::tempdir().unwrap();
    let reserve = Reserve::new(folder.path().join("reserve"), 1024 * 1024);
    reserve.keep(u64::MAX).unwrap();
    let store = Store::open_behind(&reserve, &folder.path().join("agent.db"), 0).unwrap();
    let large = Held { envelope: vec![7; 1024 * 1024], ..held(1) };
    store.refuse_writes().await;
    store.put_document(large.clone()).await.unwrap_err();
    store.allow_writes().await;
    assert!(reserve.is_whole(), "it was let go for another error");
    store.fill().await;
    store.put_document(large.clone()).await.unwrap_err();
    assert!(!reserve.is_whole());
    store.make_room().await;
    store.put_document(large.clone()).await.unwrap();
    assert_eq!(store.document().await.unwrap(), Some(large));
}
