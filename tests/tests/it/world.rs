//! The world itself: it starts, restarts what dies, runs containers, and leaves no trace.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use buddo_tests::image::{Layer, publish};
use buddo_tests::poll;
use buddo_tests::world::{Lease, World};
use nix::sys::signal::Signal;

#[tokio::test]
async fn a_killed_service_restarts_and_the_world_cleans_up() -> anyhow::Result<()> {
    let world = Lease::new().await?;
    let number = world.layout().number();
    let dir = world.layout().dir();
    world.signal("registry", Signal::SIGKILL)?;
    poll::until("the registry's second start", Duration::from_secs(10), async || {
        let service = world.service("registry")?;
        ensure!(service.starts == 2 && service.pid.is_some(), "{service:?}");
        Ok(())
    })
    .await?;
    world.stop("registry", Signal::SIGKILL).await?;
    ensure!(world.service("registry").is_err(), "a stopped service is kept no more");
    drop(world);
    ensure!(!dir.exists(), "{} is left", dir.display());
    ensure!(World::attach(number).is_err(), "the supervisor is left");
    Ok(())
}

#[tokio::test]
async fn a_published_image_can_be_pulled_and_serves() -> anyhow::Result<()> {
    let world = Lease::new().await?;
    let layer = Layer::of_program(&world.binary("buddo-web"))?;
    publish(&world, &layer, "demo/web", "v7", &[("VERSION", "v7")]).await?;
    let address = std::net::Ipv4Addr::new(127, 64 + world.layout().number(), 9, 9);
    let output = world.exec([
        "podman",
        "run",
        "--detach",
        "--pull=always",
        &format!("--publish={address}:8000:8080"),
        "harbor.buddo.xyz:4443/demo/web:v7",
    ])?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "podman run failed: {said}");
    let body = poll::until("the app's answer", Duration::from_secs(20), async || {
        let response = reqwest_plain()?.get(format!("http://{address}:8000/")).send().await?;
        response.text().await.context("no text")
    })
    .await?;
    ensure!(body == "hello v7\n", "{body:?}");
    Ok(())
}

fn reqwest_plain() -> anyhow::Result<reqwest::Client> {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    Ok(reqwest::Client::builder().timeout(Duration::from_secs(5)).build()?)
}
