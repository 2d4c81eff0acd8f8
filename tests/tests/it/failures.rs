//! Apps that cannot start: each ends as published, with cause and fix in `last_error`, and the
//! previous revision keeps serving.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use buddo_shared::api::deploy::Status;
use buddo_tests::api::request;
use buddo_tests::image::{Layer, publish};
use buddo_tests::poll;
use buddo_tests::product::{IMAGE, Options, PORT, Product, ZONE};
use buddo_tests::world::Lease;

#[tokio::test]
async fn a_failed_deploy_ends_stopped_with_its_cause() -> anyhow::Result<()> {
    Lease::run(async |world| {
        let product = Product::up(world, Options::default()).await?;
        product.publish_images(false).await?;
        let layer = Layer::of_program(&world.binary("buddo-web"))?;
        publish(world, &layer, "demo/quits", "v1", &[("EXIT_AT_START", "3")]).await?;
        publish(world, &layer, "demo/silent", "v1", &[("SILENT", "1")]).await?;
        let api = product.operator("ada").await?;

        let cases = [
            ("no-image", "harbor.buddo.xyz:4443/demo/web:v99", PORT, "v99"),
            ("wrong-port", IMAGE, 9999, "9999"),
            ("quits", "harbor.buddo.xyz:4443/demo/quits:v1", PORT, "3"),
            ("silent", "harbor.buddo.xyz:4443/demo/silent:v1", PORT, "8080"),
        ];
        let mut made = Vec::new();
        for (name, image, port, _) in cases {
            made.push(api.create(&request(name, image, port)).await?);
        }
        for (deployment, (name, _, _, word)) in made.iter().zip(cases) {
            let ended = api.fails(&deployment.id).await?;
            ensure!(ended.status == Status::Stopped, "{name}: {ended:?}");
            let error = ended.last_error.context("no last_error")?;
            ensure!(error.contains(word), "{name}: {error:?} does not name {word}");
            ensure!(error.lines().count() == 2, "{name}: cause and fix, one line each: {error:?}");
            let log = api.logs(&deployment.id).await?;
            let last = log.logs.last().context("no audit entry")?;
            ensure!(last.action == "deploy" && last.status == "failed", "{name}: {last:?}");
            ensure!(last.details.is_some(), "{name}: {last:?}");
        }
        poll::until("the failed containers to be gone", Duration::from_secs(30), async || {
            let left = product.containers()?;
            ensure!(left.is_empty(), "{left:?}");
            Ok(())
        })
        .await?;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_restart_with_a_broken_image_keeps_the_old_revision_serving() -> anyhow::Result<()> {
    Lease::run(async |world| {
        let product = Product::up(world, Options::default()).await?;
        let layer = Layer::of_program(&world.binary("buddo-web"))?;
        publish(world, &layer, "demo/moves", "latest", &[("VERSION", "good")]).await?;
        let api = product.operator("ada").await?;
        let image = "harbor.buddo.xyz:4443/demo/moves:latest";
        let made = api.create(&request("moves", image, PORT)).await?;
        let good = api.reaches(&made.id, Status::Running, 1).await?;

        publish(world, &layer, "demo/moves", "latest", &[("EXIT_AT_START", "7")]).await?;
        api.act(&made.id, "restart").await?;
        let ended = api.fails(&made.id).await?;
        ensure!(ended.status == Status::Running, "{ended:?}");
        ensure!(ended.image_digest == good.image_digest, "{ended:?}");
        let answer = product.edge()?.get(&format!("moves.{ZONE}"), "/").await?;
        ensure!(answer.text() == "hello good\n", "{answer:?}");

        // Once fixed, the next restart succeeds and clears the error.
        publish(world, &layer, "demo/moves", "latest", &[("VERSION", "better")]).await?;
        let restarted = api.act(&made.id, "restart").await?;
        let better = api.reaches(&made.id, Status::Running, restarted.revision).await?;
        ensure!(
            better.last_error.is_none() && better.image_digest != good.image_digest,
            "{better:?}"
        );
        let answer = product.edge()?.get(&format!("moves.{ZONE}"), "/").await?;
        ensure!(answer.text() == "hello better\n", "{answer:?}");
        Ok(())
    })
    .await
}
