//! What is there after the database was closed and opened again.

use std::sync::Arc;

use serde_json::json;

use super::Bench;
use super::fixtures::*;
use crate::store::StoreError;
use crate::store::contract::{AuditChainState, ClockMark};

pub(super) async fn what_was_committed_is_there_after_a_reopen(bench: Arc<dyn Bench>) {
    let store = bench.open();
    write(&store, settle).await;
    for n in 1..=5 {
        write(&store, move |tables| {
            tables.insert_admin_act("act", at(n), None, &json!({}))?;
            tables.set_clock_mark(ClockMark::Seen, at(n))
        })
        .await;
    }
    drop(store);
    let store = bench.open();
    read(&store, |tables| {
        assert_eq!(tables.account(person(1))?.unwrap().email, account(1).email);
        assert_eq!(tables.clock_mark(ClockMark::Seen)?, Some(at(5)));
        assert_eq!(tables.admin_acts(None, 9)?.len(), 5);
        assert!(matches!(tables.verify_audit_chain()?, AuditChainState::Whole { .. }));
        Ok(())
    })
    .await;
}

pub(super) async fn what_was_rolled_back_is_not_there_after_a_reopen(bench: Arc<dyn Bench>) {
    let store = bench.open();
    let refused: Result<(), _> = store
        .write(|tables| {
            settle(tables)?;
            Err(StoreError::Busy)
        })
        .await;
    refused.unwrap_err();
    drop(store);
    let found = read(&bench.open(), |tables| tables.account(person(1))).await;
    assert_eq!(found, None);
}
