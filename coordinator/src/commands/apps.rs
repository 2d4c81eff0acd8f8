//! `app list`, `approve`, `suspend` and `log`.

use std::io::Write;

use anyhow::Result;
use buddo_runtime::clock::Clock;

use super::printable;
use crate::args::AppCommand;
use crate::config::Config;
use crate::service::oauth;
use crate::store::Store;
use crate::store::contract::{Client, OAuthActRow};

/// Manages OAuth clients for an administrator.
pub async fn app(
    command: AppCommand,
    config: &Config,
    clock: &dyn Clock,
    out: &mut (dyn Write + Send),
) -> Result<()> {
    let store = Store::open(&config.database())?;
    match command {
        AppCommand::List => {
            for line in table(&oauth::clients(&store).await?) {
                writeln!(out, "{line}")?;
            }
        }
        AppCommand::Approve { client_id } => {
            let client = oauth::approve_client(&store, clock.now(), &client_id).await?;
            tracing::info!("{:?} may ask everybody for: {}", client.name, client.scopes);
        }
        AppCommand::Suspend { client_id } => {
            let client = oauth::suspend_client(&store, clock.now(), &client_id).await?;
            tracing::info!(
                "{:?} serves its owner only; others' tokens of it have ended",
                client.name
            );
        }
        AppCommand::Log { client_id } => {
            for row in oauth::acts(&store, &client_id).await? {
                writeln!(out, "{}", line(&row))?;
            }
        }
    }
    Ok(())
}

fn table(clients: &[Client]) -> Vec<String> {
    let head = format!("{:<40} {:<9} {:<13} {:<40} NAME", "CLIENT ID", "STATE", "KIND", "SCOPES");
    let rows = clients.iter().map(|client| {
        format!(
            "{:<40} {:<9} {:<13} {:<40} {}",
            client.client_id,
            if client.is_approved { "approved" } else { "waiting" },
            if client.secret.is_some() { "confidential" } else { "public" },
            client.scopes.to_string(),
            printable(&client.name),
        )
    });
    std::iter::once(head).chain(rows).collect()
}

fn line(row: &OAuthActRow) -> String {
    let who = |account: &Option<String>| account.clone().unwrap_or_else(|| "-".to_owned());
    let details = row.details.as_ref().map(ToString::to_string).unwrap_or_default();
    format!(
        "{:.0} {:<14} account {} by {} {}",
        row.at,
        row.action,
        who(&row.account),
        who(&row.actor),
        printable(&details),
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::testing::World;

    async fn run(world: &World, command: AppCommand) -> Result<String> {
        let mut out = Vec::new();
        app(command, &world.state.config, &*world.clock, &mut out).await?;
        Ok(String::from_utf8(out)?)
    }

    #[tokio::test]
    async fn lists_approves_and_suspends_apps_and_logs_it() {
        let world = World::new();
        let jwt = world.member("one").await;
        let body = json!({ "app_name": "Mine", "redirect_uris": ["https://a.example/cb"],
            "requested_scopes": ["deploy:manage"] });
        let made = world.post("/api/oauth/apps", &jwt, body).await.json();
        let client_id = made["app"]["client_id"].as_str().unwrap().to_owned();
        let listed = run(&world, AppCommand::List).await.unwrap();
        assert!(listed.contains(&client_id) && listed.contains("waiting"), "{listed}");
        assert!(!listed.contains("buddo-cli"), "what is built in is nobody's to approve");
        run(&world, AppCommand::Approve { client_id: client_id.clone() }).await.unwrap();
        assert!(run(&world, AppCommand::List).await.unwrap().contains("approved"));
        run(&world, AppCommand::Suspend { client_id: client_id.clone() }).await.unwrap();
        let log = run(&world, AppCommand::Log { client_id }).await.unwrap();
        let words = ["app_made", "app_approved", "app_suspended"];
        assert!(words.iter().all(|word| log.contains(word)), "{log}");
        let unknown = AppCommand::Approve { client_id: "client_nobody".to_owned() };
        assert!(run(&world, unknown).await.is_err());
    }
}
