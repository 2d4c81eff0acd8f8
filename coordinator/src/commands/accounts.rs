//! `admin account` and `admin tier`.

use std::io::Write;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use buddo_runtime::clock::Clock;
use serde::de::DeserializeOwned;

use super::printable;
use crate::args::{AccountCommand, TierCommand};
use crate::config::Config;
use crate::crypto::random::SystemRandom;
use crate::service::admin::{self, AdminContext, AdminError, Changed, TierRecord};
use crate::store::Store;
use crate::store::contract::{Account, Tier};

/// Accounts read at a time.
const PAGE: u32 = 500;

/// The admin context of commands run on the machine.
pub(super) fn admin_context(store: Store, clock: &dyn Clock) -> AdminContext {
    AdminContext { store, random: Arc::new(SystemRandom), now: clock.now(), actor: None }
}

/// `admin account …`.
pub async fn account(
    command: AccountCommand,
    config: &Config,
    clock: &dyn Clock,
    out: &mut (dyn Write + Send),
) -> Result<()> {
    let context = admin_context(Store::open(&config.database())?, clock);
    let (done, what) = match command {
        AccountCommand::List { text } => return list(&context, text, out).await,
        AccountCommand::Show { account } => {
            let shown = admin::account(&context, &account).await?;
            return show(&shown.account, shown.deployments, out);
        }
        AccountCommand::Suspend { account, reason } => {
            (admin::suspend(&context, &account, reason).await, "is suspended")
        }
        AccountCommand::Resume { account } => {
            (admin::resume(&context, &account).await, "may act again")
        }
        AccountCommand::Promote { account } => {
            (admin::promote(&context, &account).await, "administers the platform")
        }
        AccountCommand::Demote { account } => {
            (admin::demote(&context, &account).await, "no longer administers the platform")
        }
        AccountCommand::ClearSecondFactor { account } => (
            admin::clear_second_factor(&context, &account).await,
            "logs in with the password alone; its sessions have ended",
        ),
    };
    let (account, changed): (Account, Changed) = in_words(done)?;
    tracing::info!(
        "{} ({}) {what}; deployments that change within half a minute: {}",
        account.username,
        account.id,
        changed.len()
    );
    Ok(())
}

async fn list(
    context: &AdminContext,
    text: Option<String>,
    out: &mut (dyn Write + Send),
) -> Result<()> {
    let page = async |after| Ok(admin::accounts(context, after, PAGE, text.clone()).await?);
    table(page, out).await
}

/// Prints accounts, page by page.
async fn table(
    page: impl AsyncFn(i64) -> Result<(Vec<Account>, bool)>,
    out: &mut (dyn Write + Send),
) -> Result<()> {
    let mut after = 0;
    writeln!(out, "{:>8} {:<38} {:<24} {:<10} EMAIL", "NUMBER", "ID", "NAME", "STATE")?;
    loop {
        let (found, more) = page(after).await?;
        for account in &found {
            writeln!(
                out,
                "{:>8} {:<38} {:<24} {:<10} {}",
                account.registration_number,
                account.id.to_string(),
                account.username.as_str(),
                state(account),
                printable(account.email.as_str())
            )?;
        }
        match found.last() {
            Some(last) if more => after = last.registration_number,
            _ => return Ok(()),
        }
    }
}

fn state(account: &Account) -> &'static str {
    match (&account.suspended, account.is_admin) {
        (Some(_), _) => "suspended",
        (None, true) => "admin",
        (None, false) if account.email_verified_at.is_some() => "verified",
        (None, false) => "new",
    }
}

fn show(account: &Account, deployments: u32, out: &mut (dyn Write + Send)) -> Result<()> {
    writeln!(out, "id           {}", account.id)?;
    writeln!(out, "number       {}", account.registration_number)?;
    writeln!(out, "name         {}", account.username)?;
    writeln!(out, "email        {}", printable(account.email.as_str()))?;
    writeln!(out, "state        {}", state(account))?;
    if let Some(suspension) = &account.suspended {
        let reason = suspension.reason.as_deref().unwrap_or("no reason given");
        writeln!(out, "suspended    {:.0}, {}", suspension.since, printable(reason))?;
    }
    writeln!(out, "admin        {}", account.is_admin)?;
    writeln!(out, "verified     {}", account.email_verified_at.is_some())?;
    writeln!(out, "totp         {}", account.totp_enabled)?;
    writeln!(out, "deployments  {deployments}")?;
    writeln!(out, "made         {:.0}", account.created_at)?;
    Ok(())
}

