//! A registry that is busy, stalls or lies; `buddo_tests::registry` plays it before a real one.

use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use buddo_agent::adapters::podman::{Podman, PullLimits};
use buddo_agent::ports::{Containers as _, ContainersError};
use buddo_shared::api::deploy::Status;
use buddo_shared::model::id::HostId;
use buddo_shared::model::image::ImageReference;
use buddo_tests::api::request;
use buddo_tests::image::{Layer, publish};
use buddo_tests::product::{Options, PORT, Product, ZONE};
use buddo_tests::registry::{Mood, Moody};
use buddo_tests::world::{Lease, World};

const IMAGE: &str = "ghcr.io/demo/moody:latest";

async fn push(world: &World, version: &str) -> anyhow::Result<()> {
    // Different bytes each time, or Podman would already have the layer.
    let program = std::fs::read(world.binary("buddo-web"))?;
    let path = world.layout().path("tmp").join(version);
    std::fs::write(&path, [&program[..], version.as_bytes()].concat())?;
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    let layer = Layer::of_program(&path)?;
    publish(world, &layer, "demo/moody", "latest", &[("VERSION", version)]).await.map(drop)
}

/// A pull's answer is 200 before anything goes wrong; the error is in its stream.
#[tokio::test]
async fn fm_31_a_layer_digest_mismatch_fails_the_pull() -> anyhow::Result<()> {
    Lease::run(async |world| {
        let registry = Moody::before(world).await?;
        push(world, "v1").await?;
        registry.is(Mood::Lying);
        let podman = podman(world);
        let pulled = podman.pull(&ImageReference::parse(IMAGE)?, None, &|_| ()).await;
        let Err(ContainersError::Image(failure) | ContainersError::Registry(failure)) = pulled
        else {
            bail!("{pulled:?}")
        };
        ensure!(failure.cause.contains("Digest did not match"), "{failure:?}");
        registry.is(Mood::Good);
        podman.pull(&ImageReference::parse(IMAGE)?, None, &|_| ()).await.map(drop)?;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn fm_32_a_stalled_pull_fails_and_can_be_retried() -> anyhow::Result<()> {
    Lease::run(async |world| {
        let registry = Moody::before(world).await?;
        push(world, "v1").await?;
        registry.is(Mood::Stalling);
        let limits = PullLimits { no_progress: Duration::from_secs(2), ..PullLimits::default() };
        let podman = podman(world);
        let hasty = podman.clone().with_pull_limits(limits);
        let image = ImageReference::parse(IMAGE)?;
        let stalled =
            tokio::time::timeout(Duration::from_secs(30), hasty.pull(&image, None, &|_| ()))
                .await
                .context("it waits forever")?;
        let Err(ContainersError::Registry(failure)) = stalled else { bail!("{stalled:?}") };
        ensure!(failure.cause.contains("2 s"), "{failure:?}");
        registry.is(Mood::Good);
        podman.pull(&image, None, &|_| ()).await?;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn fm_32_the_old_revision_serves_while_the_registry_is_busy() -> anyhow::Result<()> {
    Lease::run(async |world| {
        let registry = Moody::before(world).await?;
        let product = Product::up(world, Options::default()).await?;
        push(world, "v1").await?;
        let api = product.operator("ada").await?;
        let made = api.create(&request("moody", IMAGE, PORT)).await?;
        api.reaches(&made.id, Status::Running, 1).await?;

        push(world, "v2").await?;
        registry.is(Mood::Busy);
        let restarted = api.act(&made.id, "restart").await?;
        let edge = product.edge()?;
        let host = format!("moody.{ZONE}");
        let version = async || {
            let answer = edge.get(&host, "/").await?;
            anyhow::Ok(answer.version().unwrap_or_default().to_owned())
        };
        buddo_tests::poll::until("the agent to say so", super::PATIENCE, async || {
            ensure!(version().await? == "v1");
            let explained = product.agent_command(&["explain", "moody"])?;
            ensure!(explained.contains("limit"), "{explained}");
            Ok(())
        })
        .await?;
        registry.is(Mood::Good);
        api.reaches(&made.id, Status::Running, restarted.revision).await?;
        ensure!(version().await? == "v2");
        Ok(())
    })
    .await
}

fn podman(world: &World) -> Podman {
    Podman::new(world.layout().path("run/podman.sock"), HostId::new(uuid::Uuid::nil()))
}
