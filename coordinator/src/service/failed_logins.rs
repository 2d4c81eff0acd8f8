//! Writes failed logins to the audit log, in batches.
//!
//! ```text
//! wrong password or code ─► counted in memory ─ every 10 minutes, at exit ─► one entry/account
//! ```
//!
//! At most [`ACCOUNTS`](crate::auth::failed_logins::ACCOUNTS) entries plus one for all others in 10
//! minutes: some 3 MB a day under attack. A crash loses the counts of that time.

use std::time::Duration;

use buddo_runtime::error_chain::chain;
use serde_json::json;

use crate::auth::failed_logins::Counted;
use crate::state::AppState;
use crate::store::StoreError;
use crate::store::contract::AccountAct;

const EACH: Duration = Duration::from_mins(10);

/// Writes until the process drains.
pub async fn run(state: AppState) {
    loop {
        let ends = tokio::select! {
            () = state.drain.cancelled() => true,
            () = tokio::time::sleep(EACH) => false,
        };
        if let Err(error) = write(&state).await {
            tracing::error!(error = %chain(&error), "cannot write failed logins to the audit log");
        }
        if ends {
            return;
        }
    }
}

/// Writes what was counted since the last time.
pub async fn write(state: &AppState) -> Result<(), StoreError> {
    let Counted { accounts, others } = state.auth.failures.take();
    if accounts.is_empty() && others == 0 {
        return Ok(());
    }
    let now = state.clock.now();
    state
        .store
        .write(move |tables| {
            for (&account, failures) in &accounts {
                // An account deleted meanwhile has no log any more.
                if tables.account(account)?.is_some() {
                    let details = json!({ "failures": failures });
                    let act = AccountAct::LoginFailed;
                    tables.insert_account_act(account, act, now, Some(&details))?;
                }
            }
            if others > 0 {
                let details = json!({ "failures": others });
                tables.insert_admin_act("logins_failed", now, None, &details)?;
            }
            Ok(())
        })
        .await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::World;

    async fn try_login(world: &World, name: &str) {
        let body = json!({ "email": format!("{name}@example.com"), "password": "wrong-password" });
        assert_eq!(world.post("/api/auth/login", "", body).await.status, 401);
    }

    #[tokio::test]
    async fn failed_logins_are_aggregated_in_the_audit_log() {
        let world = World::new();
        let jwt = world.member("one").await;
        for name in ["one", "one", "nobody", "one"] {
            try_login(&world, name).await;
        }
        write(&world.state).await.unwrap();
        write(&world.state).await.unwrap();
        let log = world.get("/api/auth/activity", &jwt).await.json();
        let failed: Vec<_> = log["activity"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|entry| entry["action"] == "login_failed")
            .collect();
        assert_eq!(failed.len(), 1, "{log}");
        assert_eq!(failed[0]["details"]["failures"], 3);
        let acts: Result<_, StoreError> =
            world.state.store.read(|tables| tables.admin_acts(None, 10)).await;
        let acts = acts.unwrap();
        assert_eq!((acts.len(), &*acts[0].action), (1, "logins_failed"));
        assert_eq!(acts[0].details["failures"], 1);
    }
}
