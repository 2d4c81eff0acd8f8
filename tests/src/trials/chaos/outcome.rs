//! The outcome of a run, for people and for the verdict.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use anyhow::{Context as _, ensure};

use super::Victim;
use crate::load::{Outage, Tally};

/// The outcome of a run that ended in the desired state.
#[derive(Debug)]
pub struct Outcome {
    /// What the schedule was drawn from.
    pub seed: u64,
    /// The load on the apps.
    pub requests: Tally,
    pub messages: Tally,
    pub outages: Vec<Outage>,
    /// How often each service was killed.
    pub kills: BTreeMap<Victim, u32>,
    pub redeploys: Redeploys,
}

/// How long changes took.
#[derive(Debug)]
pub struct Redeploys {
    /// From each answer of the API until it said that the revision serves, sorted.
    pub took: Vec<Duration>,
    /// How many were superseded by a newer one of the same app before they served.
    pub superseded: usize,
    /// Why redeploys were given up. None can fail by itself.
    pub failed: Vec<String>,
    /// From the last event until everything was as it should be.
    pub settled: Duration,
}

/// How a redeploy ended.
#[derive(Debug)]
pub enum Ended {
    /// After so long; why it was given up, if it was.
    Reached {
        /// From the API's answer.
        took: Duration,
        /// The deployment's `last_error`.
        failed: Option<String>,
    },
    /// A newer one of the same app was requested first.
    Superseded,
}

impl Redeploys {
    /// The outcome; everything was as it should be after `settled`.
    pub(super) fn of(ended: Vec<Ended>, settled: Duration) -> Self {
        let mut all = Self { took: Vec::new(), superseded: 0, failed: Vec::new(), settled };
        for one in ended {
            match one {
                Ended::Superseded => all.superseded += 1,
                Ended::Reached { took, failed } => {
                    all.took.push(took);
                    all.failed.extend(failed);
                }
            }
        }
        all.took.sort_unstable();
        all
    }
}

impl Outcome {
    /// Fails if anything was lost for another reason than Caddy's own absence, or a redeploy was
    /// given up.
    pub fn verdict(&self) -> anyhow::Result<()> {
        self.requests.without_failure_but(&self.outages).context("requests")?;
        self.messages.without_failure_but(&self.outages).context("WebSockets")?;
        ensure!(self.redeploys.failed.is_empty(), "given up: {:?}", self.redeploys.failed);
        Ok(())
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut row = |what: &str, value: String| writeln!(f, "{what:34} {value}");
        row("seed", self.seed.to_string())?;
        for (what, tally) in [("requests", &self.requests), ("WebSocket messages", &self.messages)]
        {
            let lost = tally.unexplained(&self.outages);
            row(what, format!("{} at {:.0}/s", tally.requests, tally.rate()))?;
            row("  p50, p99, longest", {
                let at = |percent| tally.percentile(percent);
                format!("{:.1?}, {:.1?}, {:.1?}", at(50), at(99), at(100))
            })?;
            row("  failed in Caddy's absences", (tally.failed - lost).to_string())?;
            row("  failed for any other cause", lost.to_string())?;
        }
        let away: Vec<Duration> = self.outages.iter().map(|o| o.until - o.from).collect();
        let longest = away.iter().max().copied().unwrap_or_default();
        let sum: Duration = away.iter().sum();
        row(
            "Caddy's absences",
            format!("{}, {sum:.1?} in all, {longest:.1?} at most", away.len()),
        )?;
        let kills = self.kills.iter().map(|(victim, n)| format!("{} {n}", victim.service()));
        row("kills", kills.collect::<Vec<_>>().join(", "))?;
        let took = |percent: usize| {
            let took = &self.redeploys.took;
            let index = (took.len() * percent / 100).min(took.len().saturating_sub(1));
            took.get(index).copied().unwrap_or_default()
        };
        row("redeploys", self.redeploys.took.len().to_string())?;
        row("  p50, p99, longest", {
            format!("{:.1?}, {:.1?}, {:.1?}", took(50), took(99), took(100))
        })?;
        row("  made way for a newer one", self.redeploys.superseded.to_string())?;
        row("  given up", self.redeploys.failed.len().to_string())?;
        row("settled after the last event in", format!("{:.1?}", self.redeploys.settled))
    }
}
