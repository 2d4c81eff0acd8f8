//! Redeploys of an app under load, half of them with the old version killed just after the API
//! says that the new one serves; meanwhile other apps come and go, and a WebSocket stays open.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use buddo_shared::api::deploy::Status;

use super::containers;
use crate::api::{Api, request};
use crate::load::{Load, Plan, Sockets, Tally};
use crate::poll;
use crate::product::{IMAGE, PORT, Product, ZONE};
use crate::world::World;

#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// Redeploys, one after the other.
    pub redeploys: u32,
    /// The load continues until this many requests were sent.
    pub requests: u64,
    pub load: Plan,
    /// Other apps that are created and destroyed meanwhile, three at a time.
    pub others: u32,
}

impl Settings {
    /// All that is promised: 100,000 requests, 20 redeploys, at 3,000 requests a second.
    pub const WHOLE: Self = Self {
        redeploys: 20,
        requests: 100_000,
        load: Plan { rate: 3_500, workers: 48, renew_after: 40, mix: crate::load::Mix::Both },
        others: 30,
    };

    /// For a busy machine and a debug build.
    pub const SHORT: Self = Self {
        redeploys: 10,
        requests: 10_000,
        load: Plan { rate: 1_500, ..Self::WHOLE.load },
        others: 15,
    };
}

/// The outcome.
#[derive(Debug)]
pub struct Outcome {
    /// The load on the app that was redeployed.
    pub tally: Tally,
    /// Messages on the WebSocket of another app.
    pub messages: u64,
    /// Old containers that were killed.
    pub killed: u32,
    /// From each restart's answer until the API said that its revision serves, sorted.
    pub took: Vec<Duration>,
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { tally, took, .. } = self;
        let median = took.get(took.len() / 2).copied().unwrap_or_default();
        write!(
            f,
            "{} requests at {:.0}/s over {} redeploys ({} with the old version killed): {} failed; \
             p50 {:?}, p99 {:?}, longest {:?}; a redeploy took {median:.0?} (p50), {:.0?} at most; \
             {} WebSocket messages",
            tally.requests,
            tally.rate(),
            took.len(),
            self.killed,
            tally.failed,
            tally.percentile(50),
            tally.percentile(99),
            tally.percentile(100),
            took.last().copied().unwrap_or_default(),
            self.messages,
        )
    }
}

/// Runs it. That nothing was lost, that Caddy was not reloaded and that the WebSocket lived is
/// checked here.
pub async fn run(product: &Product<'_>, settings: Settings) -> anyhow::Result<Outcome> {
    product.publish_images(false).await?;
    let api = product.operator("ada").await?;
    let edge = product.edge()?;
    let busy = api.create(&request("busy", IMAGE, PORT)).await?;
    let quiet = api.create(&request("quiet", IMAGE, PORT)).await?;
    api.reaches(&busy.id, Status::Running, 1).await?;
    api.reaches(&quiet.id, Status::Running, 1).await?;
    let before = reloads(product.world)?;

    let sockets = Sockets::open(&edge, &[format!("quiet.{ZONE}")]);
    let load = Load::start(&edge, &format!("busy.{ZONE}"), settings.load);
    let redeploys = async {
        let (mut took, mut killed) = (Vec::new(), 0);
        for turn in 0..settings.redeploys {
            let old = containers::serving(product, &busy.id).await?;
            took.push(redeploy(&api, &busy.id).await?);
            if !turn.is_multiple_of(2) {
                // Those that it is answering would be lost with it.
                load.answered().await?;
                // It is still draining: the test depends on it still running.
                containers::kill(product.world, &old.name).await?;
                killed += 1;
            }
        }
        anyhow::Ok((took, killed))
    };
    let ((mut took, killed), ()) = tokio::try_join!(redeploys, come_and_go(&api, settings.others))?;
    let patience = Duration::from_mins(5);
    poll::until("enough requests", patience, async || {
        ensure!(load.sent() >= settings.requests, "{} were sent", load.sent());
        Ok(())
    })
    .await?;
    let (tally, talk) = (load.finish().await, sockets.finish().await);
    tally.without_failure()?;
    talk.without_failure().context("the WebSocket of another app")?;
    ensure!(reloads(product.world)? == before, "the life of an app reloaded Caddy");
    took.sort_unstable();
    Ok(Outcome { tally, messages: talk.requests, killed, took })
}

async fn redeploy(api: &Api, id: &str) -> anyhow::Result<Duration> {
    let restarted = api.act(id, "restart").await?;
    let began = Instant::now();
    api.reaches(id, Status::Running, restarted.revision).await?;
    Ok(began.elapsed())
}

async fn come_and_go(api: &Api, apps: u32) -> anyhow::Result<()> {
    for batch in 0..apps / 3 {
        let mut made = Vec::new();
        for number in 0..3 {
            let name = format!("other-{batch}-{number}");
            made.push(api.create(&request(&name, IMAGE, PORT)).await?);
        }
        for deployment in made {
            api.reaches(&deployment.id, Status::Running, 1).await?;
            api.destroy(&deployment.id).await?;
        }
    }
    Ok(())
}

/// How often Caddy put a configuration in force. The agent offers its own once a minute,
/// in case Caddy runs another; an unchanged one is not a reload.
pub fn reloads(world: &World) -> anyhow::Result<usize> {
    let log = std::fs::read_to_string(world.layout().path("log/caddy.log"))?;
    Ok(log.matches("admin endpoint started").count())
}
