//! Every change of the logs from outside is detected.

use buddo_shared::model::id::{AccountId, DeploymentId, OrgId};
use jiff::Timestamp;
use proptest::prelude::*;
use rusqlite::{Connection, params};
use serde_json::json;
use uuid::Uuid;

use super::migrate;
use crate::store::contract::{
    AccountAct, Action, Acts as _, Audit as _, AuditChain as _, AuditChainState, AuditStatus,
    Break, Changes as _, NewAudit, NewOAuthAct, NewOrgAct, OAuthAct, OrgAct, Orgs as _,
};
use crate::store::sql::Tx;
use crate::store::sql::audit_chain::LOGS;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

/// A database with an entry of each kind for each number.
fn filled(entries: u8) -> (tempfile::TempDir, Connection) {
    let directory = tempfile::tempdir().unwrap();
    let mut connection = migrate::open(&directory.path().join("a.db")).unwrap();
    let transaction = connection.transaction().unwrap();
    let mut tx = Tx::new(&*transaction);
    for n in 0..entries {
        write(&mut tx, n, at(i64::from(n) * 100));
    }
    transaction.commit().unwrap();
    (directory, connection)
}

fn write(tx: &mut Tx<'_>, n: u8, now: Timestamp) {
    let id = Uuid::from_u128(n.into());
    let account = AccountId::new(id);
    let details = json!({ "n": n });
    let deployment = DeploymentId::new(id);
    match n % 5 {
        0 => {
            tx.insert_audit(&NewAudit {
                id,
                deployment,
                action: Action::Deploy,
                status: AuditStatus::Pending,
                initiated_by: Some(account),
                at: now,
                details: None,
            })
            .unwrap();
            let ended = tx.finish_deploy(deployment, AuditStatus::Failed, now, Some(&details));
            assert!(ended.unwrap());
        }
        1 => tx.insert_account_act(account, AccountAct::LoggedIn, now, Some(&details)).unwrap(),
        4 => tx
            .insert_org_act(&NewOrgAct {
                org: OrgId::new(id),
                team: None,
                actor: Some(account),
                act: OrgAct::Invited,
                at: now,
                details: Some(details),
            })
            .unwrap(),
        2 => tx.insert_admin_act("epoch_raise", now, Some(account), &details).unwrap(),
        _ => tx
            .insert_act(&NewOAuthAct {
                act: OAuthAct::Allowed,
                client_id: "client".to_owned(),
                account: None,
                actor: Some(account),
                at: now,
                details: Some(details),
            })
            .unwrap(),
    }
}

fn state(connection: &Connection) -> AuditChainState {
    Tx::new(connection).verify_audit_chain().unwrap()
}

fn is_whole(connection: &Connection) -> bool {
    matches!(state(connection), AuditChainState::Whole { .. })
}

fn broken(connection: &Connection) -> Break {
    match state(connection) {
        AuditChainState::Broken(broken) => broken,
        whole @ AuditChainState::Whole { .. } => panic!("{whole:?}"),
    }
}

/// Like an attacker who has the file.
fn without_triggers(connection: &Connection) {
    let sql = "SELECT name FROM sqlite_schema WHERE type = 'trigger'";
    let mut statement = connection.prepare(sql).unwrap();
    let names: Vec<String> =
        statement.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
    assert!(names.len() > 12);
    for name in names {
        connection.execute_batch(&format!("DROP TRIGGER {name}")).unwrap();
    }
}

#[test]
fn the_database_refuses_edits_of_the_audit_logs() {
    let (_directory, connection) = filled(8);
    for table in LOGS.iter().map(|log| log.table).chain(["audit_chain"]) {
        for sql in [
            format!("UPDATE {table} SET at = at + 1"),
            format!("DELETE FROM {table}"),
            format!("DELETE FROM {table} WHERE seq = 1"),
        ] {
            let error = connection.execute_batch(&sql).unwrap_err();
            assert!(error.to_string().contains("never edited"), "{sql}: {error}");
        }
    }
    for sql in [
        "UPDATE audit_head SET seq = 3",
        "DELETE FROM audit_head",
        "DELETE FROM audit_anchor",
        "UPDATE audit_anchor SET seq = 3",
        "UPDATE audit_anchor SET seq = 3, hash = (SELECT hash FROM audit_chain WHERE seq = 4)",
    ] {
        assert!(connection.execute_batch(sql).is_err(), "{sql}");
    }
    assert!(is_whole(&connection));
}

#[test]
fn the_first_broken_entry_is_named() {
    let (_directory, connection) = filled(12);
    without_triggers(&connection);
    connection.execute_batch("UPDATE account_audit SET details = '{}' WHERE seq = 2").unwrap();
    let broken = broken(&connection);
    // 0 makes two links, 1 to 4 one each, 5 two.
    assert_eq!((broken.link, broken.entry), (9, Some(("account_audit".to_owned(), 2))));
}

#[test]
fn an_entry_added_outside_the_chain_is_detected() {
    let (_directory, connection) = filled(4);
    let sql = "INSERT INTO admin_audit (action, at, details) VALUES ('x', 1, '{}')";
    connection.execute_batch(sql).unwrap();
    assert_eq!(broken(&connection).entry, Some(("admin_audit".to_owned(), 2)));
}

