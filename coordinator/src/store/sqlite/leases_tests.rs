//! Leases of hosts, also under concurrent work.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use buddo_shared::model::id::HostId;
use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;
use uuid::Uuid;

use crate::store::Store;
use crate::store::contract::{Lease, Leases as _, StoreError};
use crate::store::sql::Tx;
use crate::store::sqlite::work;

const LONG: Duration = Duration::from_mins(10);

fn host(n: u128) -> HostId {
    HostId::new(Uuid::from_u128(n))
}

fn holder(n: u128) -> Uuid {
    Uuid::from_u128(0xff00 + n)
}

/// A database with that many hosts.
fn database(hosts: u128) -> (tempfile::TempDir, rusqlite::Connection) {
    let directory = tempfile::tempdir().unwrap();
    let connection = crate::store::sqlite::migrate::open(&directory.path().join("a.db")).unwrap();
    connection.execute_batch("BEGIN").unwrap();
    for n in 0..hosts {
        let sql = "INSERT INTO hosts (id, name, address, sealing_key, joined_at, epoch, generation)
                   VALUES (?1, ?1, '127.0.0.1:1', 'k', 0, 1, 1)";
        connection.execute(sql, [host(n).to_string()]).unwrap();
    }
    connection.execute_batch("COMMIT").unwrap();
    (directory, connection)
}

/// The lease of the first host, also one that has just expired.
fn stored(connection: &rusqlite::Connection) -> Lease {
    let sql = "SELECT holder, expires_at FROM host_leases WHERE host_id = ?1";
    let (holder, expires_at): (String, i64) = connection
        .query_row(sql, [host(0).to_string()], |row| Ok((row.get(0)?, row.get(1)?)))
        .unwrap();
    Lease {
        holder: holder.parse().unwrap(),
        expires_at: Timestamp::from_millisecond(expires_at).unwrap(),
    }
}

#[test]
fn a_lease_is_one_holders_until_it_is_released_or_expires() {
    let (_directory, connection) = database(2);
    let mut tx = Tx::new(&connection);
    assert_eq!(tx.lease(host(0)).unwrap(), None);
    let first = tx.acquire_lease(host(0), holder(1), LONG).unwrap();
    assert_eq!(first.holder, holder(1));
    assert_eq!(tx.lease(host(0)).unwrap(), Some(first));
    // The other learns whose it is and until when, and changes nothing.
    assert_eq!(tx.acquire_lease(host(0), holder(2), LONG).unwrap(), first);
    tx.release_lease(host(0), holder(2)).unwrap();
    assert_eq!(tx.lease(host(0)).unwrap(), Some(first));
    // To take it again is to renew it.
    let longer = tx.acquire_lease(host(0), holder(1), 2 * LONG).unwrap();
    assert!(longer.expires_at.duration_since(first.expires_at) >= SignedDuration::from_mins(10));
    // Released, it is free at once.
    tx.release_lease(host(0), holder(1)).unwrap();
    assert_eq!(tx.acquire_lease(host(0), holder(2), LONG).unwrap().holder, holder(2));
    // Expired as well.
    tx.acquire_lease(host(0), holder(2), Duration::ZERO).unwrap();
    assert_eq!(tx.lease(host(0)).unwrap(), None);
    assert_eq!(tx.acquire_lease(host(0), holder(1), LONG).unwrap().holder, holder(1));
}

#[test]
fn a_holder_renews_all_it_has_at_once_and_nothing_that_was_taken_from_it() {
    let (_directory, connection) = database(3);
    let mut tx = Tx::new(&connection);
    tx.acquire_lease(host(0), holder(1), LONG).unwrap();
    // Expired, and still its own: nobody has taken it.
    tx.acquire_lease(host(1), holder(1), Duration::ZERO).unwrap();
    tx.acquire_lease(host(2), holder(1), Duration::ZERO).unwrap();
    tx.acquire_lease(host(2), holder(2), LONG).unwrap();
    let mut renewed = tx.renew_leases(holder(1), LONG).unwrap();
    renewed.sort();
    assert_eq!(renewed, [host(0), host(1)]);
    let mut listed = tx.leases().unwrap();
    listed.sort_by_key(|(host, _)| *host);
    let holders: Vec<_> = listed.iter().map(|(host, lease)| (*host, lease.holder)).collect();
    let expected = [(host(0), holder(1)), (host(1), holder(1)), (host(2), holder(2))];
    assert_eq!(holders, expected);
    assert_eq!(tx.lease(host(2)).unwrap().unwrap().holder, holder(2));
    tx.release_leases(holder(1)).unwrap();
    assert_eq!(tx.renew_leases(holder(1), LONG).unwrap(), []);
    assert_eq!(tx.renew_leases(holder(2), LONG).unwrap(), [host(2)]);
}

