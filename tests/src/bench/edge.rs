//! What Caddy's lookups of who is live cost: maximum requests a second, by how often it
//! looks up. Caddy holds one lock over all names meanwhile.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use nix::sys::signal::Signal;

use super::{Sizes, create, sheet};
use crate::load::{Load, Mix, Plan};
use crate::poll;
use crate::product::{Options, Product, ZONE};
use crate::trials::absence::kill_caddy;
use crate::world::{Caddy, Lease};

const PATIENCE: Duration = Duration::from_mins(1);
/// Milliseconds for which Caddy caches an answer.
const REFRESHES: [u32; 5] = [200, 100, 50, 20, 10];
/// Apps that are busy.
const BUSY: [u32; 2] = [10, 50];

pub(super) async fn measure(sizes: Sizes) -> anyhow::Result<()> {
    for caddy in Caddy::ALL {
        let world = Lease::new().await?;
        let product = Product::up(&world, Options { caddy, ..Options::default() }).await?;
        product.publish_images(false).await?;
        create(&product.operator("bench").await?, 0, BUSY[BUSY.len() - 1]).await?;
        // It would restore its own route file.
        world.stop("agent", Signal::SIGKILL).await?;
        for busy in BUSY {
            for refresh in REFRESHES {
                asking(&product, caddy, busy, refresh, sizes).await?;
            }
        }
    }
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "figures for people")]
async fn asking(
    product: &Product<'_>,
    caddy: Caddy,
    busy: u32,
    refresh: u32,
    sizes: Sizes,
) -> anyhow::Result<()> {
    let world = product.world;
    set_refresh(product, refresh)?;
    kill_caddy(world)?.await?;
    let edge = product.edge()?;
    let hosts: Vec<String> = (0..busy).map(|app| format!("app-{app}.{ZONE}")).collect();
    for host in &hosts {
        poll::until("each app", PATIENCE, async || {
            ensure!(edge.get(host, "/").await?.status == 200);
            Ok(())
        })
        .await?;
    }
    let ticks = |name| anyhow::Ok(world.service(name)?.cpu_ticks);
    let before = (ticks("caddy")?, ticks("resolver")?);
    // More than is achievable, so that each worker sends as soon as it has its answer.
    let plan = Plan { rate: 1_000_000, workers: 100, renew_after: 200, mix: Mix::Get };
    let (load, began) = (Load::start_on(&edge, &hosts, plan), Instant::now());
    tokio::time::sleep(Duration::from_secs(sizes.seconds).div_f64(3.0)).await;
    let tally = load.finish().await;
    let seconds = began.elapsed().as_secs_f64();
    let percent = |before: u64, after: u64| after.saturating_sub(before) as f64 / seconds;
    let used = (percent(before.0, ticks("caddy")?), percent(before.1, ticks("resolver")?));
    tally.without_failure()?;
    sheet::line(
        &format!("{caddy:?} Caddy, {busy} apps busy, asks each {refresh} ms"),
        &format!("{:.0}/s, p99 {:.1?}", tally.rate(), tally.percentile(99)),
        &format!("Caddy {:.0} %, resolver {:.1} % of a core", used.0, used.1),
    );
    Ok(())
}

/// Rewrites the one setting in the zone's route file.
fn set_refresh(product: &Product<'_>, ms: u32) -> anyhow::Result<()> {
    let file = product.world.layout().path("agent/caddy/routes/zone.caddy");
    let text = std::fs::read_to_string(&file)?;
    let setting = text.lines().find(|line| line.trim().starts_with("refresh "));
    let setting = setting.context("the route file sets no refresh")?;
    Ok(std::fs::write(&file, text.replace(setting, &format!("\t\t\trefresh {ms}ms")))?)
}
