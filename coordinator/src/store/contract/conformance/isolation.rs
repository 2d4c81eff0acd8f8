//! Transactions beside each other. Two handles are like two processes.

use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::join_all;
use jiff::Timestamp;

use super::Bench;
use super::fixtures::*;
use crate::store::StoreError;
use crate::store::contract::ClockMark;

/// How long a case waits before it gives up.
const PATIENCE: Duration = Duration::from_secs(20);

pub(super) async fn no_update_is_lost(bench: Arc<dyn Bench>) {
    let stores = [bench.open(), bench.open()];
    write(&stores[0], |tables| join(tables, 1)).await;
    let raise = |n: usize| {
        stores[n % 2].write(|tables| {
            let seq = tables.host(host_id(1))?.unwrap().report_seq;
            tables.set_report_seq(host_id(1), seq + 1)
        })
    };
    for done in join_all((0..40).map(raise)).await {
        let done: Result<(), StoreError> = done;
        done.unwrap();
    }
    let host = read(&stores[0], |tables| tables.host(host_id(1))).await;
    assert_eq!(host.unwrap().report_seq, 40);
}

pub(super) async fn no_generation_is_given_twice(bench: Arc<dyn Bench>) {
    let stores = [bench.open(), bench.open()];
    write(&stores[0], |tables| join(tables, 1)).await;
    let bump = |n: usize| write(&stores[n % 2], |tables| tables.bump_generation(host_id(1)));
    let mut given: Vec<u64> =
        join_all((0..40).map(bump)).await.iter().map(|given| given.generation).collect();
    given.sort_unstable();
    given.dedup();
    assert_eq!(given.len(), 40);
}

pub(super) async fn a_reader_sees_one_snapshot(bench: Arc<dyn Bench>) {
    let store = bench.open();
    let (began, begun) = tokio::sync::mpsc::channel(1);
    let (go_on, waits) = channel();
    let waits = Mutex::new(waits);
    let look = move |tables: &dyn crate::store::Tables| {
        let first = tables.clock_mark(ClockMark::Seen)?;
        began.try_send(()).unwrap();
        waits.lock().unwrap().recv_timeout(PATIENCE).unwrap();
        Ok::<_, StoreError>((first, tables.clock_mark(ClockMark::Seen)?))
    };
    let reading = tokio::spawn({
        let store = store.clone();
        async move { store.read(look).await.unwrap() }
    });
    let mut begun = begun;
    begun.recv().await.unwrap();
    write(&store, |tables| tables.set_clock_mark(ClockMark::Seen, at(5))).await;
    go_on.send(()).unwrap();
    assert_eq!(reading.await.unwrap(), (None, None));
    let after = read(&store, |tables| tables.clock_mark(ClockMark::Seen)).await;
    assert_eq!(after, Some(at(5)));
}

pub(super) async fn a_writer_sees_its_own_changes(bench: Arc<dyn Bench>) {
    let store = bench.open();
    let seen = write(&store, |tables| {
        tables.set_clock_mark(ClockMark::Seen, at(5))?;
        let first = tables.clock_mark(ClockMark::Seen)?;
        tables.set_clock_mark(ClockMark::Seen, at(6))?;
        Ok((first, tables.clock_mark(ClockMark::Seen)?))
    })
    .await;
    assert_eq!(seen, (Some(at(5)), Some(at(6))));
}

pub(super) async fn what_is_not_committed_is_seen_by_nobody(bench: Arc<dyn Bench>) {
    let (store, other) = (bench.open(), bench.open());
    let (began, mut begun) = tokio::sync::mpsc::channel(1);
    let (go_on, waits) = channel();
    let waits = Mutex::new(waits);
    let writing = tokio::spawn({
        let store = store.clone();
        async move {
            let done = store.write(move |tables| {
                tables.set_clock_mark(ClockMark::Seen, at(5))?;
                began.try_send(()).unwrap();
                waits.lock().unwrap().recv_timeout(PATIENCE).unwrap();
                Ok::<_, StoreError>(())
            });
            done.await.unwrap();
        }
    });
    begun.recv().await.unwrap();
    let seen = |store: &crate::store::Store| {
        let store = store.clone();
        async move {
            let read = store.read_long(|tables| tables.clock_mark(ClockMark::Seen));
            let seen: Result<Option<Timestamp>, StoreError> = read.await;
            seen.unwrap()
        }
    };
    assert_eq!((seen(&store).await, seen(&other).await), (None, None));
    go_on.send(()).unwrap();
    writing.await.unwrap();
    assert_eq!((seen(&store).await, seen(&other).await), (Some(at(5)), Some(at(5))));
}
