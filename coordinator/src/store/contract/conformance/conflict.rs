//! Conflicts: the work runs again, and happens once.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::json;

use super::fixtures::*;
use super::{Bench, When};
use crate::store::StoreError;
use crate::store::contract::AuditChainState;

pub(super) async fn the_work_runs_again_and_its_effects_happen_once(bench: Arc<dyn Bench>) {
    let store = bench.open();
    for (when, total) in [(When::Statement, 1), (When::Commit, 2)] {
        bench.conflict(2, when);
        let runs = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&runs);
        write(&store, move |tables| {
            counted.fetch_add(1, Ordering::SeqCst);
            tables.insert_admin_act("act", at(0), None, &json!({}))
        })
        .await;
        assert_eq!(runs.load(Ordering::SeqCst), 3, "{when:?}");
        let acts = read(&store, |tables| {
            assert!(matches!(tables.verify_audit_chain()?, AuditChainState::Whole { .. }));
            tables.admin_acts(None, 9)
        });
        assert_eq!(acts.await.len(), total, "{when:?}");
    }
}

pub(super) async fn a_conflict_that_the_work_ignores_counts(bench: Arc<dyn Bench>) {
    let store = bench.open();
    bench.conflict(1, When::Statement);
    write(&store, |tables| {
        let _ = tables.insert_join_token(&join_token(1), at(0));
        Ok(())
    })
    .await;
    let taken = write(&store, |tables| tables.take_join_token(&[1; 32], at(1))).await;
    assert!(taken.is_some(), "the second run stored it");
    // Nor does it count as the error that the work makes of it.
    bench.conflict(1, When::Statement);
    let kept: Result<(), StoreError> = store
        .write(|tables| {
            tables.insert_join_token(&join_token(2), at(0)).map_err(|_| StoreError::Closed)
        })
        .await;
    kept.unwrap();
}

pub(super) async fn a_read_runs_again(bench: Arc<dyn Bench>) {
    let store = bench.open();
    for long in [false, true] {
        bench.conflict(2, When::Statement);
        let runs = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&runs);
        let look = move |tables: &dyn crate::store::Tables| {
            counted.fetch_add(1, Ordering::SeqCst);
            tables.tiers()
        };
        let found = if long { store.read_long(look).await } else { store.read(look).await };
        assert!(!found.unwrap().is_empty());
        assert_eq!(runs.load(Ordering::SeqCst), 3);
    }
}

pub(super) async fn endless_conflicts_end_in_busy(bench: Arc<dyn Bench>) {
    let store = bench.open();
    for when in [When::Statement, When::Commit] {
        bench.conflict(u32::MAX, when);
        let refused = store.write(|tables| tables.insert_join_token(&join_token(1), at(0))).await;
        assert!(matches!(refused, Err(StoreError::Busy)), "{refused:?}");
        bench.conflict(0, when);
        let taken = write(&store, |tables| tables.take_join_token(&[1; 32], at(1))).await;
        assert_eq!(taken, None, "nothing was kept");
    }
}
