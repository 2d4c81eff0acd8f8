//! From a request to the first answer, side by side with raw Podman in one run.

use std::time::{Duration, Instant};

use anyhow::ensure;
use buddo_shared::api::deploy::Status;

use super::{Sizes, sheet};
use crate::api::{Api, request};
use crate::edge::Edge;
use crate::poll;
use crate::product::{IMAGE, Options, PORT, Product, ZONE};
use crate::raw_podman::{first, start};
use crate::world::Lease;

const PATIENCE: Duration = Duration::from_mins(1);

pub(super) async fn measure(sizes: Sizes) -> anyhow::Result<()> {
    let world = Lease::new().await?;
    let product = Product::up(&world, Options::default()).await?;
    product.publish_images(false).await?;
    let (api, edge) = (product.operator("bench").await?, product.edge()?);
    // The first of each pulls the image and makes the certificate; it is not counted.
    let pulled = world.exec(["podman", "pull", "--quiet", IMAGE])?;
    ensure!(pulled.status.success(), "the image cannot be pulled");
    let (mut raw, mut ours) = (Vec::new(), Vec::new());
    for round in 0..=sizes.rounds {
        let (first, second) = (start(&world, round).await?, deploy(&product, &api, &edge).await?);
        if round > 0 {
            raw.push(first);
            ours.push(second);
        }
    }
    sheet::durations("raw REST create + start → first 200", &mut raw, "");
    let bar = "2 × raw at p50, p99 500 ms";
    sheet::durations("API accept → first 200 over verified HTTPS", &mut ours, bar);
    Ok(())
}

/// The whole chain: from the API's 201 to the app's first answer at the edge.
async fn deploy(product: &Product<'_>, api: &Api, edge: &Edge) -> anyhow::Result<Duration> {
    let made = api.create(&request("bench", IMAGE, PORT)).await?;
    let began = Instant::now();
    let host = format!("bench.{ZONE}");
    first(async || {
        let answer = edge.get(&host, "/").await?;
        ensure!(answer.status == 200, "status {}", answer.status);
        Ok(())
    })
    .await?;
    let took = began.elapsed();
    api.reaches(&made.id, Status::Running, 1).await?;
    api.destroy(&made.id).await?;
    poll::until("the container to be gone", PATIENCE, async || {
        ensure!(product.containers()?.is_empty(), "it is there");
        Ok(())
    })
    .await?;
    Ok(took)
}
