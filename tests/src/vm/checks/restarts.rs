//! Parts of the platform that end, and visitors who must not notice.

use std::time::{Duration, Instant};

use anyhow::ensure;

use super::hostile::{VISITORS, enough};
use super::{GOOD, Report};
use crate::load::Load;
use crate::poll;
use crate::vm::host::{Host, PATIENCE, name};
use crate::vm::report::Figure;

const AGENT: &str = "buddo-agent.service";

pub(super) async fn run(host: &Host, report: &mut Report) {
    for unit in [AGENT, "buddo-podman.service", "buddo-resolver.service"] {
        let what = format!("restart of {unit} under load");
        report.check(&what, "0 failed requests", restart(host, unit)).await;
    }
    for unit in [AGENT, "buddo-podman.service"] {
        let what = format!("kill -9 of {unit} under load");
        report.check(&what, "back, 0 failed requests", kill(host, unit)).await;
    }
    report.check("a hung agent (SIGSTOP)", "back by its watchdog, 60 s", hang(host)).await;
}

async fn restart(host: &Host, unit: &str) -> anyhow::Result<Figure> {
    let load = Load::start(&host.edge()?, &name(GOOD.1), VISITORS);
    enough(&load, 50).await?;
    host.user_systemctl(&["restart", unit]).await?;
    enough(&load, 150).await?;
    let tally = load.finish().await;
    Ok(Figure::new(format!("{} of {} failed", tally.failed, tally.requests), tally.failed == 0))
}

async fn kill(host: &Host, unit: &str) -> anyhow::Result<Figure> {
    let load = Load::start(&host.edge()?, &name(GOOD.1), VISITORS);
    enough(&load, 50).await?;
    let took = ends(host, unit, "KILL", PATIENCE).await?.as_secs_f64();
    enough(&load, 150).await?;
    let tally = load.finish().await;
    let text = format!("back in {took:.1} s, {} of {} failed", tally.failed, tally.requests);
    Ok(Figure::new(text, tally.failed == 0))
}

async fn hang(host: &Host) -> anyhow::Result<Figure> {
    let took = ends(host, AGENT, "STOP", Duration::from_mins(3)).await?;
    let text = format!("back in {:.0} s", took.as_secs_f64());
    Ok(Figure::new(text, took <= Duration::from_mins(1)))
}

/// Sends a signal to the unit's main process, and says how long it takes until another one is active.
async fn ends(
    host: &Host,
    unit: &str,
    signal: &str,
    patience: Duration,
) -> anyhow::Result<Duration> {
    let before = host.property(unit, "MainPID").await?;
    let began = Instant::now();
    host.ssh().must(&["kill", "-s", signal, &before]).await?;
    poll::until("another process", patience, async || {
        let (pid, state) =
            (host.property(unit, "MainPID").await?, host.property(unit, "ActiveState").await?);
        ensure!(pid != before && pid != "0" && state == "active", "{pid}, {state}");
        Ok(())
    })
    .await?;
    Ok(began.elapsed())
}
