//! The agent down for long: apps keep serving without it, and it catches up when it is back.

use std::time::Duration;

use anyhow::ensure;
use buddo_shared::api::deploy::Status;
use buddo_tests::api::request;
use buddo_tests::load::{Load, Mix, Plan};
use buddo_tests::poll;
use buddo_tests::product::{IMAGE, Options, PORT, Product, ZONE};
use buddo_tests::trials::absence::kill_caddy;
use buddo_tests::trials::containers;
use buddo_tests::world::Lease;
use nix::sys::signal::Signal;

const PATIENCE: Duration = Duration::from_secs(30);

/// An hour would add nothing to these seconds: requests, a container that dies, Caddy and
/// Podman's service restarted, new operator requests.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn apps_serve_without_the_agent_and_it_catches_up() -> anyhow::Result<()> {
    Lease::run(async |world| {
        let product = Product::up(world, Options::default()).await?;
        product.publish_images(false).await?;
        let api = product.operator("ada").await?;
        let edge = product.edge()?;
        let host = |name: &str| format!("{name}.{ZONE}");
        let steady = api.create(&request("steady", IMAGE, PORT)).await?;
        let mortal = api.create(&request("mortal", IMAGE, PORT)).await?;
        for made in [&steady, &mortal] {
            api.reaches(&made.id, Status::Running, 1).await?;
        }

        world.stop("agent", Signal::SIGKILL).await?;
        let plan = Plan { rate: 100, workers: 10, renew_after: 10, mix: Mix::Both };
        let load = Load::start(&edge, &host("steady"), plan);
        let absence = kill_caddy(world)?.await?;
        world.kill_podman()?;

        // What dies stays dead: nobody else starts containers. Its visitors get an error page.
        let dead = poll::until("Podman's service", PATIENCE, async || {
            containers::serving(&product, &mortal.id).await
        });
        let dead = dead.await?.name;
        containers::kill(world, &dead).await?;
        let answer = edge.get(&host("mortal"), "/").await?;
        ensure!(answer.status == 502 && answer.text().contains("Not answering"), "{answer:?}");
        let found = containers::all(world).await?;
        ensure!(
            found.iter().any(|container| container.name == dead && container.state == "exited"),
            "{found:?}"
        );

        // Requests are accepted and wait.
        let late = api.create(&request("late", IMAGE, PORT)).await?;
        let renewed = api.act(&steady.id, "restart").await?;
        ensure!(api.deployment(&late.id).await?.status == Status::Pending);

        product.keep_agent().await?;
        for (id, revision) in [(&steady.id, renewed.revision), (&mortal.id, 1), (&late.id, 1)] {
            api.reaches(id, Status::Running, revision).await?;
        }
        // That it went down is reported, even though it answers again.
        let told = poll::until("the restart to be reported", PATIENCE, async || {
            let restarts = api.deployment(&mortal.id).await?.restarts;
            ensure!(restarts > 0, "none is reported");
            Ok(restarts)
        });
        told.await?;
        for name in ["steady", "mortal", "late"] {
            let answer = edge.get(&host(name), "/").await?;
            ensure!(answer.status == 200, "{name}: {answer:?}");
        }
        load.finish().await.without_failure_but(&[absence])?;
        Ok(())
    })
    .await
}
