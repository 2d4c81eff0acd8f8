//! `buddo deploy logs ID`: the audit log.

use buddo_shared::api::deploy::{AuditEntry, AuditLog};
use serde_json::Value;

use super::status::time;
use super::{Context, resolve};
use crate::error::CliError;
use crate::session::Account;
use crate::target::Target;
use crate::ui::Table;

pub(super) async fn run(context: &mut Context<'_>, target: &Target) -> Result<(), CliError> {
    let id = resolve::id(context, target).await?;
    let log = context.api.logs(id).await?;
    if context.ui.is_json() {
        return context.ui.json(&log);
    }
    let account = context.api.account();
    context.ui.table(&table(log, account.as_ref()))
}

/// The four published columns, and details if there are any.
fn table(AuditLog { logs }: AuditLog, account: Option<&Account>) -> Table {
    let detailed = logs.iter().any(|entry| details(entry).is_some());
    let mut headings = vec!["Action", "Status", "Initiated by", "Time"];
    headings.extend(detailed.then_some("Details"));
    let mut table = Table::new(headings);
    for entry in logs {
        let (who, details) = (who(&entry, account), details(&entry));
        let mut cells = vec![entry.action, entry.status, who, time(entry.inserted_at)];
        cells.extend(detailed.then(|| details.unwrap_or_default()));
        table.cells(cells);
    }
    table
}

fn who(entry: &AuditEntry, account: Option<&Account>) -> String {
    match &entry.initiated_by {
        None if by_auto_rollback(entry) => "guard".to_owned(),
        None => "platform".to_owned(),
        Some(id) => {
            let own = account.filter(|account| account.id == *id);
            own.map_or_else(|| id.clone(), |account| account.username.clone())
        }
    }
}

/// Whether auto rollback on its host did it, not a person.
fn by_auto_rollback(entry: &AuditEntry) -> bool {
    entry.details.as_ref().is_some_and(|details| details["by"] == "guard")
}

/// From which revision to which, the cause of a failure, or anything else in the entry.
fn details(entry: &AuditEntry) -> Option<String> {
    let details = entry.details.as_ref()?;
    let cause = details["cause"].as_str();
    if let (Some(from), Some(to)) = (details["from"].as_u64(), details["to"].as_u64()) {
        let why = cause.map_or_else(String::new, |cause| format!(": {cause}"));
        return Some(format!("from revision {from} to {to}{why}"));
    }
    match details {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        Value::Object(fields) if fields.is_empty() => None,
        Value::Object(fields) => match cause {
            Some(cause) => Some(cause.to_owned()),
            None => Some(Value::Object(fields.clone()).to_string()),
        },
        other => Some(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ui::testing::{Screen, ui};

    fn entry(action: &str, by: Option<&str>, at: &str, details: Option<Value>) -> AuditEntry {
        AuditEntry {
            id: "1".to_owned(),
            action: action.to_owned(),
            status: if action == "deploy" && details.is_some() { "failed" } else { "completed" }
                .to_owned(),
            initiated_by: by.map(str::to_owned),
            inserted_at: at.parse().unwrap(),
            details,
        }
    }

    fn printed(logs: Vec<AuditEntry>) -> String {
        let account = Account {
            id: "550e8400-e29b-41d4-a716-446655440000".to_owned(),
            username: "myoperator".to_owned(),
            email: Some("you@example.com".to_owned()),
        };
        let (mut ui, printed) = ui(Screen::Piped);
        ui.table(&table(AuditLog { logs }, Some(&account))).unwrap();
        printed.out()
    }

    #[test]
    fn prints_the_documented_table() {
        let own = Some("550e8400-e29b-41d4-a716-446655440000");
        let text = printed(vec![
            entry("create", own, "2026-05-21T10:00:00.123Z", None),
            entry("deploy", None, "2026-05-21T10:00:05Z", None),
        ]);
        insta::assert_snapshot!(text, @r"
        Action  Status     Initiated by  Time
        ------  ------     ------------  ----
        create  completed  myoperator    2026-05-21T10:00:00Z
        deploy  completed  platform      2026-05-21T10:00:05Z
        ");
    }

    #[test]
    fn a_failure_shows_its_cause() {
        let cause = serde_json::json!({ "cause": "the image does not exist", "code": "x" });
        let text = printed(vec![
            entry("create", Some("someone-else"), "2026-05-21T10:00:00Z", None),
            entry("deploy", None, "2026-05-21T10:00:05Z", Some(cause)),
        ]);
        assert!(text.contains("someone-else"), "{text}");
        assert!(text.lines().last().unwrap().ends_with("the image does not exist"), "{text}");
    }

    #[test]
    fn a_rollback_shows_its_revisions_and_whether_it_was_automatic() {
        let own = Some("550e8400-e29b-41d4-a716-446655440000");
        let asked = serde_json::json!({ "from": 3, "to": 1, "revision": 4 });
        let rolled_back = serde_json::json!({
            "by": "guard", "from": 4, "to": 3, "code": "guard_errors", "cause": "8 % of answers fail",
            "fix": "read its logs",
        });
        let text = printed(vec![
            entry("rollback", own, "2026-05-21T10:00:00Z", Some(asked)),
            entry("rollback", None, "2026-05-21T10:00:05Z", Some(rolled_back)),
        ]);
        insta::assert_snapshot!(text, @r"
        Action    Status     Initiated by  Time                  Details
        ------    ------     ------------  ----                  -------
        rollback  completed  myoperator    2026-05-21T10:00:00Z  from revision 3 to 1
        rollback  completed  guard         2026-05-21T10:00:05Z  from revision 4 to 3: 8 % of answers fail
        ");
    }
}