/// `admin tier …`.
pub async fn tier(
    command: TierCommand,
    config: &Config,
    clock: &dyn Clock,
    out: &mut (dyn Write + Send),
) -> Result<()> {
    let context = admin_context(Store::open(&config.database())?, clock);
    let tiers: Vec<Tier> = match command {
        TierCommand::List => admin::tiers(&context).await?,
        TierCommand::Add { json } => {
            vec![in_words(admin::add_tier(&context, parse(&json)?).await)?]
        }
        TierCommand::Change { slug, json } => {
            vec![in_words(admin::change_tier(&context, &slug, parse(&json)?).await)?]
        }
        TierCommand::Allow { slug, account } => {
            let account = admin::allow_tier(&context, &slug, &account).await?;
            tracing::info!("{} ({}) may deploy on {slug}", account.username, account.id);
            return Ok(());
        }
        TierCommand::Deny { slug, account } => {
            let account = admin::deny_tier(&context, &slug, &account).await?;
            tracing::info!("{} ({}) may not deploy on {slug}", account.username, account.id);
            return Ok(());
        }
        TierCommand::Allowed { slug } => {
            let page = async |after| Ok(admin::tier_accounts(&context, &slug, after, PAGE).await?);
            return table(page, out).await;
        }
    };
    for tier in tiers {
        writeln!(out, "{}", serde_json::to_string(&TierRecord::from(&tier))?)?;
    }
    Ok(())
}

fn parse<T: DeserializeOwned>(json: &str) -> Result<T> {
    serde_json::from_str(json).context("the tier description is not valid; see docs/api-admin.md")
}

/// Names each invalid field.
fn in_words<T>(done: Result<T, AdminError>) -> Result<T> {
    done.map_err(|error| match &error {
        AdminError::Invalid(errors) => {
            let lines: Vec<String> = errors
                .iter()
                .map(|error| format!("{} {}", error.pointer.trim_start_matches('/'), error.detail))
                .collect();
            anyhow::anyhow!(lines.join("; "))
        }
        _ => error.into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::World;

    #[tokio::test]
    async fn administers_accounts_and_tiers_locally() {
        let world = World::new();
        let jwt = world.member("one").await;
        let run = async |command| {
            let mut out = Vec::new();
            let done = account(command, &world.state.config, &*world.clock, &mut out).await;
            done.map(|()| String::from_utf8(out).unwrap())
        };
        let one = || "one@example.com".to_owned();
        let listed = run(AccountCommand::List { text: Some("ONE".to_owned()) }).await.unwrap();
        assert!(listed.contains("one@example.com") && listed.contains("verified"), "{listed}");
        let none = run(AccountCommand::List { text: Some("two".to_owned()) }).await.unwrap();
        assert!(!none.contains("example.com"));
        let reason = Some("phishing".to_owned());
        run(AccountCommand::Suspend { account: one(), reason }).await.unwrap();
        assert_eq!(world.get("/api/auth/me", &jwt).await.refusal(), (403, "account_suspended"));
        let shown = run(AccountCommand::Show { account: one() }).await.unwrap();
        assert!(shown.contains("phishing"), "{shown}");
        run(AccountCommand::Resume { account: one() }).await.unwrap();
        assert_eq!(world.get("/api/auth/me", &jwt).await.status, 200);
        let refused = run(AccountCommand::Promote { account: one() }).await.unwrap_err();
        assert!(refused.to_string().contains("one-time codes"), "{refused}");
        assert!(run(AccountCommand::Show { account: "nobody".to_owned() }).await.is_err());

        let tiers = async |command| {
            let mut out = Vec::new();
            let done = tier(command, &world.state.config, &*world.clock, &mut out).await;
            done.map(|()| String::from_utf8(out).unwrap())
        };
        let json = r#"{"slug":"big","payment_method":"buddo_points","monthly_cost_points":900,
            "memory_limit_mb":2048,"cpu_limit_millicores":2000}"#;
        tiers(TierCommand::Add { json: json.to_owned() }).await.unwrap();
        let (slug, json) = ("big".to_owned(), r#"{"memory_limit_mb":1}"#.to_owned());
        let refused = tiers(TierCommand::Change { slug, json }).await.unwrap_err();
        assert!(refused.to_string().contains("memory_limit_mb must be"), "{refused}");
        assert!(tiers(TierCommand::List).await.unwrap().contains("\"big\""));
        let slug = || "bitcoin-pro".to_owned();
        tiers(TierCommand::Allow { slug: slug(), account: one() }).await.unwrap();
        let allowed = tiers(TierCommand::Allowed { slug: slug() }).await.unwrap();
        assert!(allowed.contains("one@example.com"), "{allowed}");
        tiers(TierCommand::Deny { slug: slug(), account: one() }).await.unwrap();
        let again = tiers(TierCommand::Deny { slug: slug(), account: one() }).await.unwrap_err();
        assert!(again.to_string().contains("not allowed to use it"), "{again}");
    }
}
