//! All or nothing.

use std::sync::Arc;

use futures_util::future::join_all;
use serde_json::json;

use super::Bench;
use super::fixtures::*;
use crate::store::contract::ClockMark;
use crate::store::{StoreError, Tables};

/// Changes several tables.
fn change(tables: &mut dyn Tables) -> Result<(), StoreError> {
    settle(tables)?;
    join(tables, 1)?;
    deploy(tables, &[1])?;
    tables.bump_generation(host_id(1))?;
    tables.insert_admin_act("act", at(0), None, &json!({}))
}

fn assert_unchanged(tables: &dyn Tables) -> Result<(), StoreError> {
    assert_eq!(tables.account(person(1))?, None);
    assert_eq!(tables.org(org_id(1))?, None);
    assert!(tables.hosts()?.is_empty());
    assert_eq!(tables.outline(app(1))?, None);
    assert_eq!(tables.admin_acts(None, 9)?, []);
    assert_eq!(tables.audit_chain_head()?.seq, 0);
    Ok(())
}

pub(super) async fn an_error_undoes_everything(bench: Arc<dyn Bench>) {
    let store = bench.open();
    let refused: Result<(), StoreError> = store
        .write(|tables| {
            change(tables)?;
            Err(StoreError::Busy)
        })
        .await;
    assert!(matches!(refused, Err(StoreError::Busy)), "the work's own error: {refused:?}");
    read(&store, assert_unchanged).await;
    write(&store, change).await;
}

pub(super) async fn a_panic_undoes_everything_and_the_store_goes_on(bench: Arc<dyn Bench>) {
    let store = bench.open();
    let panicked: Result<(), StoreError> = store
        .write(|tables| {
            change(tables)?;
            panic!("on purpose")
        })
        .await;
    assert!(matches!(panicked, Err(StoreError::Closed)), "{panicked:?}");
    read(&store, assert_unchanged).await;
    let panicked: Result<(), StoreError> = store.read(|_| panic!("on purpose")).await;
    assert!(matches!(panicked, Err(StoreError::Closed)), "{panicked:?}");
    write(&store, change).await;
    read(&store, |tables| tables.hosts().map(|hosts| assert_eq!(hosts.len(), 1))).await;
}

pub(super) async fn an_error_undoes_nobody_elses_work(bench: Arc<dyn Bench>) {
    let store = bench.open();
    // Sent together, so that they may share a commit.
    let results = join_all((1..=40_u8).map(|n| {
        store.write(move |tables| {
            tables.insert_join_token(&join_token(n), at(0))?;
            tables.set_clock_mark(ClockMark::Seen, at(n.into()))?;
            if n % 2 == 0 { Err(StoreError::Busy) } else { Ok(()) }
        })
    }));
    for (n, result) in (1..=40_u8).zip(results.await) {
        assert_eq!(result.is_ok(), n % 2 == 1, "{n}");
        let taken = write(&store, move |tables| tables.take_join_token(&[n; 32], at(1))).await;
        assert_eq!(taken.is_some(), n % 2 == 1, "{n}");
    }
    let seen = read(&store, |tables| tables.clock_mark(ClockMark::Seen)).await.unwrap();
    assert_eq!(seen.as_second() % 2, 1, "{seen}");
}