#[test]
fn pruning_the_oldest_entries_keeps_the_chain_valid() {
    let (_directory, mut connection) = filled(20);
    let prune = |connection: &mut Connection, cutoff, most| {
        let transaction = connection.transaction().unwrap();
        let mut tx = Tx::new(&*transaction);
        let pruned = tx.prune_audit_chain(at(cutoff), at(5_000), most).unwrap();
        transaction.commit().unwrap();
        pruned
    };
    assert_eq!(prune(&mut connection, 0, 100), 0);
    assert_eq!(prune(&mut connection, 800, 3), 3);
    assert!(is_whole(&connection));
    // Entries 0 to 7: two links each for 0 and 5, one each for the others, less the three.
    assert_eq!(prune(&mut connection, 800, 100), 7);
    let AuditChainState::Whole { anchor, head } = state(&connection) else { panic!("broken") };
    assert_eq!((anchor.seq, head.seq), (10, 26));
    let left: i64 =
        connection.query_row("SELECT min(at) FROM audit_chain", [], |row| row.get(0)).unwrap();
    assert_eq!(left, 800_000);
    // New entries continue the chain.
    let transaction = connection.transaction().unwrap();
    write(&mut Tx::new(&*transaction), 21, at(6_000));
    transaction.commit().unwrap();
    assert!(is_whole(&connection));
    // All of it may be old: the entry about the pruning is left.
    assert!(prune(&mut connection, 7_000, 100) > 0);
    assert!(is_whole(&connection));
    // Cut by hand, with a matching anchor: but no entry records it.
    let (_directory, connection) = filled(8);
    without_triggers(&connection);
    connection
        .execute_batch(
            "UPDATE audit_anchor SET seq = 2, hash = (SELECT hash FROM audit_chain WHERE seq = 2);
             DELETE FROM audit WHERE seq = 1; DELETE FROM audit_outcomes WHERE seq = 1;
             DELETE FROM audit_chain WHERE seq <= 2;",
        )
        .unwrap();
    assert_eq!(broken(&connection).what, "the chain was cut here, and no entry says so");
}

#[test]
fn entries_from_before_the_chain_are_chained_once() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.db");
    let old = migrate::before_the_chain(&path);
    old.execute_batch(
        "INSERT INTO audit (id, deployment_id, action, status, at)
             VALUES ('a', 'd', 'deploy', 'pending', 3), ('b', 'd', 'stop', 'completed', 1);
         INSERT INTO admin_audit (action, at, details) VALUES ('epoch_raise', 2, '{}');",
    )
    .unwrap();
    drop(old);
    let connection = migrate::open(&path).unwrap();
    let AuditChainState::Whole { head, .. } = state(&connection) else { panic!("broken") };
    assert_eq!(head.seq, 3);
    drop(connection);
    assert!(matches!(
        state(&migrate::open(&path).unwrap()),
        AuditChainState::Whole { head: again, .. } if again == head
    ));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// Any edit of a column, deletion, exchange of two entries or links, or cut is detected.
    #[test]
    fn any_outside_change_is_detected(
        what in 0_u8..6,
        log in 0_usize..5,
        one in 1_i64..5,
        other in 1_i64..5,
        column in 0_usize..16,
    ) {
        let (_directory, connection) = filled(20);
        prop_assert!(is_whole(&connection));
        without_triggers(&connection);
        let table = LOGS[log].table;
        let columns: Vec<String> = {
            let statement = connection.prepare(&format!("SELECT * FROM {table}")).unwrap();
            statement.column_names().into_iter().map(str::to_owned).collect()
        };
        let column = &columns[column % columns.len()];
        let changed = match what {
            0 => connection.execute(
                &format!("UPDATE OR IGNORE {table} SET {column} = CASE typeof({column})
                     WHEN 'integer' THEN {column} + 1000 WHEN 'text' THEN
                         replace({column} || 'x', 'pendingx', 'completed') ELSE {column} END
                     WHERE seq = ?1 AND {column} IS NOT NULL"), [one]).unwrap_or(0),
            1 => connection.execute(&format!("DELETE FROM {table} WHERE seq = ?1"), [one]).unwrap(),
            // Together with its link, as if it had never existed.
            2 => {
                let sql = "DELETE FROM audit_chain WHERE log = ?1 AND entry = ?2";
                connection.execute(sql, params![table, one]).unwrap()
                    + connection.execute(&format!("DELETE FROM {table} WHERE seq = ?1"), [one]).unwrap()
            }
            // Two entries change places.
            3 if one != other => {
                connection.execute_batch(&format!(
                    "UPDATE {table} SET seq = -1 WHERE seq = {one};
                     UPDATE {table} SET seq = {one} WHERE seq = {other};
                     UPDATE {table} SET seq = {other} WHERE seq = -1;")).unwrap();
                1
            }
            // Two links change places.
            4 if one != other => {
                connection.execute_batch(&format!(
                    "UPDATE audit_chain SET seq = -1 WHERE seq = {one};
                     UPDATE audit_chain SET seq = {one} WHERE seq = {other};
                     UPDATE audit_chain SET seq = {other} WHERE seq = -1;")).unwrap();
                1
            }
            // The end is cut off.
            5 => {
                for log in LOGS {
                    connection.execute(&format!(
                        "DELETE FROM {t} WHERE seq IN (SELECT entry FROM audit_chain
                             WHERE log = '{t}' AND seq > 25 - ?1)", t = log.table), [one]).unwrap();
                }
                connection.execute("DELETE FROM audit_chain WHERE seq > 25 - ?1", [one]).unwrap()
            }
            _ => 0,
        };
        prop_assume!(changed > 0);
        prop_assert!(!is_whole(&connection));
    }
}