/// One statement; what it costs grows with the hosts and with nothing else.
#[test]
fn renewing_a_thousand_leases_is_cheap() {
    let (_directory, connection) = database(1000);
    let mut tx = Tx::new(&connection);
    for n in 0..1000 {
        tx.acquire_lease(host(n), holder(n % 2), LONG).unwrap();
    }
    let (steps, renewed) = work::of(|| tx.renew_leases(holder(1), LONG).unwrap());
    assert_eq!(renewed.len(), 500);
    assert!(steps < 500 * 60, "{steps} steps");
}

#[derive(Debug, Clone)]
enum LeaseCall {
    Acquire { holder: u128, millis: u64 },
    Renew { holder: u128, millis: u64 },
    Release { holder: u128 },
}

fn acts() -> impl Strategy<Value = Vec<LeaseCall>> {
    let millis = prop_oneof![Just(0_u64), 1..3_u64, Just(600_000_u64)];
    let act = prop_oneof![
        4 => (0..3_u128, millis.clone())
            .prop_map(|(holder, millis)| LeaseCall::Acquire { holder, millis }),
        1 => (0..3_u128, millis).prop_map(|(holder, millis)| LeaseCall::Renew { holder, millis }),
        1 => (0..3_u128).prop_map(|holder| LeaseCall::Release { holder }),
    ];
    prop::collection::vec(act, 1..60)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// By the database's clock: when a holder is granted a lease, every lease that another one was
    /// granted before has ended or was released.
    #[test]
    fn no_two_holders_have_a_lease_at_the_same_time(acts in acts()) {
        let (_directory, connection) = database(1);
        let mut tx = Tx::new(&connection);
        let mut ends: HashMap<Uuid, Timestamp> = HashMap::new();
        for act in acts {
            let granted = match act {
                LeaseCall::Acquire { holder: by, millis } => {
                    let ttl = Duration::from_millis(millis);
                    let lease = tx.acquire_lease(host(0), holder(by), ttl).unwrap();
                    (lease.holder == holder(by)).then_some((lease, millis))
                }
                LeaseCall::Renew { holder: by, millis } => {
                    let ttl = Duration::from_millis(millis);
                    let renewed = tx.renew_leases(holder(by), ttl).unwrap();
                    let lease = (!renewed.is_empty()).then(|| stored(&connection));
                    lease.map(|lease| (lease, millis))
                }
                LeaseCall::Release { holder: by } => {
                    tx.release_lease(host(0), holder(by)).unwrap();
                    ends.remove(&holder(by));
                    None
                }
            };
            let Some((lease, millis)) = granted else { continue };
            let at = lease.expires_at - Duration::from_millis(millis);
            for (other, end) in &ends {
                prop_assert!(*other == lease.holder || *end <= at, "{other} has it until {end}");
            }
            ends.insert(lease.holder, lease.expires_at);
        }
    }
}

/// As two processes on one file do it, each with its own writer.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn who_has_the_lease_is_alone() {
    let (directory, connection) = database(1);
    drop(connection);
    let path = directory.path().join("a.db");
    let stores = [Store::open(&path).unwrap(), Store::open(&path).unwrap()];
    let (inside, entered) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let tasks = (0..8).map(|n| {
        let (store, me) = (stores[n % 2].clone(), holder(n as u128));
        let (inside, entered) = (Arc::clone(&inside), Arc::clone(&entered));
        tokio::spawn(async move {
            for _ in 0..20 {
                let lease: Result<Lease, StoreError> =
                    store.write(move |tables| tables.acquire_lease(host(0), me, LONG)).await;
                if lease.unwrap().holder != me {
                    continue;
                }
                assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0, "two at once");
                let renewed: Result<_, StoreError> =
                    store.write(move |tables| tables.renew_leases(me, LONG)).await;
                assert_eq!(renewed.unwrap(), [host(0)]);
                entered.fetch_add(1, Ordering::SeqCst);
                inside.fetch_sub(1, Ordering::SeqCst);
                let released: Result<(), StoreError> =
                    store.write(move |tables| tables.release_lease(host(0), me)).await;
                released.unwrap();
            }
        })
    });
    for task in futures_util::future::join_all(tasks).await {
        task.unwrap();
    }
    assert!(entered.load(Ordering::SeqCst) > 8);
}
