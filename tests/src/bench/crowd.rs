//! A host in use.

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use http::Method;
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use super::{Sizes, create, idle, sheet};
use crate::product::{IMAGE, Options, Product};
use crate::trials::{containers, redeploys};
use crate::world::Lease;
use crate::{poll, unix_http};

const PATIENCE: Duration = Duration::from_mins(1);
/// Poll interval.
const LOOK: Duration = Duration::from_micros(500);
/// No-op passes that are measured.
const PASSES: u32 = 50;

pub(super) async fn measure(sizes: Sizes) -> anyhow::Result<()> {
    let world = Lease::new().await?;
    let product = Product::up(&world, Options::default()).await?;
    product.publish_images(false).await?;
    let api = product.operator("bench").await?;
    idle::measure(&world, 0, sizes.seconds).await?;
    let mut made = create(&api, 0, sizes.apps).await?;
    idle::measure(&world, sizes.apps, sizes.seconds).await?;
    recover(&product, sizes).await?;
    let ids: Vec<String> = made.iter().map(|deployment| deployment.id.clone()).collect();
    let (heard, silent) = ids.split_at(ids.len() * 4 / 5);
    let bar = "p99 250 ms";
    detect(&product, "a dead container noticed, with events", heard, bar).await?;
    made.extend(create(&api, sizes.apps, sizes.apps * 2).await?);
    no_op(&product, made.len()).await?;
    silence(&product).await?;
    detect(&product, "a dead container noticed, all events lost", silent, "5 s").await
}

/// The agent is killed; until it is back and reports every app as live.
async fn recover(product: &Product<'_>, sizes: Sizes) -> anyhow::Result<()> {
    let mut took = Vec::new();
    for _ in 0..sizes.rounds.min(10) {
        let starts = product.world.service("agent")?.starts;
        let began = Instant::now();
        product.world.signal("agent", Signal::SIGKILL)?;
        poll::until("the agent to be back", PATIENCE, async || {
            let (_, body) = unix_http::get(&product.agent_socket(), "/v1/status").await?;
            let snapshot: Value = serde_json::from_slice(&body)?;
            let deployments = snapshot["deployments"].as_array().context("no snapshot yet")?;
            let live = deployments.iter().filter(|d| d["status"]["phase"] == "live").count();
            ensure!(live == sizes.apps as usize, "{live} are live");
            Ok(())
        })
        .await?;
        took.push(began.elapsed());
        ensure!(product.world.service("agent")?.starts > starts, "the agent was not killed");
        // It has run long enough: the supervisor starts the next one without a back-off.
        tokio::time::sleep(Duration::from_secs(10)).await;
    }
    let what =
        format!("agent killed → all {} apps live (0.1 s of it the supervisor's)", sizes.apps);
    sheet::durations(&what, &mut took, "1 s (at 100 apps)");
    Ok(())
}

/// A container is killed; until the agent has published that its visitors are held.
async fn detect(
    product: &Product<'_>,
    what: &str,
    ids: &[String],
    bar: &str,
) -> anyhow::Result<()> {
    let table = product.world.layout().path("agent/live.json");
    let mut took = Vec::new();
    for id in ids {
        let serving = containers::serving(product, id).await?;
        let before = stamp(&table)?;
        let began = Instant::now();
        containers::kill(product.world, &serving.name).await?;
        let noticed = async {
            while stamp(&table)? == before {
                tokio::time::sleep(LOOK).await;
            }
            anyhow::Ok(began.elapsed())
        };
        took.push(tokio::time::timeout(PATIENCE, noticed).await.context("never noticed")??);
        poll::until("it to serve again", PATIENCE, async || {
            containers::serving(product, id).await.map(drop)
        })
        .await?;
    }
    sheet::durations(what, &mut took, bar);
    Ok(())
}

fn stamp(file: &Path) -> anyhow::Result<(u64, i64, i64)> {
    let file = std::fs::metadata(file)?;
    Ok((file.ino(), file.mtime(), file.mtime_nsec()))
}

