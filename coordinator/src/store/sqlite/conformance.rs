//! The contract's conformance suite on SQLite, and proof that it notices what is broken.

use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use futures_util::FutureExt as _;
use rusqlite::Connection;

use super::faults::{self, Broken, Faults};
use crate::store::Store;
use crate::store::contract::conformance::{self, Bench, When};
use crate::store::sql::audit_chain::LOGS;

struct SqliteBench {
    directory: tempfile::TempDir,
    faults: Arc<Faults>,
    /// Whether each handle is on a copy of its own.
    forgets: bool,
    opened: AtomicU32,
}

impl SqliteBench {
    /// A database of its own, with nothing wrong.
    fn sound() -> Arc<dyn Bench> {
        Arc::new(Self {
            directory: tempfile::tempdir().unwrap(),
            faults: Arc::default(),
            forgets: false,
            opened: AtomicU32::new(0),
        })
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("a.db")
    }
}

impl Bench for SqliteBench {
    fn open(&self) -> Store {
        let mut path = self.path();
        if self.forgets {
            let copy = self.opened.fetch_add(1, Ordering::SeqCst);
            path.set_file_name(format!("{copy}.db"));
            std::fs::copy(self.path(), &path).unwrap();
        }
        faults::install(&self.faults);
        let store = Store::open(&path).unwrap();
        faults::install(&Arc::default());
        store
    }

    fn conflict(&self, runs: u32, when: When) {
        let left = match when {
            When::Statement => &self.faults.at_statement,
            When::Commit => &self.faults.at_commit,
        };
        left.store(runs, Ordering::SeqCst);
    }

    fn edit_logs(&self) -> Vec<String> {
        let connection = Connection::open(self.path()).unwrap();
        let logs = LOGS.iter().map(|log| log.table).chain(["audit_chain"]);
        let edits = logs.flat_map(|log| {
            [format!("UPDATE {log} SET at = at + 1"), format!("DELETE FROM {log} WHERE seq = 1")]
        });
        edits.filter(|sql| connection.execute(sql, []).is_ok_and(|rows| rows > 0)).collect()
    }
}

conformance::conformance!(super::SqliteBench::sound());

/// What is wrong with a database.
#[derive(Debug, Clone, Copy)]
enum Wrong {
    /// The backend does not keep a promise.
    Backend(Broken),
    /// These parts of the schema are missing: those whose names match one of the patterns.
    Schema(&'static [&'static str]),
    /// What was committed is forgotten when the database is closed.
    Forgets,
}

fn broken(template: &Path, wrong: Wrong) -> Arc<dyn Bench> {
    let broken = match wrong {
        Wrong::Backend(broken) => Some(broken),
        Wrong::Schema(_) | Wrong::Forgets => None,
    };
    let bench = SqliteBench {
        directory: tempfile::tempdir().unwrap(),
        faults: Arc::new(Faults { broken, ..Faults::default() }),
        forgets: matches!(wrong, Wrong::Forgets),
        opened: AtomicU32::new(0),
    };
    std::fs::copy(template, bench.path()).unwrap();
    if let Wrong::Schema(missing) = wrong {
        let connection = Connection::open(bench.path()).unwrap();
        let mut dropped = 0;
        for pattern in missing {
            let sql = "SELECT type || ' ' || name FROM sqlite_schema
                       WHERE type IN ('index', 'trigger') AND name GLOB ?1";
            let mut statement = connection.prepare(sql).unwrap();
            let found = statement.query_map([pattern], |row| row.get::<_, String>(0)).unwrap();
            for part in found.map(Result::unwrap).collect::<Vec<_>>() {
                connection.execute_batch(&format!("DROP {part}")).unwrap();
                dropped += 1;
            }
        }
        assert!(dropped > 0, "{missing:?}");
    }
    Arc::new(bench)
}

