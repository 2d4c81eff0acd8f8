//! A deploy that turns out bad after going live is rolled back by its host, on the real parts; and
//! its operator can see what happened and why.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use buddo_shared::api::deploy::{Deployment, Status};
use buddo_tests::api::{Api, request};
use buddo_tests::image::{Layer, publish};
use buddo_tests::poll;
use buddo_tests::product::{Options, PORT, Product, ZONE};
use buddo_tests::trials::containers::{self, Found};
use buddo_tests::world::{Lease, World};
use nix::sys::signal::Signal;

const IMAGE: &str = "harbor.buddo.xyz:4443/demo/watched:latest";
const APP: &str = "watched";

/// Far more than an auto rollback takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(90);

/// One tag, with different bytes from now on.
async fn publish_as(world: &World, version: &str, more: &[(&str, &str)]) -> anyhow::Result<()> {
    let layer = Layer::of_program(&world.binary("buddo-web"))?;
    let env = [&[("VERSION", version)], more].concat();
    publish(world, &layer, "demo/watched", "latest", &env).await?;
    Ok(())
}

/// A good first revision serves.
async fn good(product: &Product<'_>, api: &Api) -> anyhow::Result<Deployment> {
    publish_as(product.world, "good", &[]).await?;
    let made = api.create(&request(APP, IMAGE, PORT)).await?;
    api.reaches(&made.id, Status::Running, 1).await
}

/// Waits until visitors are answered by `version`.
async fn answers(product: &Product<'_>, version: &str) -> anyhow::Result<()> {
    let edge = product.edge()?;
    poll::until(&format!("{version} to answer"), PATIENCE, async || {
        let answer = edge.get(&format!("{APP}.{ZONE}"), "/").await?;
        ensure!(answer.version() == Some(version), "{answer:?}");
        Ok(())
    })
    .await
}

/// Waits until the host has only the first revision's container left, and it serves.
async fn only_the_first(product: &Product<'_>, id: &str) -> anyhow::Result<Found> {
    poll::until("the first revision alone", PATIENCE, async || {
        let serving = containers::serving(product, id).await?;
        let all = containers::all(product.world).await?;
        let ours: Vec<_> = all.iter().filter(|found| found.deployment.is_some()).collect();
        ensure!(serving.revision.as_deref() == Some("1") && ours == [&serving], "{all:?}");
        Ok(serving)
    })
    .await
}

/// Waits until the coordinator knows, and checks what it shows: the deployment, its audit log and
/// its revisions. Returns what happened, in words.
async fn is_told(product: &Product<'_>, api: &Api, id: &str) -> anyhow::Result<String> {
    let shown = poll::until("the coordinator to know", PATIENCE, async || {
        let shown = api.deployment(id).await?;
        let known = shown.revision == 1 && shown.status == Status::Running;
        ensure!(known && shown.health_status.as_deref() == Some("healthy"), "{shown:?}");
        Ok(shown)
    })
    .await?;
    let words = shown.last_error.context("it does not say what happened")?;
    let (cause, fix) = words.split_once('\n').context("it does not say what to do")?;
    ensure!(cause.ends_with("; rolled back to revision 1") && !fix.trim().is_empty(), "{words}");

    let logs = api.logs(id).await?.logs;
    let entries: Vec<_> = logs.iter().filter(|entry| entry.action == "rollback").collect();
    let [entry] = entries.as_slice() else { anyhow::bail!("not one entry: {logs:?}") };
    let details = entry.details.as_ref().context("no details")?;
    ensure!(entry.initiated_by.is_none() && entry.status == "completed", "{entry:?}");
    ensure!(details["by"] == "guard" && details["from"] == 2 && details["to"] == 1, "{details}");
    ensure!(details["cause"] == cause, "{details}: {cause}");

    let revisions = api.revisions(id).await?.revisions;
    let [second, first] = revisions.as_slice() else { anyhow::bail!("{revisions:?}") };
    ensure!(first.serving && first.current && !second.serving, "{revisions:?}");
    ensure!(second.last_error.as_ref() == Some(&words), "{second:?}");

    // The coordinator is informed of the decision, which the host may still be carrying out.
    poll::until("the host to be done", PATIENCE, async || {
        let explained = product.agent_command(&["explain", APP])?;
        ensure!(explained.contains(&format!("{APP} is live")), "{explained}");
        Ok(())
    })
    .await?;
    Ok(words)
}

