//! Backups, the master key and suspended accounts of a real coordinator, while real apps serve.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use buddo_shared::api::deploy::{CreateDeployment, Deployment, Status};
use buddo_shared::model::secret::Secret;
use buddo_tests::api::{Api, request};
use buddo_tests::poll;
use buddo_tests::product::{IMAGE, Options, PORT, Product, ZONE};
use buddo_tests::world::Lease;
use nix::sys::signal::Signal;

const PATIENCE: Duration = Duration::from_mins(1);
const EMAIL: &str = "ada@example.com";

async fn deploy(api: &Api, name: &str) -> anyhow::Result<Deployment> {
    let env = [("KEY".to_owned(), Secret::new("a-value"))].into_iter().collect();
    let request = CreateDeployment { env_vars: Some(env), ..request(name, IMAGE, PORT) };
    let made = api.create(&request).await?;
    api.reaches(&made.id, Status::Running, 1).await
}

async fn serves(product: &Product<'_>, name: &str) -> anyhow::Result<()> {
    let answer = product.edge()?.get(&format!("{name}.{ZONE}"), "/").await?;
    ensure!(answer.status == 200, "{answer:?}");
    Ok(())
}

/// The head of the audit chain, verified.
fn verified(product: &Product<'_>, expected: &[&str]) -> anyhow::Result<String> {
    let mut command = vec!["audit", "verify"];
    for head in expected {
        command.extend(["--expect", head]);
    }
    Ok(product.coordinator_command(&command)?.trim().to_owned())
}

#[tokio::test]
async fn fm_20_a_live_backup_is_restored_and_hosts_follow() -> anyhow::Result<()> {
    Lease::run(async |world| {
        let product = Product::up(world, Options::default()).await?;
        product.publish_images(false).await?;
        let api = product.operator("ada").await?;
        let kept = deploy(&api, "kept").await?;
        let backup = world.layout().path("coordinator/backup.db");
        let backup = backup.to_str().context("the path is not UTF-8")?;
        let head = product.coordinator_command(&["backup", backup])?;
        let head = head.trim();
        deploy(&api, "forgotten").await?;
        api.act(&kept.id, "restart").await?;
        api.reaches(&kept.id, Status::Running, 2).await?;
        let later = verified(&product, &[head])?;

        let refused = product.coordinator_command(&["restore", backup, "--force"]);
        ensure!(refused.is_err_and(|error| error.to_string().contains("stop it first")));
        serves(&product, "kept").await?;
        world.stop("coordinator", Signal::SIGTERM).await?;
        let refused = product.coordinator_command(&["restore", backup]);
        ensure!(refused.is_err_and(|error| error.to_string().contains("--force")));
        product.coordinator_command(&["restore", backup, "--force"])?;
        serves(&product, "kept").await?;
        product.keep_coordinator().await?;

        let reply = api.call(reqwest::Method::GET, "/api/deploy/apps", None).await?;
        ensure!(reply.status == 401, "a login from before is still valid: {reply:?}");
        let api = product.api()?.log_in(EMAIL, "a-strong-password-of-ada").await?;
        api.reaches(&kept.id, Status::Running, 1).await?;
        poll::until("the app that the backup does not know to be gone", PATIENCE, async || {
            let containers = product.containers()?;
            ensure!(containers.len() == 1, "{containers:?}");
            Ok(())
        })
        .await?;
        serves(&product, "kept").await?;
        deploy(&api, "after").await?;
        verified(&product, &[head])?;
        ensure!(verified(&product, &[&later]).is_err(), "what came after the backup is gone");

        // The coordinator keeps serving while its master key is rotated.
        product.coordinator_command(&["master-key", "rotate"])?;
        let restarted = api.act(&kept.id, "restart").await?;
        api.reaches(&kept.id, Status::Running, restarted.revision).await?;
        deploy(&api, "rotated").await?;
        verified(&product, &[head]).map(drop)
    })
    .await
}

#[tokio::test]
async fn suspending_an_account_stops_its_apps_until_it_is_resumed() -> anyhow::Result<()> {
    Lease::run(async |world| {
        let product = Product::up(world, Options::default()).await?;
        product.publish_images(false).await?;
        let api = product.operator("ada").await?;
        let app = deploy(&api, "parked").await?;
        product.operator("eve").await?;
        let account = |verb| product.coordinator_command(&["admin", "account", verb, EMAIL]);
        account("suspend")?;
        let page = format!("parked.{ZONE}");
        poll::until("the page of a suspended app", PATIENCE, async || {
            let answer = product.edge()?.get(&page, "/").await?;
            ensure!(answer.status == 503 && answer.text().contains("suspended"), "{answer:?}");
            Ok(())
        })
        .await?;
        let reply = api.call(reqwest::Method::GET, "/api/deploy/apps", None).await?;
        ensure!(reply.status == 403, "{reply:?}");
        let login = product.api()?.log_in(EMAIL, "a-strong-password-of-ada").await;
        ensure!(login.is_err(), "a suspended account logs in");
        account("resume")?;
        poll::until("the app again", PATIENCE, async || serves(&product, "parked").await).await?;
        api.reaches(&app.id, Status::Running, 1).await?;
        verified(&product, &[]).map(drop)
    })
    .await
}
