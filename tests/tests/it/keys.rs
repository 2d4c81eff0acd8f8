//! API keys on the whole product: the command line makes one, a program deploys with it, another
//! team's key cannot access any of it, and a revoked one nothing at all.

use std::path::Path;
use std::process::{Command, Output};

use anyhow::{Context as _, ensure};
use buddo_shared::api::deploy::Status;
use buddo_shared::model::secret::Secret;
use buddo_tests::api::{Api, request};
use buddo_tests::product::{IMAGE, Options, PORT, Product};
use buddo_tests::world::Lease;
use reqwest::Method;
use serde_json::{Value, json};

const PASSWORD: &str = "a-strong-password-of-operators";

/// One operator's command line, with its own home directory.
struct Cli<'a> {
    product: &'a Product<'a>,
    home: tempfile::TempDir,
}

impl<'a> Cli<'a> {
    /// Registers an account and logs in to it.
    async fn log_in(product: &'a Product<'a>, name: &str) -> anyhow::Result<Self> {
        let email = format!("{name}@example.com");
        product.register(&email, name, PASSWORD).await?;
        let cli = Self { product, home: tempfile::tempdir()? };
        let variables = [("BUDDO_EMAIL", &*email), ("BUDDO_PASSWORD", PASSWORD)];
        good(&cli.run(&["login"], &variables)?)?;
        Ok(cli)
    }

    fn run(&self, arguments: &[&str], variables: &[(&str, &str)]) -> anyhow::Result<Output> {
        let mut command = Command::new(self.product.world.binary("buddo"));
        command
            .args(arguments)
            .env_clear()
            .env("HOME", self.home.path())
            .env("XDG_CONFIG_HOME", self.home.path().join("config"))
            .env("BUDDO_API", self.product.url())
            .env("BUDDO_CA", self.product.api_ca())
            .envs(variables.iter().copied())
            .stdin(std::process::Stdio::null());
        command.output().context("cannot run buddo")
    }

    /// The output of a command, which must succeed.
    fn says(&self, arguments: &[&str]) -> anyhow::Result<String> {
        good(&self.run(arguments, &[])?)
    }

    /// A key of a team, which is all that `buddo keys create` prints on standard output.
    fn key(&self, name: &str, team: &str) -> anyhow::Result<String> {
        let command = ["keys", "create", name, "--team", team];
        Ok(good(&self.run(&command, &[("BUDDO_PASSWORD", PASSWORD)])?)?.trim().to_owned())
    }
}

fn good(output: &Output) -> anyhow::Result<String> {
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let err = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "buddo failed: {said}{err}");
    Ok(said)
}

/// The status and code of a call with a key.
async fn answer(api: &Api, method: Method, path: &str) -> anyhow::Result<(u16, Value)> {
    let reply = api.call(method, path, None).await?;
    Ok((reply.status, reply.json["code"].clone()))
}

#[tokio::test]
async fn a_key_deploys_only_for_its_team_until_revoked() -> anyhow::Result<()> {
    Lease::run(async |world| story(&Product::up(world, Options::default()).await?).await).await
}

async fn story(product: &Product<'_>) -> anyhow::Result<()> {
    product.publish_images(false).await?;

    let owner = Cli::log_in(product, "owner").await?;
    owner.says(&["orgs", "create", "Acme"])?;
    for team in ["Web", "Shop"] {
        owner.says(&["teams", "create", "acme", team])?;
    }
    let listed = owner.says(&["teams", "list"])?;
    ensure!(listed.contains("@owner/default") && listed.contains("acme/web"), "{listed}");

    // Somebody else joins by mail, for the team that is to deploy.
    let dev = Cli::log_in(product, "dev").await?;
    let invite = ["orgs", "invite", "acme", "dev@example.com", "--team", "acme/web"];
    owner.says(&invite)?;
    let token = buddo_tests::poll::until(
        "the invitation",
        std::time::Duration::from_secs(30),
        async || invitation(&product.mail_dir(), "dev@example.com"),
    )
    .await?;
    dev.says(&["orgs", "accept", &token])?;

    let of_web = dev.key("ci", "acme/web")?;
    let of_shop = owner.key("ci", "acme/shop")?;
    let api =
        |key: &str| -> anyhow::Result<Api> { Ok(product.api()?.with_token(Secret::new(key))) };
    let (web, shop) = (api(&of_web)?, api(&of_shop)?);
    let made = web.create(&request("by-key", IMAGE, PORT)).await?;
    web.reaches(&made.id, Status::Running, 1).await?;
    let answered = product.edge()?.get(&format!("by-key.{}", product.zone()), "/").await?;
    ensure!(answered.status == 200, "{answered:?}");

    // Another team's key, even of the same organisation.
    let path = format!("/api/deploy/apps/{}", made.id);
    for (method, path) in [
        (Method::GET, path.clone()),
        (Method::GET, format!("{path}/logs")),
        (Method::POST, format!("{path}/stop")),
        (Method::DELETE, path.clone()),
    ] {
        let refused = answer(&shop, method, &path).await?;
        ensure!(refused == (403, json!("forbidden")), "{path}: {refused:?}");
    }
    ensure!(shop.list().await?.is_empty(), "another team's deployment is listed");

    // The command line accepts a key in place of a login, and the team's members see what it made.
    let stranger = Cli { product, home: tempfile::tempdir()? };
    let by_key = good(&stranger.run(&["status", "by-key"], &[("BUDDO_API_KEY", &of_web)])?)?;
    ensure!(by_key.contains("Status: running"), "{by_key}");
    let by_person = owner.says(&["list"])?;
    ensure!(by_person.contains("by-key"), "{by_person}");
    let logs = web.logs(&made.id).await?;
    let details = logs.logs.first().and_then(|entry| entry.details.clone()).unwrap_or_default();
    ensure!(details["api_key"].is_string(), "the log names no key: {details}");

    dev.says(&["keys", "revoke", "ci", "--team", "acme/web"])?;
    let refused = answer(&web, Method::GET, &path).await?;
    ensure!(refused == (401, json!("invalid_token")), "{refused:?}");
    // The app belongs to the team: it outlives the key, and its maker's departure.
    dev.says(&["orgs", "leave", "acme"])?;
    ensure!(owner.says(&["status", "by-key"])?.contains("Status: running"));
    Ok(())
}

/// The token of the newest mail to an address, once it is an invitation's.
fn invitation(folder: &Path, address: &str) -> anyhow::Result<String> {
    let token = buddo_tests::mail::verification_token(folder, address)?;
    ensure!(token.starts_with("buddo_in_"), "the newest mail is another one");
    Ok(token)
}
