//! Frequent operations cost the same in a large database as in a small one. Counted in steps of
//! SQLite's virtual machine, which are the same everywhere; times would depend on the test machine.

use std::num::NonZeroU16;

use buddo_shared::host_wire::manifest::RunState;
use buddo_shared::host_wire::sealed::OpeningKey;
use buddo_shared::model::id::{AccountId, AppId, DeploymentId, HostId, Revision};
use buddo_shared::model::limits::Limits;
use buddo_shared::model::port::Port;
use buddo_shared::model::probe::Probe;
use buddo_shared::model::workload::ServiceName;
use jiff::Timestamp;
use rusqlite::Connection;
use serde_json::json;
use uuid::Uuid;

use super::{migrate, work};
use crate::domain::capacity::Demand;
use crate::domain::deployment::Deployment;
use crate::domain::encryption::HEAD;
use crate::domain::lifecycle::{Event, Lifecycle};
use crate::domain::revision::RevisionRecord;
use crate::domain::service::{Service, Services};
use crate::store::contract::{
    Action, Audit as _, AuditChain as _, AuditStatus, CandidateHost, CandidateSearch,
    Deployments as _, Hosts as _, Idempotency as _, NewAudit, OAuth as _, Replay, Revisions as _,
    SealedValues as _, Tiers as _,
};
use crate::store::sql::Tx;

/// The head of most values.
const KEY: [u8; HEAD] = [5; HEAD];
/// Half of the links, tokens, codes and answers are older.
const CUTOFF: i64 = 1_000_000;

fn at(millisecond: i64) -> Timestamp {
    Timestamp::from_millisecond(millisecond).unwrap()
}

fn id(n: u128) -> Uuid {
    Uuid::from_u128(0x4000_8000_0000_0000_0000 + n)
}

/// A database of size `n`: n times ten hosts, a hundred deployments, five hundred entries of the
/// first one's audit log, a hundred grants.
struct Filled {
    connection: Connection,
    _directory: tempfile::TempDir,
}

impl Filled {
    fn of(n: i64) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let connection = migrate::open(&directory.path().join("a.db")).unwrap();
        connection.pragma_update(None, "synchronous", "OFF").unwrap();
        let sealing_key = json!(OpeningKey::generate().unwrap().1);
        let sealing_key = format!("'{}'", sealing_key.as_str().unwrap());
        let sql = include_str!("scale/fill.sql").replace(":sealing_key", &sealing_key);
        let sql = sql.replace(":cutoff", &CUTOFF.to_string()).replace(":n", &n.to_string());
        connection.execute_batch(&sql).unwrap();
        Self { connection, _directory: directory }
    }

    /// The steps that `act` takes, in a transaction that is rolled back.
    fn steps(&mut self, act: fn(&mut Tx<'_>), given: Option<&str>) -> u64 {
        let transaction = self.connection.transaction().unwrap();
        if let Some(sql) = given {
            assert_ne!(transaction.execute(sql, []).unwrap(), 0);
        }
        let mut tx = Tx::new(&*transaction);
        work::of(|| act(&mut tx)).0
    }
}

fn audit(tx: &mut Tx<'_>, n: u128, deployment: DeploymentId, action: Action, status: AuditStatus) {
    let entry = NewAudit {
        id: id(n),
        deployment,
        action,
        status,
        initiated_by: None,
        at: at(2 * CUTOFF),
        details: None,
    };
    tx.insert_audit(&entry).unwrap();
}

/// Hosts on which an app with this much memory fits.
fn fitting<'a>(memory_mb: u64) -> CandidateSearch<'a> {
    let demand = Demand { memory_mb, env_bytes: 0 };
    CandidateSearch { fits: Some((demand, 1.0)), lost_at: at(0), except: &[] }
}

