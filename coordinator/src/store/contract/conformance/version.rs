//! The version that caches use.

use std::sync::Arc;

use super::Bench;
use super::fixtures::*;
use crate::store::Store;
use crate::store::cache::Cache;
use crate::store::contract::ClockMark;

/// Whether what was cached in the present version would still be shown after `done`.
async fn survives(store: &Store, done: impl Future<Output = ()>) -> bool {
    let cache = Cache::default();
    cache.put((), store.version(), ());
    done.await;
    cache.get(&(), store.version()).is_some()
}

async fn change(store: &Store, second: i64) {
    write(store, move |tables| tables.set_clock_mark(ClockMark::Seen, at(second))).await;
}

pub(super) async fn it_changes_before_the_writer_is_told(bench: Arc<dyn Bench>) {
    let store = bench.open();
    for n in 0..20 {
        assert!(!survives(&store, change(&store, n)).await, "commit {n}");
    }
}

pub(super) async fn it_changes_with_a_commit_of_another_handle(bench: Arc<dyn Bench>) {
    let (store, other) = (bench.open(), bench.open());
    for n in 0..20 {
        assert!(!survives(&store, change(&other, n)).await, "commit {n}");
    }
}

pub(super) async fn it_stays_while_nobody_writes(bench: Arc<dyn Bench>) {
    let store = bench.open();
    change(&store, 1).await;
    let reads = async {
        for _ in 0..20 {
            read(&store, |tables| tables.clock_mark(ClockMark::Seen)).await;
        }
    };
    assert!(survives(&store, reads).await, "nothing would ever be answered from memory");
}