/// `buddo status`, as its operator reads it.
fn buddo_status(product: &Product<'_>) -> anyhow::Result<String> {
    let home = tempfile::tempdir()?;
    let buddo = |arguments: &[&str]| {
        let output = Command::new(product.world.binary("buddo"))
            .args(arguments)
            .env_clear()
            .env("HOME", home.path())
            .env("BUDDO_API", product.url())
            .env("BUDDO_CA", product.api_ca())
            .env("BUDDO_PASSWORD", "a-strong-password-of-ada")
            .stdin(std::process::Stdio::null())
            .output()?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(output.status.success(), "buddo {arguments:?} failed: {said}");
        anyhow::Ok(String::from_utf8(output.stdout)? + &said)
    };
    buddo(&["login", "--email", "ada@example.com"])?;
    buddo(&["status", APP])
}

/// When its container was started last, according to Podman.
fn started(world: &World, name: &str) -> anyhow::Result<String> {
    let argv = ["podman", "inspect", "--format={{.Id}} {{.State.StartedAt}}", name];
    let output = world.exec(argv)?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?)
}

/// The generation of the document in force on the host.
fn document(product: &Product<'_>) -> anyhow::Result<String> {
    let status = product.status()?;
    let (_, rest) = status.split_once(", document ").context("no document")?;
    Ok(rest.split_whitespace().next().unwrap_or_default().to_owned())
}

#[tokio::test]
async fn a_deploy_that_crashes_after_going_live_is_rolled_back() -> anyhow::Result<()> {
    Lease::run(async |world| {
        let product = Product::up(world, Options::default()).await?;
        let api = product.operator("ada").await?;
        let id = good(&product, &api).await?.id;
        publish_as(world, "bad", &[("CRASH_AFTER_MS", "2500")]).await?;
        api.act(&id, "restart").await?;
        answers(&product, "bad").await?;
        let judged = document(&product)?;

        answers(&product, "good").await?;
        let serving = only_the_first(&product, &id).await?;
        let since = started(world, &serving.name)?;
        let words = is_told(&product, &api, &id).await?;
        ensure!(words.contains("ended 3 times") && words.contains("code 3"), "{words}");
        let status = buddo_status(&product)?;
        for line in words.lines() {
            ensure!(status.contains(line.trim()), "{line:?} is not in {status}");
        }

        // The next document names what serves: its container is adopted as it is.
        poll::until("the next document", PATIENCE, async || {
            let document = document(&product)?;
            ensure!(document != judged, "still {document}");
            ensure!(product.status()?.contains("live"), "{}", product.status()?);
            Ok(())
        })
        .await?;
        // And so does an agent restarted with it.
        world.stop("agent", Signal::SIGKILL).await?;
        product.keep_agent().await?;
        poll::until("the agent's snapshot", PATIENCE, async || product.status()).await?;
        ensure!(only_the_first(&product, &id).await?.name == serving.name);
        ensure!(started(world, &serving.name)? == since, "it was started again");
        Ok(())
    })
    .await
}

/// Its probes succeed all the while: only its visitors see what is wrong.
#[tokio::test]
async fn a_deploy_whose_requests_fail_is_rolled_back() -> anyhow::Result<()> {
    Lease::run(async |world| {
        let product = Product::up(world, Options::default()).await?;
        let api = product.operator("ada").await?;
        let id = good(&product, &api).await?.id;
        publish_as(world, "bad", &[("ERRORS", "1")]).await?;
        api.act(&id, "restart").await?;
        answers(&product, "bad").await?;

        let (edge, host) = (product.edge()?, format!("{APP}.{ZONE}"));
        poll::until("visitors to be answered well again", PATIENCE, async || {
            let answer = edge.get(&host, "/work").await?;
            ensure!(answer.status == 200, "{answer:?}");
            Ok(())
        })
        .await?;
        only_the_first(&product, &id).await?;
        let words = is_told(&product, &api, &id).await?;
        ensure!(words.contains("server error (5xx)"), "{words}");
        Ok(())
    })
    .await
}

/// The host decides and acts alone; the coordinator learns of it when it is back.
#[tokio::test]
async fn a_bad_deploy_is_rolled_back_without_the_coordinator() -> anyhow::Result<()> {
    Lease::run(async |world| {
        let product = Product::up(world, Options::default()).await?;
        let api = product.operator("ada").await?;
        let id = good(&product, &api).await?.id;
        publish_as(world, "bad", &[("CRASH_AFTER_MS", "4000")]).await?;
        api.act(&id, "restart").await?;
        answers(&product, "bad").await?;
        world.stop("coordinator", Signal::SIGKILL).await?;

        answers(&product, "good").await?;
        let serving = only_the_first(&product, &id).await?;
        let since = started(world, &serving.name)?;
        ensure!(api.deployment(&id).await.is_err(), "the coordinator was there all along");

        product.keep_coordinator().await?;
        let words = is_told(&product, &api, &id).await?;
        ensure!(words.contains("ended 3 times"), "{words}");
        let now = only_the_first(&product, &id).await?;
        ensure!(now == serving && started(world, &serving.name)? == since, "{now:?}");
        Ok(())
    })
    .await
}