fn create(tx: &mut Tx<'_>) {
    let found = tx.candidate_hosts(fitting(256), None, 8).unwrap();
    let host = found.first().unwrap().mark.host;
    let deployment = DeploymentId::new(id(u128::MAX >> 64));
    let account = AccountId::new(id(1));
    let limits = Limits { memory_mb: 256, cpu_millicores: 250, pids: 256 };
    assert_eq!(tx.count_deployments(account, "none").unwrap().in_all.there, 5);
    assert_eq!(tx.env_bytes_of(account).unwrap().len(), 1);
    tx.insert_deployment(&Deployment {
        id: deployment,
        app_id: AppId::new(id(1)),
        account,
        team: None,
        tier_id: tx.tiers().unwrap().remove(0).id,
        host,
        subdomain: "another".parse().unwrap(),
        custom_domain: None,
        lifecycle: Lifecycle::NEW,
        run: RunState::Running,
        revision: Revision::FIRST,
        serving: None,
        container_name: "another-1".to_owned(),
        health: None,
        last_health_check: None,
        failure: None,
        trouble: None,
        held: None,
        restarts: 0,
        limits,
        billing_status: None,
        deployed_at: None,
        stopped_at: None,
        inserted_at: at(0),
    })
    .unwrap();
    let revision = RevisionRecord {
        number: Revision::FIRST,
        services: Services::single(Service {
            name: ServiceName::APP,
            introduced: Revision::FIRST,
            replicas: NonZeroU16::MIN,
            image: "docker.io/library/nginx:latest".parse().unwrap(),
            digest: None,
            port: Port::DEFAULT,
            probe: Probe::default(),
            strategy: buddo_shared::host_wire::manifest::Strategy::Rolling,
        }),
        domains: Vec::new(),
        rollback_of: None,
        created_at: at(0),
        live_at: None,
        failure: None,
    };
    tx.insert_revision(deployment, &revision, &[(ServiceName::APP, vec![5; 100])].into()).unwrap();
    audit(tx, 1 << 60, deployment, Action::Create, AuditStatus::Completed);
    audit(tx, (1 << 60) + 1, deployment, Action::Deploy, AuditStatus::Pending);
    tx.bump_generation(host).unwrap();
}

fn destroy(tx: &mut Tx<'_>) {
    let mut deployment = tx.deployment(DeploymentId::new(id(7))).unwrap().unwrap();
    tx.erase_env(deployment.id).unwrap();
    deployment.lifecycle.apply(Event::Destroy).unwrap();
    tx.update_deployment(&deployment).unwrap();
}

fn find_no_room(tx: &mut Tx<'_>) {
    assert!(tx.candidate_hosts(fitting(1 << 40), None, 8).unwrap().is_empty());
}

/// Each has more left than is asked for, but less than the app needs with its helper and an update:
/// none of them is read.
const FULL: &str = "UPDATE host_loads SET reserved_mb = allocatable_mb - 400";

fn find_full_hosts(tx: &mut Tx<'_>) {
    assert!(tx.candidate_hosts(fitting(256), None, 8).unwrap().is_empty());
}

/// Of the deployment with the most entries.
fn end_a_deploy(tx: &mut Tx<'_>) {
    let deployment = DeploymentId::new(id(0));
    audit(tx, 1 << 60, deployment, Action::Deploy, AuditStatus::Pending);
    let (failed, details) = (AuditStatus::Failed, json!({}));
    assert!(tx.finish_deploy(deployment, failed, at(2 * CUTOFF), Some(&details)).unwrap());
    assert!(!tx.finish_deploy(deployment, failed, at(2 * CUTOFF), Some(&details)).unwrap());
}

fn prune(tx: &mut Tx<'_>) {
    assert_eq!(tx.prune_audit_chain(at(CUTOFF), at(2 * CUTOFF), 50).unwrap(), 50);
}

fn look_for_another_key(tx: &mut Tx<'_>) {
    assert_eq!(tx.sealed_otherwise(&KEY, 10).unwrap().len(), 1, "the one that has another");
    for other in [[4; HEAD], [6; HEAD]] {
        assert_eq!(tx.sealed_otherwise(&other, 10).unwrap().len(), 10);
    }
}

fn purge_nothing(tx: &mut Tx<'_>) {
    assert_eq!(tx.purge_oauth(at(0), 20).unwrap(), 0);
}

fn purge_some(tx: &mut Tx<'_>) {
    assert_eq!(tx.purge_oauth(at(CUTOFF), 20).unwrap(), 2 * 20);
}

/// Half of the answers have expired.
fn keep_an_answer(tx: &mut Tx<'_>) {
    let answer = Replay { body_hash: [5; 32], result: "{}".to_owned() };
    let account = AccountId::new(id(1));
    tx.keep_answer(account, "another", &answer, at(2 * CUTOFF), at(CUTOFF)).unwrap();
}

fn forget_answers(tx: &mut Tx<'_>) {
    assert_eq!(tx.purge_answers(at(CUTOFF), 20).unwrap(), 20);
    assert_eq!(tx.purge_answers(at(-1), 20).unwrap(), 0);
}

