//! `make bench`: what the product costs, side by side with raw Podman in one run.

use std::net::Ipv4Addr;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use buddo_shared::api::deploy::Status;
use buddo_tests::api::{Api, request};
use buddo_tests::edge::Edge;
use buddo_tests::poll;
use buddo_tests::product::{IMAGE, Options, PORT, Product, ZONE};
use buddo_tests::unix_http;
use buddo_tests::world::{Lease, World};
use clap::Parser;
use http::Method;
use serde_json::json;

/// Between two tries of a first request.
const PAUSE: Duration = Duration::from_millis(2);
const PATIENCE: Duration = Duration::from_mins(1);

/// What the product costs, side by side with raw Podman.
#[derive(Debug, Parser)]
#[command(version)]
struct Cli {
    /// Rounds of each latency.
    #[arg(long, default_value_t = 20)]
    rounds: u32,
    /// Apps that are up in the second idle measurement.
    #[arg(long, default_value_t = 50)]
    apps: u32,
    /// Seconds that each idle measurement takes.
    #[arg(long, default_value_t = 30)]
    idle_seconds: u64,
}

fn main() -> anyhow::Result<ExitCode> {
    let cli = Cli::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(bench(&cli))?;
    Ok(ExitCode::SUCCESS)
}

#[expect(clippy::print_stdout, reason = "the command's result")]
async fn bench(cli: &Cli) -> anyhow::Result<()> {
    let world = Lease::new().await?;
    let product = Product::up(&world, Options::default()).await?;
    product.publish_images(false).await?;
    let api = product.operator("bench").await?;
    let edge = product.edge()?;

    println!("{:46} {:>9} {:>9} {:>9}", "from → to", "p50", "p95", "worst");
    // The first of each pulls the image and makes the certificate; it is not counted.
    let pulled = world.exec(["podman", "pull", "--quiet", IMAGE])?;
    ensure!(pulled.status.success(), "the image cannot be pulled");
    let (mut raw, mut ours) = (Vec::new(), Vec::new());
    for round in 0..=cli.rounds {
        let (first, second) =
            (raw_start(&world, round).await?, deploy(&product, &api, &edge).await?);
        if round > 0 {
            raw.push(first);
            ours.push(second);
        }
    }
    line("raw REST create + start → first 200", &mut raw);
    line("API accept → first 200 over verified HTTPS", &mut ours);

    println!();
    println!("{:46} {:>9} {:>11}", "idle", "RSS MiB", "CPU % core");
    idle(&world, "with 0 apps", cli.idle_seconds).await?;
    let mut made = Vec::new();
    for number in 0..cli.apps {
        made.push(api.create(&request(&format!("idle-{number}"), IMAGE, PORT)).await?);
    }
    for deployment in &made {
        api.reaches(&deployment.id, Status::Running, 1).await?;
    }
    idle(&world, &format!("with {} apps", cli.apps), cli.idle_seconds).await
}

#[expect(clippy::print_stdout, reason = "the command's result")]
fn line(what: &str, durations: &mut [Duration]) {
    durations.sort_unstable();
    let at = |percent: usize| {
        let index = (durations.len() * percent / 100).min(durations.len().saturating_sub(1));
        durations.get(index).map_or(0.0, |d| d.as_secs_f64() * 1000.0)
    };
    println!("{what:46} {:>6.0} ms {:>6.0} ms {:>6.0} ms", at(50), at(95), at(100));
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

#[expect(clippy::print_stdout, reason = "the command's result")]
#[expect(clippy::cast_precision_loss, reason = "figures for people")]
async fn idle(world: &World, what: &str, seconds: u64) -> anyhow::Result<()> {
    const NAMES: [&str; 5] = ["agent", "coordinator", "resolver", "caddy", "podman"];
    // What was just done is done with: the agent's drains and the reports are through.
    tokio::time::sleep(Duration::from_secs(15)).await;
    let before = NAMES.map(|name| world.service(name));
    let began = Instant::now();
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    for (name, before) in NAMES.iter().zip(before) {
        let (before, after) = (before?, world.service(name)?);
        ensure!(before.pid == after.pid, "{name} was restarted meanwhile");
        let ticks = after.cpu_ticks.saturating_sub(before.cpu_ticks) as f64;
        let percent = ticks / began.elapsed().as_secs_f64();
        let label = format!("{name}, {what}");
        println!("{label:46} {:>9.1} {percent:>11.2}", after.rss_kib as f64 / 1024.0);
    }
    Ok(())
}
