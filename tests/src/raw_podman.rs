//! Podman by its own API, as directly as possible: the baseline for the product's figures.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use http::Method;
use serde_json::{Value, json};

use crate::product::{IMAGE, PORT};
use crate::unix_http;
use crate::world::World;

const BASE: &str = "/v4.0.0/libpod/containers";
/// Between two tries of a first request.
const PAUSE: Duration = Duration::from_millis(2);
const PATIENCE: Duration = Duration::from_mins(1);

/// From a container's create call until its app first answers. The container is removed afterwards.
pub(crate) async fn start(world: &World, round: u32) -> anyhow::Result<Duration> {
    let name = format!("raw-{round}");
    let address = Ipv4Addr::new(127, 64 + world.layout().number(), 200, 1);
    let create = json!({
        "name": name,
        "image": IMAGE,
        "portmappings": [
            { "host_ip": address, "host_port": 8000, "container_port": PORT, "protocol": "tcp" }
        ],
    });
    let began = Instant::now();
    call(world, Method::POST, "/create", Some(create)).await?;
    call(world, Method::POST, &format!("/{name}/start"), None).await?;
    let client = reqwest::Client::builder().pool_max_idle_per_host(0).build()?;
    first(async || {
        let response = client.get(format!("http://{address}:8000/")).send().await?;
        ensure!(response.status() == 200, "status {}", response.status());
        Ok(())
    })
    .await?;
    let took = began.elapsed();
    call(world, Method::DELETE, &format!("/{name}?force=true&timeout=0"), None).await?;
    Ok(took)
}

/// How long one list of all containers takes.
pub(crate) async fn list(world: &World) -> anyhow::Result<Duration> {
    let began = Instant::now();
    call(world, Method::GET, "/json?all=true", None).await?;
    Ok(began.elapsed())
}

async fn call(
    world: &World,
    method: Method,
    path: &str,
    body: Option<Value>,
) -> anyhow::Result<Bytes> {
    let socket = world.layout().path("run/podman.sock");
    let (status, answer) =
        unix_http::request(&socket, method, &format!("{BASE}{path}"), body).await?;
    let said = String::from_utf8_lossy(&answer);
    ensure!(status < 300, "{path}: {status} {said}");
    Ok(answer)
}

/// Tries until it succeeds.
pub(crate) async fn first(
    mut attempt: impl AsyncFnMut() -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let end = Instant::now() + PATIENCE;
    loop {
        match attempt().await {
            Ok(()) => return Ok(()),
            Err(error) if Instant::now() >= end => return Err(error).context("never answered"),
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
    }
}
