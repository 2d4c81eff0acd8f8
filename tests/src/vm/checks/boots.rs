//! The machine goes down and comes back, with nobody there to help.

use std::time::{Duration, Instant};

use anyhow::Context as _;

use super::{BAD, GOOD, Report};
use crate::vm::host::{Host, PATIENCE};
use crate::vm::report::Figure;

/// The app that is deployed just before the power cut.
const LATE: &str = "late";

pub(super) async fn run(host: &mut Host, report: &mut Report) {
    let what = "reboot without coordinator and registry";
    report.check(what, "both serve, 15 s after the agent", reboot(host)).await;
    report
        .check("power cut right after a deploy", "all serve, 30 s after the agent", cut(host))
        .await;
}

async fn reboot(host: &mut Host) -> anyhow::Result<Figure> {
    host.ssh().must(&["systemctl", "disable", "--now", "buddo-coordinator.service"]).await?;
    host.outside.stop_registry().await?;
    host.machine.reboot().await?;
    let answered = host.all_answer(&[GOOD.1, BAD.1], PATIENCE).await;
    // For what follows, however it went.
    host.outside.start_registry().await?;
    host.ssh().must(&["systemctl", "enable", "--now", "buddo-coordinator.service"]).await?;
    after_boot(host, answered?, Duration::from_secs(15)).await
}

async fn cut(host: &mut Host) -> anyhow::Result<Figure> {
    host.deploy(GOOD.0, LATE).await?;
    host.all_answer(&[LATE], PATIENCE).await?;
    host.machine.cut_power().await?;
    host.machine.power_on().await?;
    let answered = host.all_answer(&[GOOD.1, BAD.1, LATE], PATIENCE).await?;
    after_boot(host, answered, Duration::from_secs(30)).await
}

/// Seconds from boot, and from the agent's start.
async fn after_boot(host: &Host, answered: Instant, most: Duration) -> anyhow::Result<Figure> {
    let answered = answered.saturating_duration_since(host.machine.started());
    let micros = host.property("buddo-agent.service", "ExecMainStartTimestampMonotonic").await?;
    let agent = Duration::from_micros(micros.parse::<u64>().context("the agent has not started")?);
    let after = answered.saturating_sub(agent);
    let text = format!(
        "{:.0} s from boot, {:.0} s after the agent (at {:.0})",
        answered.as_secs_f64(),
        after.as_secs_f64(),
        agent.as_secs_f64()
    );
    Ok(Figure::new(text, after <= most))
}