/// Passes that find nothing to do. Each is triggered by the exit of a container that
/// has our label but is not ours. Calls are counted in Podman's own log; that nothing was
/// made durable shows in the kernel's count of bytes that the agent caused to be written.
#[expect(clippy::cast_precision_loss, reason = "figures for people")]
async fn no_op(product: &Product<'_>, apps: usize) -> anyhow::Result<()> {
    let world = product.world;
    let socket = world.layout().path("run/podman.sock");
    let log = world.layout().path("log/podman.log");
    // Drains and reports of what was just created have finished.
    tokio::time::sleep(Duration::from_secs(15)).await;
    let reloads = redeploys::reloads(world)?;
    let before = world.service("agent")?;
    let skip = std::fs::metadata(&log)?.len();
    for number in 0..PASSES {
        let looks = calls(&log, skip)?.looks();
        let name = format!("hint-{number}");
        let body = json!({
            "name": name, "image": IMAGE, "labels": { "buddo.deployment": "none" },
        });
        let base = "/v4.0.0/libpod/containers";
        let create = format!("{base}/create");
        let (status, said) = unix_http::request(&socket, Method::POST, &create, Some(body)).await?;
        ensure!(status == 201, "{status} {said:?}");
        let remove = format!("{base}/{name}?force=true");
        unix_http::request(&socket, Method::DELETE, &remove, None).await?;
        poll::until("a pass", PATIENCE, async || {
            ensure!(calls(&log, skip)?.looks() > looks, "none yet");
            Ok(())
        })
        .await?;
    }
    let after = world.service("agent")?;
    ensure!(before.pid == after.pid, "the agent was restarted meanwhile");
    let calls = calls(&log, skip)?;
    let passes = calls.looks() as f64;
    let cpu = after.cpu_ticks.saturating_sub(before.cpu_ticks) as f64 * 10.0 / passes;
    let what = format!("no-op pass at {apps} containers");
    sheet::line(&format!("{what}: processor time"), &format!("{cpu:.2} ms"), "20 ms");
    let figure = format!("{}, {} of others", calls.lists, calls.inspects);
    let looks = format!("{what}: lists, inspections, in {PASSES} passes");
    sheet::line(&looks, &figure, "one inspection a pass: of what an event names");
    let figure = format!("{}: {}", calls.others.len(), calls.kinds());
    sheet::line(&format!("{what}: other calls to Podman, all passes"), &figure, "");
    let written = after.written - before.written;
    sheet::line(&format!("{what}: bytes written to disk"), &written.to_string(), "0: no fsync");
    let reloads = redeploys::reloads(world)? - reloads;
    sheet::line(&format!("{what}: reloads of Caddy"), &reloads.to_string(), "0");
    Ok(())
}

/// The agent's calls, as Podman logged them.
#[derive(Default)]
struct Calls {
    lists: u64,
    /// Of the containers that triggered the passes.
    named: u64,
    inspects: u64,
    others: Vec<String>,
}

impl Calls {
    /// Each pass has one at least.
    fn looks(&self) -> u64 {
        self.lists + self.named
    }

    fn kinds(&self) -> String {
        let kinds: BTreeSet<&str> = self.others.iter().map(String::as_str).collect();
        kinds.into_iter().collect::<Vec<_>>().join(" ")
    }
}

fn calls(log: &Path, skip: u64) -> anyhow::Result<Calls> {
    let text = std::fs::read(log)?;
    let text = String::from_utf8_lossy(&text[usize::try_from(skip)?..]).into_owned();
    let mut calls = Calls::default();
    for line in text.lines().filter(|line| line.starts_with("@ ")) {
        let Some(request) = line.split('"').nth(1) else { continue };
        let path = request.split(' ').nth(1).unwrap_or_default();
        let path = path.split('?').next().unwrap_or_default();
        let path = path.split_once("/libpod/").map_or(path, |(_, path)| path);
        match path {
            "containers/json" => calls.lists += 1,
            path if path.starts_with("containers/hint-") && path.ends_with("/json") => {
                calls.named += 1;
            }
            // This measurement's own.
            "containers/create" => {}
            path if path.starts_with("containers/hint-") => {}
            path if path.starts_with("containers/") && path.ends_with("/json") => {
                calls.inspects += 1;
            }
            path => calls.others.push(path.to_owned()),
        }
    }
    Ok(calls)
}

/// From now on Podman reports no events at all.
async fn silence(product: &Product<'_>) -> anyhow::Result<()> {
    let file = product.world.podman_settings();
    let text = std::fs::read_to_string(&file)?.replace("\"file\"", "\"none\"");
    ensure!(text.contains("events_logger = \"none\""), "{text}");
    std::fs::write(&file, text)?;
    product.world.kill_podman()?;
    poll::until("Podman's service", PATIENCE, async || {
        containers::all(product.world).await.map(drop)
    })
    .await?;
    // The agent has noticed, too: it lists often from then on.
    tokio::time::sleep(Duration::from_secs(5)).await;
    Ok(())
}
