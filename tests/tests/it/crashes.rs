//! Processes killed at bad moments: what was promised happens, once, and apps keep serving.

use std::time::Duration;

use anyhow::ensure;
use buddo_shared::api::deploy::Status;
use buddo_tests::api::request;
use buddo_tests::product::{IMAGE, Options, PORT, Product, ZONE};
use buddo_tests::world::Lease;
use nix::sys::signal::Signal;

/// Fault 1: at any step of a deploy.
#[tokio::test]
async fn fm_01_an_agent_killed_in_mid_deploy_converges_to_one_container() -> anyhow::Result<()> {
    Lease::run(async |world| {
        let product = Product::up(world, Options::default()).await?;
        product.publish_images(false).await?;
        let api = product.operator("ada").await?;
        for (turn, wait_ms) in [0, 30, 80, 150, 300].into_iter().enumerate() {
            let name = format!("killed-{turn}");
            let starts = world.service("agent")?.starts;
            let made = api.create(&request(&name, IMAGE, PORT)).await?;
            // Not a wait for a condition: the point is to hit a different step each time.
            tokio::time::sleep(Duration::from_millis(wait_ms)).await;
            world.signal("agent", Signal::SIGKILL)?;
            api.reaches(&made.id, Status::Running, 1).await?;
            let containers = product.containers()?;
            ensure!(containers.len() == turn + 1, "{containers:?}");
            let answer = product.edge()?.get(&format!("{name}.{ZONE}"), "/").await?;
            ensure!(answer.status == 200, "{answer:?}");
            // All of that may have been true before the agent was killed: the next round must not
            // find it still dead.
            product.agent_is_back(starts).await?;
        }
        // What runs is not restarted by an agent that comes back.
        let before = started(world)?;
        let starts = world.service("agent")?.starts;
        world.signal("agent", Signal::SIGKILL)?;
        product.agent_is_back(starts).await?;
        ensure!(started(world)? == before);
        Ok(())
    })
    .await
}

fn started(world: &buddo_tests::world::World) -> anyhow::Result<String> {
    let format = "--format={{.Names}} {{.Pid}} {{.StartedAt}}";
    Ok(String::from_utf8(world.exec(["podman", "ps", format])?.stdout)?)
}

#[tokio::test]
async fn a_coordinator_killed_after_201_still_deploys() -> anyhow::Result<()> {
    Lease::run(async |world| {
        let product = Product::up(world, Options::default()).await?;
        product.publish_images(false).await?;
        let api = product.operator("ada").await?;
        let made = api.create(&request("promised", IMAGE, PORT)).await?;
        world.signal("coordinator", Signal::SIGKILL)?;
        let live = api.reaches(&made.id, Status::Running, 1).await?;
        ensure!(live.revision == 1, "{live:?}");
        ensure!(product.containers()?.len() == 1);
        Ok(())
    })
    .await
}

#[tokio::test]
async fn apps_serve_without_coordinator_and_agent() -> anyhow::Result<()> {
    Lease::run(async |world| {
        let product = Product::up(world, Options::default()).await?;
        product.publish_images(false).await?;
        let api = product.operator("ada").await?;
        let made = api.create(&request("alone", IMAGE, PORT)).await?;
        api.reaches(&made.id, Status::Running, 1).await?;
        world.stop("coordinator", Signal::SIGKILL).await?;
        world.stop("agent", Signal::SIGKILL).await?;
        let edge = product.edge()?;
        let host = format!("alone.{ZONE}");
        for _ in 0..20 {
            ensure!(edge.get(&host, "/").await?.text() == "hello v1\n");
        }
        // Even with the resolver restarting and Podman's service gone.
        world.signal("resolver", Signal::SIGKILL)?;
        world.stop("podman", Signal::SIGKILL).await?;
        for _ in 0..20 {
            ensure!(edge.get(&host, "/").await?.text() == "hello v1\n");
        }
        // And it is all found again, unrestarted.
        let before = started(world)?;
        product.keep_coordinator().await?;
        product.keep_agent().await?;
        ensure!(api.deployment(&made.id).await?.status == Status::Running);
        ensure!(started(world)? == before);
        Ok(())
    })
    .await
}
