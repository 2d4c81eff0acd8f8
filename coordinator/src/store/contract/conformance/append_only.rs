//! The audit logs and their chain.

use std::sync::Arc;

use serde_json::json;

use super::Bench;
use super::fixtures::*;
use crate::store::contract::{
    AccountAct, Action, AuditChainState, AuditStatus, NewAudit, NewOAuthAct, NewOrgAct, OAuthAct,
    OrgAct,
};
use crate::store::{StoreError, Tables};

fn deploy_entry(n: u128, action: Action, status: AuditStatus) -> NewAudit {
    NewAudit {
        id: uuid(n),
        deployment: app(1),
        action,
        status,
        initiated_by: Some(person(1)),
        at: at(1),
        details: None,
    }
}

/// An entry of every log: six links.
fn one_of_each(tables: &mut dyn Tables, n: u128) -> Result<(), StoreError> {
    let time = at(i64::try_from(n).unwrap());
    let details = json!({ "n": n.to_string() });
    tables.insert_audit(&deploy_entry(n, Action::Deploy, AuditStatus::Pending))?;
    tables.finish_deploy(app(1), AuditStatus::Failed, time, Some(&details))?;
    tables.insert_account_act(person(1), AccountAct::LoggedIn, time, None)?;
    tables.insert_admin_act("act", time, Some(person(1)), &details)?;
    tables.insert_act(&NewOAuthAct {
        act: OAuthAct::Denied,
        client_id: "app".to_owned(),
        account: Some(person(1)),
        actor: None,
        at: time,
        details: None,
    })?;
    tables.insert_org_act(&NewOrgAct {
        org: org_id(1),
        team: Some(team_id(1)),
        actor: Some(person(1)),
        act: OrgAct::TeamMade,
        at: time,
        details: Some(details),
    })
}

pub(super) async fn every_log_is_in_the_chain(bench: Arc<dyn Bench>) {
    let store = bench.open();
    for n in 1..=2 {
        write(&store, move |tables| one_of_each(tables, n)).await;
    }
    read(&store, |tables| {
        let AuditChainState::Whole { anchor, head } = tables.verify_audit_chain()? else {
            panic!("the chain is broken");
        };
        assert_eq!((anchor.seq, head.seq), (0, 12));
        assert_eq!(tables.audit_chain_head()?, head);
        for seq in 1..=12 {
            assert_eq!(tables.audit_chain_link(seq)?.unwrap().seq, seq);
        }
        assert_eq!(tables.audit_chain_link(13)?, None);
        Ok(())
    })
    .await;
}

pub(super) async fn the_logs_cannot_be_edited(bench: Arc<dyn Bench>) {
    let store = bench.open();
    write(&store, |tables| one_of_each(tables, 1)).await;
    assert_eq!(bench.edit_logs(), [""; 0]);
    let state = read(&store, |tables| tables.verify_audit_chain()).await;
    assert!(matches!(state, AuditChainState::Whole { .. }), "{state:?}");
}

pub(super) async fn an_entry_without_its_commit_leaves_no_gap(bench: Arc<dyn Bench>) {
    let store = bench.open();
    write(&store, |tables| one_of_each(tables, 1)).await;
    let refused: Result<(), _> = store
        .write(|tables| {
            one_of_each(tables, 2)?;
            Err(StoreError::Busy)
        })
        .await;
    refused.unwrap_err();
    write(&store, |tables| one_of_each(tables, 3)).await;
    let state = read(&store, |tables| tables.verify_audit_chain()).await;
    assert!(matches!(state, AuditChainState::Whole { head, .. } if head.seq == 12), "{state:?}");
}

pub(super) async fn a_deploy_ends_once_and_its_entry_stays(bench: Arc<dyn Bench>) {
    let store = bench.open();
    let rows = write(&store, |tables| {
        tables.insert_audit(&deploy_entry(1, Action::Deploy, AuditStatus::Pending))?;
        tables.insert_audit(&deploy_entry(2, Action::Stop, AuditStatus::Completed))?;
        let details = json!({ "why": "stopped" });
        assert!(!tables.finish_deploy(app(2), AuditStatus::Completed, at(5), None)?);
        assert!(tables.finish_deploy(app(1), AuditStatus::Failed, at(5), Some(&details))?);
        assert!(!tables.finish_deploy(app(1), AuditStatus::Completed, at(6), None)?);
        tables.audit_of(app(1), 9)
    })
    .await;
    let shown: Vec<_> =
        rows.iter().map(|row| (row.action.as_str(), row.status.as_str(), row.at)).collect();
    assert_eq!(shown, [("deploy", "failed", at(1)), ("stop", "completed", at(1))]);
    assert_eq!(rows[0].details, Some(json!({ "why": "stopped" })));
}

pub(super) async fn old_entries_go_from_the_beginning_and_an_entry_says_so(bench: Arc<dyn Bench>) {
    let store = bench.open();
    for n in 1..=4 {
        write(&store, move |tables| one_of_each(tables, 10 * n)).await;
    }
    let prune = |cutoff, most| {
        write(&store, move |tables| tables.prune_audit_chain(at(cutoff), at(100), most))
    };
    assert_eq!(prune(1, 100).await, 0);
    // The first entry of each round is a deploy's, whose time is 1.
    assert_eq!(prune(21, 5).await, 5, "no more than it is told");
    assert_eq!(prune(21, 100).await, 8, "up to the first recent one");
    read(&store, |tables| {
        let state = tables.verify_audit_chain()?;
        assert!(
            matches!(&state, AuditChainState::Whole { anchor, .. } if anchor.seq == 13),
            "{state:?}"
        );
        assert_eq!(tables.audit_chain_link(12)?, None);
        assert_eq!(tables.account_acts(person(1), 9)?.len(), 2);
        assert_eq!(tables.admin_acts(None, 1)?[0].details["through"], 13);
        Ok(())
    })
    .await;
}
