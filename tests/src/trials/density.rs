//! As many small apps as one host can hold: whether all of them run, and what that costs.

use std::fmt;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use buddo_shared::api::deploy::{Deployment, Status};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use nix::sys::signal::Signal;

use crate::api::{Api, request};
use crate::product::{IMAGE, PORT, Product, ZONE};
use crate::world::World;
use crate::{poll, raw_podman};

/// Calls to the API, and visits, at the same time.
const AT_ONCE: usize = 8;
/// A restart is measured first with this few, for comparison.
const FEW: u32 = 10;
/// The supervised services measured while idle.
const SERVICES: [&str; 4] = ["agent", "coordinator", "resolver", "caddy"];

#[derive(Debug, Clone, Copy)]
pub struct Settings {
    pub apps: u32,
    /// How long idle usage is measured.
    pub window: Duration,
    /// Restarts that are timed, with few apps and with all.
    pub restarts: u32,
}

/// What one service used while idle.
#[derive(Debug)]
pub struct Usage {
    name: &'static str,
    rss_mib: f64,
    /// Per cent of one core; `None`: not measured.
    cpu: Option<f64>,
}

/// The outcome.
#[derive(Debug)]
pub struct Outcome {
    apps: u32,
    /// From the first create's request until all of them were live.
    deployed: Duration,
    /// Of each app beyond the few.
    memory_mib: f64,
    idle: Vec<Usage>,
    /// Median time from a restart's answer until its revision ran: with few and with all.
    restart: [Duration; 2],
    /// From Podman's own create call until the app answers, without the product: with few and with
    /// all.
    raw_start: [Duration; 2],
    /// One list of all containers by Podman's own API.
    raw_list: Duration,
    /// From SIGKILL until the agent reported every app as live.
    agent_back: Duration,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.deployed.as_secs_f64();
        let rate = f64::from(self.apps) / seconds;
        writeln!(
            f,
            "{} apps, all live and visited, after {seconds:.1} s: {rate:.1} starts/s",
            self.apps
        )?;
        writeln!(f, "memory that went for each, if nothing else ran: {:.1} MiB", self.memory_mib)?;
        for Usage { name, rss_mib, cpu } in &self.idle {
            let cpu = cpu.map(|cpu| format!(", {cpu:.2} % of a core")).unwrap_or_default();
            writeln!(f, "idle: {name} {rss_mib:.1} MiB{cpu}")?;
        }
        let lines = [
            ("restart → running", self.restart),
            ("Podman alone, create + start → first answer", self.raw_start),
        ];
        for (what, [few, all]) in lines {
            let ratio = all.as_secs_f64() / few.as_secs_f64();
            writeln!(
                f,
                "{what}, p50: {few:.0?} with {FEW} apps, {all:.0?} with all ({ratio:.1}×)"
            )?;
        }
        writeln!(f, "agent killed → all live: {:.2?}", self.agent_back)?;
        writeln!(f, "Podman alone, one list of all: {:.2?}", self.raw_list)
    }
}

/// Deploys them, checks each, and measures.
pub async fn run(product: &Product<'_>, settings: Settings) -> anyhow::Result<Outcome> {
    product.publish_images(false).await?;
    let api = product.operator("ada").await?;
    let few = settings.apps.min(FEW);
    let began = Instant::now();
    let mut apps = create(&api, 0..few).await?;
    all_live(product, few).await?;
    let mut deployed = began.elapsed();
    let quick = restarts(&api, &apps, settings.restarts).await?;
    let raw_quick = raw_starts(product.world, settings.restarts).await?;

    let before = available_mib()?;
    let began = Instant::now();
    apps.extend(create(&api, few..settings.apps).await?);
    all_live(product, settings.apps).await?;
    deployed += began.elapsed();
    visit_all(product, &apps).await?;
    for app in &apps {
        api.reaches(&app.id, Status::Running, 1).await?;
    }
    tracing::info!("all {} run; measuring for {:?}", settings.apps, settings.window);

    let idle = idle(product.world, settings.window).await?;
    let memory_mib = (before - available_mib()?) / f64::from((settings.apps - few).max(1));
    let slow = restarts(&api, &apps, settings.restarts).await?;
    let raw_slow = raw_starts(product.world, settings.restarts).await?;
    let raw_list = raw_podman::list(product.world).await?;
    let agent_back = agent_back(product, settings.apps).await?;
    visit_all(product, &apps).await?;
    Ok(Outcome {
        apps: settings.apps,
        deployed,
        memory_mib,
        idle,
        restart: [quick, slow],
        raw_start: [raw_quick, raw_slow],
        raw_list,
        agent_back,
    })
}

fn name(number: u32) -> String {
    format!("app-{number}")
}

async fn create(api: &Api, numbers: std::ops::Range<u32>) -> anyhow::Result<Vec<Deployment>> {
    let create = |number| async move { api.create(&request(&name(number), IMAGE, PORT)).await };
    stream::iter(numbers).map(create).buffered(AT_ONCE).try_collect().await
}

/// Waits until the agent reports that many apps as live. One that was given up never will be.
async fn all_live(product: &Product<'_>, apps: u32) -> anyhow::Result<()> {
    let patience = Duration::from_mins(2) + Duration::from_secs(1) * apps;
    let given_up = poll::until("all apps to be live", patience, async || {
        // Polling is work for the agent, too.
        tokio::time::sleep(Duration::from_millis(250)).await;
        let apps_now = phases(product)?;
        let given_up = apps_now.iter().find(|app| app.is_given_up());
        if let Some(app) = given_up {
            return Ok(Some(format!("{app:?}")));
        }
        let live = apps_now.iter().filter(|app| app.is_live()).count();
        ensure!(live == apps as usize, "{live} of {apps} are live");
        Ok(None)
    })
    .await?;
    given_up.map_or(Ok(()), |app| bail!("an app was given up: {app}"))
}

