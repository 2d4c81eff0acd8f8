//! Idle usage.

use std::time::{Duration, Instant};

use anyhow::ensure;

use super::sheet;
use crate::world::World;

const NAMES: [&str; 5] = ["agent", "coordinator", "resolver", "caddy", "podman"];

/// Memory and processor time of each service over this many seconds.
#[expect(clippy::cast_precision_loss, reason = "figures for people")]
pub(super) async fn measure(world: &World, apps: u32, seconds: u64) -> anyhow::Result<()> {
    // Earlier work has settled: the agent's drains are over and reports are delivered.
    tokio::time::sleep(Duration::from_secs(15)).await;
    let before = NAMES.map(|name| world.service(name));
    let began = Instant::now();
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    for (name, before) in NAMES.iter().zip(before) {
        let (before, after) = (before?, world.service(name)?);
        ensure!(before.pid == after.pid, "{name} was restarted meanwhile");
        let ticks = after.cpu_ticks.saturating_sub(before.cpu_ticks) as f64;
        let percent = ticks / began.elapsed().as_secs_f64();
        let rss = after.rss_kib as f64 / 1024.0;
        let bar = match (*name, apps) {
            ("agent", 1..) => "25 MiB, 0.5 % (at 100 apps)",
            ("coordinator", _) => "30 MiB",
            _ => "",
        };
        let what = format!("idle with {apps} apps: {name}");
        sheet::line(&what, &format!("{rss:.1} MiB, {percent:.2} % of a core"), bar);
    }
    Ok(())
}