#[test]
fn frequent_operations_do_not_slow_down_as_the_database_grows() {
    type StoreCall = fn(&mut Tx<'_>);
    let acts: [(&str, StoreCall); 11] = [
        ("create", create),
        ("destroy", destroy),
        ("find no room", find_no_room),
        ("find full hosts", find_full_hosts),
        ("end a deploy", end_a_deploy),
        ("prune", prune),
        ("look for another key", look_for_another_key),
        ("purge nothing", purge_nothing),
        ("purge some", purge_some),
        ("keep an answer", keep_an_answer),
        ("forget answers", forget_answers),
    ];
    let (mut small, mut large) = (Filled::of(3), Filled::of(60));
    let mut grown = Vec::new();
    for (what, act) in acts {
        let given = (what == "find full hosts").then_some(FULL);
        let (few, many) = (small.steps(act, given), large.steps(act, given));
        // A full platform is searched host by host, in one index.
        let bound = if what.starts_with("find") { 40 * 57 * 10 } else { few / 5 + 50 };
        if many > few + bound {
            grown.push(format!("{what}: {few} steps grew to {many}"));
        }
    }
    assert!(grown.is_empty(), "{grown:?}");
}

/// The counters of the generated database match its deployments.
#[test]
fn generated_load_counters_match_their_deployments() {
    let filled = Filled::of(1);
    let tx = Tx::new(&filled.connection);
    assert_eq!(tx.miscounted_hosts(10).unwrap(), [] as [HostId; 0]);
    assert!(tx.load(HostId::new(id(0))).unwrap().containers > 0);
}

#[test]
fn pages_of_hosts_continue_where_the_last_one_ended() {
    let filled = Filled::of(2);
    let sql = "UPDATE hosts SET unreachable_since = 1 WHERE rowid % 3 = 0;
               UPDATE hosts SET removed_at = 1 WHERE rowid % 5 = 0;";
    filled.connection.execute_batch(sql).unwrap();
    let tx = Tx::new(&filled.connection);
    let any = CandidateSearch { fits: None, ..fitting(0) };
    let all = tx.candidate_hosts(any, None, 100).unwrap();
    assert_eq!(all.len(), 16);
    let (mut paged, mut after) = (Vec::new(), None);
    loop {
        let page = tx.candidate_hosts(any, after, 3).unwrap();
        let Some(last) = page.last() else { break };
        after = Some(last.mark);
        paged.extend(page);
    }
    assert_eq!(paged, all);
    let key =
        |host: &CandidateHost| (-host.mark.placement_rank, -host.mark.spare_mb, host.mark.host);
    assert!(all.is_sorted_by_key(key));
    // No host is offered where the app cannot fit, that is lost, or that is excluded.
    assert_eq!(tx.candidate_hosts(fitting(256), None, 100).unwrap(), all);
    assert!(tx.candidate_hosts(fitting(8192), None, 100).unwrap().is_empty());
    let none_is_lost = all.iter().filter(|host| host.unreachable_since.is_none()).count();
    let later = CandidateSearch { lost_at: at(1), ..any };
    assert_eq!(tx.candidate_hosts(later, None, 100).unwrap().len(), none_is_lost);
    let but_one = CandidateSearch { except: &[all[0].mark.host], ..any };
    assert_eq!(tx.candidate_hosts(but_one, None, 100).unwrap(), all[1..]);
}

/// Hosts report and connect all the time.
#[test]
fn updates_irrelevant_to_placement_do_not_write_the_load() {
    let filled = Filled::of(1);
    let total = || -> i64 {
        let sql = "SELECT total_changes()";
        filled.connection.query_row(sql, [], |row| row.get(0)).unwrap()
    };
    let rows = |set: &str| {
        let before = total();
        let sql = format!("UPDATE hosts SET {set} WHERE name = 'host-1'");
        filled.connection.execute(&sql, []).unwrap();
        total() - before
    };
    assert_eq!(rows("acked_generation = 1, refusal = NULL"), 1);
    assert_eq!(rows("status = json_set(status, '$.stale', json('true'))"), 1);
    assert_eq!(rows("last_seen = 5, unreachable_since = NULL"), 1);
    assert_eq!(rows("drained_at = 1"), 2);
    assert_eq!(rows("max_memory_mb = 4000"), 2);
}
