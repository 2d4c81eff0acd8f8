//! An app that takes all it can: what stops it, what its operator is told, and what its neighbour
//! notices.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};

use super::{BAD, GOOD, Report};
use crate::load::{Load, Mix, Plan, Tally};
use crate::poll;
use crate::vm::host::{Host, PATIENCE, name};
use crate::vm::report::Figure;

/// The neighbour's visitors: few enough for an emulated machine, many enough for a percentile.
pub(super) const VISITORS: Plan = Plan { rate: 25, workers: 5, renew_after: 50, mix: Mix::Get };

/// Requests from which the neighbour's percentile is taken before anything happens.
const BASELINE: u64 = 500;

pub(super) async fn run(host: &Host, report: &mut Report) {
    let before = match baseline(host).await {
        Ok(before) => Some(before),
        Err(error) => {
            report.row("the neighbour, undisturbed", &Figure::new(format!("{error:#}"), false), "");
            None
        }
    };
    let visitors = host.edge().map(|edge| Load::start(&edge, &name(GOOD.1), VISITORS));
    if report.check("a memory hog is killed", "by the kernel", hog(host)).await {
        report.check("its operator is told", "memory, and the tier's 256 MB", told(host)).await;
        report.check("it is started again", "200", again(host)).await;
    }
    report.check("a fork bomb is stopped", "by the kernel, at 256", bomb(host)).await;
    report.check("a busy loop, meanwhile", "answers", burn(host)).await;
    match (before, visitors) {
        (Some(before), Ok(visitors)) => {
            let during = visitors.finish().await;
            neighbour(report, &before, &during);
        }
        (_, Err(error)) => {
            report.row("the neighbour meanwhile", &Figure::new(format!("{error:#}"), false), "");
        }
        _ => {}
    }
}

async fn baseline(host: &Host) -> anyhow::Result<Tally> {
    let load = Load::start(&host.edge()?, &name(GOOD.1), VISITORS);
    enough(&load, BASELINE).await?;
    Ok(load.finish().await)
}

/// Waits until so many more requests have begun.
pub(super) async fn enough(load: &Load, more: u64) -> anyhow::Result<()> {
    let wanted = load.sent() + more;
    poll::until("the visitors' requests", PATIENCE, async || {
        ensure!(load.sent() >= wanted, "{} of {wanted}", load.sent());
        Ok(())
    })
    .await
}

fn neighbour(report: &mut Report, before: &Tally, during: &Tally) {
    let [was, is] = [before, during].map(|tally| tally.percentile(99).as_secs_f64() * 1_000.0);
    let text = format!("p99 {was:.0} ms before, {is:.0} ms during, of {}", during.requests);
    report.row("the neighbour's p99 meanwhile", &Figure::new(text, is <= 2.0 * was), "within 2×");
    let text = format!("{} of {}", during.failed, during.requests);
    report.row("the neighbour's failed requests", &Figure::new(text, during.failed == 0), "0");
    if let Some(failure) = during.failures.first() {
        tracing::warn!("{failure:?}");
    }
}

async fn hog(host: &Host) -> anyhow::Result<Figure> {
    let before = host.memory_kills().await?;
    // The app dies of it, so there is no answer to wait for.
    let answer = host.visit(BAD.1, "/eat?mb=1024").await;
    let killed = poll::until("the kernel's kill", PATIENCE, async || {
        let kills = host.memory_kills().await?;
        ensure!(kills > before, "no kill; the app answered {answer:?}");
        Ok(kills - before)
    })
    .await?;
    Ok(Figure::new(format!("{killed} killed"), true))
}

async fn told(host: &Host) -> anyhow::Result<Figure> {
    let mut last = String::new();
    let told = poll::until("a word about memory", Duration::from_secs(45), async || {
        let status = host.status(BAD.0, BAD.1).await?;
        let words = ["failure", "warning", "waiting", "last_error", "last_crash", "last_exit"]
            .map(|key| &status[key])
            .into_iter()
            .filter(|value| !value.is_null())
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join("; ");
        last.clone_from(&words);
        ensure!(words.contains("memory") && words.contains("256"), "not the limit");
        Ok(words)
    })
    .await;
    Ok(match told {
        Ok(words) => Figure::new(words, true),
        Err(_) if last.is_empty() => Figure::new("nothing, in 45 s", false),
        Err(_) => Figure::new(last, false),
    })
}

async fn again(host: &Host) -> anyhow::Result<Figure> {
    let began = Instant::now();
    host.all_answer(&[BAD.1], PATIENCE).await?;
    Ok(Figure::new(format!("200 after {:.1} s more", began.elapsed().as_secs_f64()), true))
}

async fn bomb(host: &Host) -> anyhow::Result<Figure> {
    let limits = host.limits(BAD.0, BAD.1).await?;
    let events = format!("{}/pids.events", limits.cgroup);
    let edge = host.edge()?;
    // It answers when it has ended its processes, long after a visitor has left.
    let bomb =
        tokio::spawn(async move { edge.get(&name(BAD.1), "/spawn?count=2000&ms=2000").await });
    let refused = poll::until("a refusal by the kernel", PATIENCE, async || {
        let text = host.ssh().must(&["cat", &events]).await?;
        let count = text.trim().strip_prefix("max ").context("no count")?.parse::<u64>()?;
        ensure!(count > 0, "none refused yet");
        Ok(count)
    })
    .await;
    bomb.abort();
    let most = limits.values.get("pids.max").map_or("", String::as_str);
    Ok(Figure::new(format!("{} refused at {most}", refused?), most == "256"))
}

async fn burn(host: &Host) -> anyhow::Result<Figure> {
    let answer = host.visit(BAD.1, "/burn?ms=15000").await?;
    Ok(Figure::new(answer.text().trim(), answer.status == 200))
}
