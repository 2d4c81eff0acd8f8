//! Whether the kernel enforces what the tier says: read from the container's cgroup, never from what
//! Podman says that it ordered.

use anyhow::Context as _;

use super::{BAD, Report};
use crate::vm::host::Host;
use crate::vm::report::Figure;

/// The starter tier: 256 MiB, a quarter of a processor in each 100 ms; no swap, and the agent's bound
/// for processes.
const ORDERED: [(&str, &str); 4] = [
    ("memory.max", "268435456"),
    ("memory.swap.max", "0"),
    ("cpu.max", "25000 100000"),
    ("pids.max", "256"),
];

/// Seconds over which the share of a processor is measured.
const WINDOW: f64 = 15.0;

pub(super) async fn run(host: &Host, report: &mut Report) {
    match host.limits(BAD.0, BAD.1).await {
        Ok(limits) => {
            for (file, wanted) in ORDERED {
                let value = limits.values.get(file).map_or("", String::as_str);
                report.row(file, &Figure::new(value, value == wanted), wanted);
            }
            let bar = "within 5 % of the tier";
            report
                .check("processor time of four busy threads", bar, share(host, &limits.cgroup))
                .await;
        }
        Err(error) => {
            report.row("the container's cgroup", &Figure::new(format!("{error:#}"), false), "");
        }
    }
}

/// Keeps four threads busy and compares what the kernel has counted with the machine's own clock: how
/// fast the emulator runs makes no difference.
async fn share(host: &Host, cgroup: &str) -> anyhow::Result<Figure> {
    let edge = host.edge()?;
    let app = crate::vm::host::name(BAD.1);
    // Longer than the window, so that they are busy all through it.
    let busy = tokio::spawn(async move { edge.get(&app, "/burn?ms=25000").await });
    let first = usage(host, cgroup).await?;
    let (mut last, mut seconds) = (first, 0.0);
    while seconds < WINDOW {
        tokio::time::sleep(std::time::Duration::from_millis(500)).await;
        last = usage(host, cgroup).await?;
        seconds = last.0 - first.0;
    }
    busy.await?.context("the busy app")?;
    let share = (last.1 - first.1) / seconds;
    let held = (share - 0.25).abs() <= 0.25 * 0.05;
    Ok(Figure::new(format!("{:.0} of 250 millicores in {seconds:.0} s", share * 1000.0), held))
}

/// The machine's uptime and the cgroup's processor time, in seconds, read at once.
async fn usage(host: &Host, cgroup: &str) -> anyhow::Result<(f64, f64)> {
    let stat = format!("{cgroup}/cpu.stat");
    let text = host.ssh().must(&["cat", "/proc/uptime", &stat]).await?;
    let uptime = text.split_whitespace().next().context("no uptime")?.parse::<f64>()?;
    let micros = text.lines().find_map(|line| line.strip_prefix("usage_usec "));
    Ok((uptime, micros.context("no usage_usec")?.parse::<f64>()? / 1_000_000.0))
}
