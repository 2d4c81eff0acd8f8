//! From a wish to the first answer, side by side with raw Podman in one run.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use buddo_shared::api::deploy::Status;
use http::Method;
use serde_json::json;

use super::{Sizes, sheet};
use crate::api::{Api, request};
use crate::edge::Edge;
use crate::product::{IMAGE, Options, PORT, Product, ZONE};
use crate::world::{Lease, World};
use crate::{poll, unix_http};

/// Between two tries of a first request.
const PAUSE: Duration = Duration::from_millis(2);
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
        let (first, second) =
            (raw_start(&world, round).await?, deploy(&product, &api, &edge).await?);
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

/// Podman's own API, as directly as can be: create, start, and the first answer of the app.
async fn raw_start(world: &World, round: u32) -> anyhow::Result<Duration> {
    let socket = world.layout().path("run/podman.sock");
    let name = format!("raw-{round}");
    let address = Ipv4Addr::new(127, 64 + world.layout().number(), 200, 1);
    let create = json!({
        "name": name,
        "image": IMAGE,
        "portmappings": [
            { "host_ip": address, "host_port": 8000, "container_port": PORT, "protocol": "tcp" }
        ],
    });
    let base = "/v4.0.0/libpod/containers";
    let call = async |method: Method, path: String, body: Option<serde_json::Value>| {
        let (status, answer) = unix_http::request(&socket, method, &path, body).await?;
        let said = String::from_utf8_lossy(&answer);
        ensure!(status < 300, "{path}: {status} {said}");
        anyhow::Ok(())
    };
    let began = Instant::now();
    call(Method::POST, format!("{base}/create"), Some(create)).await?;
    call(Method::POST, format!("{base}/{name}/start"), None).await?;
    let client = reqwest::Client::builder().pool_max_idle_per_host(0).build()?;
    first(async || {
        let response = client.get(format!("http://{address}:8000/")).send().await?;
        ensure!(response.status() == 200, "status {}", response.status());
        Ok(())
    })
    .await?;
    let took = began.elapsed();
    call(Method::DELETE, format!("{base}/{name}?force=true&timeout=0"), None).await?;
    Ok(took)
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

async fn first(mut attempt: impl AsyncFnMut() -> anyhow::Result<()>) -> anyhow::Result<()> {
    let end = Instant::now() + PATIENCE;
    loop {
        match attempt().await {
            Ok(()) => return Ok(()),
            Err(error) if Instant::now() >= end => return Err(error).context("never answered"),
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
    }
}