/// An app's state, as the agent reports it.
#[derive(Debug)]
struct Fares {
    phase: String,
    #[expect(dead_code, reason = "shown where it was given up")]
    failure: serde_json::Value,
}

impl Fares {
    fn is_live(&self) -> bool {
        self.phase == "live"
    }

    /// The coordinator stops an app whose first revision failed.
    fn is_given_up(&self) -> bool {
        matches!(&*self.phase, "failed" | "stopping" | "stopped")
    }
}

fn phases(product: &Product<'_>) -> anyhow::Result<Vec<Fares>> {
    let status: serde_json::Value =
        serde_json::from_str(&product.agent_command(&["status", "--json"])?)?;
    let deployments = status["deployments"].as_array().context("no deployments")?;
    let fares = deployments.iter().map(|app| Fares {
        phase: app["status"]["phase"].as_str().unwrap_or_default().to_owned(),
        failure: app["status"]["failure"].clone(),
    });
    Ok(fares.collect())
}

/// Each of them answers its visitors.
async fn visit_all(product: &Product<'_>, apps: &[Deployment]) -> anyhow::Result<()> {
    let edge = &product.edge()?;
    let visit = |number: u32| async move {
        let host = format!("{}.{ZONE}", name(number));
        let answer = edge.get(&host, "/").await.with_context(|| host.clone())?;
        ensure!(answer.status == 200, "{host}: {answer:?}");
        anyhow::Ok(())
    };
    let numbers = 0..u32::try_from(apps.len())?;
    stream::iter(numbers).map(visit).buffer_unordered(AT_ONCE).try_collect().await
}

/// Median time of a restart. Spread over all apps, one after the other.
async fn restarts(api: &Api, apps: &[Deployment], count: u32) -> anyhow::Result<Duration> {
    let stride = (apps.len() / count.max(1) as usize).max(1);
    let mut took = Vec::new();
    for app in apps.iter().step_by(stride).take(count as usize) {
        let restarted = api.act(&app.id, "restart").await?;
        let began = Instant::now();
        api.reaches(&app.id, Status::Running, restarted.revision).await?;
        took.push(began.elapsed());
    }
    middle(took).context("no restart was measured")
}

/// The same for Podman alone.
async fn raw_starts(world: &World, count: u32) -> anyhow::Result<Duration> {
    let mut took = Vec::new();
    for round in 0..count {
        took.push(raw_podman::start(world, round).await?);
    }
    middle(took).context("no start of Podman's was measured")
}

fn middle(mut took: Vec<Duration>) -> Option<Duration> {
    took.sort_unstable();
    took.get(took.len() / 2).copied()
}

/// What each service uses while idle.
#[expect(clippy::cast_precision_loss, reason = "figures for people")]
async fn idle(world: &World, window: Duration) -> anyhow::Result<Vec<Usage>> {
    // Earlier work has settled: drains are over and reports are delivered.
    tokio::time::sleep(Duration::from_secs(15)).await;
    let before = SERVICES.map(|name| world.service(name));
    let began = Instant::now();
    tokio::time::sleep(window).await;
    let mut usage = Vec::new();
    for (name, before) in SERVICES.into_iter().zip(before) {
        let (before, after) = (before?, world.service(name)?);
        ensure!(before.pid == after.pid, "{name} was restarted meanwhile");
        // A tick is a hundredth of a second (`proc_pid_stat(5)`).
        let ticks = after.cpu_ticks.saturating_sub(before.cpu_ticks) as f64;
        let cpu = Some(ticks / began.elapsed().as_secs_f64());
        usage.push(Usage { name, rss_mib: after.rss_kib as f64 / 1024.0, cpu });
    }
    usage.push(Usage { name: "Podman's service", rss_mib: podman_mib(world)?, cpu: None });
    Ok(usage)
}

/// Of both its processes: the one that serves is a child of the one that is kept.
fn podman_mib(world: &World) -> anyhow::Result<f64> {
    let output = world.exec(["ps", "-C", "podman", "-o", "rss=,args="])?;
    let text = String::from_utf8(output.stdout)?;
    let services = text.lines().filter(|line| line.contains(" system service "));
    let kib: f64 =
        services.filter_map(|line| line.split_whitespace().next()?.parse::<f64>().ok()).sum();
    ensure!(kib > 0.0, "Podman's service is not in {text}");
    Ok(kib / 1024.0)
}

/// Memory of the machine that is free for more (`proc_meminfo(5)`).
fn available_mib() -> anyhow::Result<f64> {
    let text = std::fs::read_to_string("/proc/meminfo")?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    let kib = line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse::<f64>().ok());
    Ok(kib.context("the kernel does not report the available memory")? / 1024.0)
}

async fn agent_back(product: &Product<'_>, apps: u32) -> anyhow::Result<Duration> {
    product.world.signal("agent", Signal::SIGKILL)?;
    let began = Instant::now();
    poll::until("every app to be live again", Duration::from_mins(2), async || {
        let live = phases(product)?.iter().filter(|app| app.is_live()).count();
        ensure!(live == apps as usize, "{live} of {apps} are live");
        Ok(())
    })
    .await?;
    Ok(began.elapsed())
}