/// Each broken promise, and the cases that notice it.
const NOTICED: &[(Wrong, &str, &[&str])] = &[
    (
        Wrong::Schema(&[
            "deployments_subdomain",
            "deployments_domain",
            "orgs_by_slug",
            "teams_by_slug",
        ]),
        "uniqueness",
        &[
            "a_subdomain_belongs_to_one_deployment_until_it_is_destroyed",
            "a_custom_domain_belongs_to_one_deployment_until_it_is_destroyed",
            "an_organisation_has_its_slug_alone_until_it_ends",
            "a_team_has_its_slug_alone_in_its_organisation",
        ],
    ),
    (
        Wrong::Schema(&["*_never_edited", "*_kept", "audit_*_goes_on"]),
        "append_only",
        &["the_logs_cannot_be_edited"],
    ),
    (Wrong::Schema(&["deploys_end"]), "append_only", &["a_deploy_ends_once_and_its_entry_stays"]),
    (Wrong::Schema(&["host_loads_follow*"]), "promises", &["loads_follow_deployments"]),
    (
        Wrong::Schema(&["grants_lose_*"]),
        "promises",
        &["a_purge_of_tokens_forgets_consents_with_nothing_left"],
    ),
    (
        Wrong::Backend(Broken::Order),
        "order",
        &[
            "deployments_are_listed_by_age",
            "hosts_are_listed_by_name",
            "logins_are_listed_by_use",
            "keys_and_invitations_are_listed_newest_first",
            "members_are_listed_as_they_joined",
            "teams_are_listed_own_first_and_then_by_slug",
            "organisations_and_apps_are_listed_oldest_first",
            "logs_are_listed_by_number",
        ],
    ),
    (Wrong::Backend(Broken::Order), "paging", &["pages_of_deployments_neither_repeat_nor_skip"]),
    (
        Wrong::Backend(Broken::Limit),
        "paging",
        &[
            "pages_of_deployments_neither_repeat_nor_skip",
            "pages_of_accounts_neither_repeat_nor_skip",
            "pages_of_acts_apps_and_allowed_accounts_go_on_where_the_last_one_ended",
            "pages_of_deployments_with_many_revisions_go_on_where_the_last_one_ended",
            "a_purge_takes_no_more_than_it_is_told",
        ],
    ),
    (
        Wrong::Backend(Broken::Rollback),
        "rollback",
        &["an_error_undoes_everything", "an_error_undoes_nobody_elses_work"],
    ),
    (
        Wrong::Backend(Broken::Rollback),
        "append_only",
        &["an_entry_without_its_commit_leaves_no_gap"],
    ),
    (
        Wrong::Backend(Broken::Rollback),
        "durability",
        &["what_was_rolled_back_is_not_there_after_a_reopen"],
    ),
    (
        Wrong::Backend(Broken::Isolation),
        "isolation",
        &["no_update_is_lost", "a_writer_sees_its_own_changes"],
    ),
    (Wrong::Backend(Broken::Isolation), "quota", &["a_limit_counted_in_the_transaction_holds"]),
    (Wrong::Backend(Broken::Snapshot), "isolation", &["a_reader_sees_one_snapshot"]),
    (
        Wrong::Backend(Broken::Conflict),
        "conflict",
        &["the_work_runs_again_and_its_effects_happen_once", "a_read_runs_again"],
    ),
    (
        Wrong::Backend(Broken::Once),
        "conflict",
        &["the_work_runs_again_and_its_effects_happen_once", "endless_conflicts_end_in_busy"],
    ),
    (Wrong::Forgets, "durability", &["what_was_committed_is_there_after_a_reopen"]),
    (Wrong::Backend(Broken::Version), "version", &["it_changes_before_the_writer_is_told"]),
    (
        Wrong::Backend(Broken::OwnVersion),
        "version",
        &["it_changes_with_a_commit_of_another_handle"],
    ),
    (Wrong::Backend(Broken::EachVersion), "version", &["it_stays_while_nobody_writes"]),
];

/// A broken promise that no case notices would also be missed in another backend.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_broken_promise_is_noticed() {
    let directory = tempfile::tempdir().unwrap();
    let template = directory.path().join("template.db");
    drop(super::migrate::open(&template).unwrap());
    let mut missed = Vec::new();
    for (wrong, group, expected) in NOTICED {
        let mut noticed = Vec::new();
        for case in conformance::CASES.iter().filter(|case| case.group == *group) {
            let run = AssertUnwindSafe((case.run)(broken(&template, *wrong)));
            let patience = Duration::from_mins(1);
            let ended = tokio::time::timeout(patience, run.catch_unwind()).await;
            if !matches!(ended, Ok(Ok(()))) {
                noticed.push(case.name);
            }
        }
        if expected.is_empty() || !expected.iter().all(|case| noticed.contains(case)) {
            missed.push((wrong, group, noticed));
        }
    }
    assert!(missed.is_empty(), "{missed:#?}");
}
