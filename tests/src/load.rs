//! A load generator that counts every failure: verified TLS through the edge, GET and POST,
//! connections kept alive and fresh ones, at a fixed rate whatever the answers do.
//!
//! ```text
//! start + k · interval ─► worker: [new connection each N requests] ─► GET / | POST /echo ─► tally
//! ```

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use http::Method;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::edge::{Edge, Visitor};

/// How hard.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// Requests per second, of all workers together.
    pub rate: u32,
    /// Connections at once.
    pub workers: u32,
    /// Each worker opens a new connection after this many requests.
    pub renew_after: u32,
}

impl Default for Plan {
    fn default() -> Self {
        Self { rate: 3_000, workers: 48, renew_after: 40 }
    }
}

/// What was seen.
#[derive(Debug, Default)]
pub struct Tally {
    /// Requests that were sent.
    pub requests: u64,
    /// Requests that failed, or were answered wrongly.
    pub failed: u64,
    /// The first failures of each worker, in words.
    pub failures: Vec<String>,
    /// Requests by the version that answered.
    pub versions: BTreeMap<String, u64>,
    /// Duration of each request, microseconds, sorted.
    pub micros: Vec<u32>,
    /// From start to finish.
    pub elapsed: Duration,
}

impl Tally {
    /// Requests per second that were reached.
    pub fn rate(&self) -> f64 {
        let requests = u32::try_from(self.requests).unwrap_or(u32::MAX);
        f64::from(requests) / self.elapsed.as_secs_f64()
    }

    /// The duration that `percent` per cent of the requests stayed within.
    pub fn percentile(&self, percent: usize) -> Duration {
        let index = (self.micros.len() * percent / 100).min(self.micros.len().saturating_sub(1));
        Duration::from_micros(self.micros.get(index).copied().unwrap_or(0).into())
    }

    /// Fails unless requests were sent and every one of them succeeded.
    pub fn without_failure(&self) -> anyhow::Result<&Self> {
        ensure!(self.requests > 0, "no request was sent");
        ensure!(
            self.failed == 0,
            "{} of {} requests failed: {:#?}",
            self.failed,
            self.requests,
            self.failures
        );
        Ok(self)
    }

    fn add(&mut self, other: Self) {
        self.requests += other.requests;
        self.failed += other.failed;
        self.failures.extend(other.failures);
        self.micros.extend(other.micros);
        for (version, count) in other.versions {
            *self.versions.entry(version).or_default() += count;
        }
    }
}

/// A load that runs.
#[derive(Debug)]
pub struct Load {
    workers: JoinSet<Tally>,
    stop: CancellationToken,
    started: Instant,
}

impl Load {
    /// Starts to send to `host`.
    pub fn start(edge: &Edge, host: &str, plan: Plan) -> Self {
        let (stop, started) = (CancellationToken::new(), Instant::now());
        let mut workers = JoinSet::new();
        let interval = Duration::from_secs(1) * plan.workers / plan.rate;
        for number in 0..plan.workers {
            let first = started + interval * number / plan.workers;
            let worker = Worker {
                edge: edge.clone(),
                host: host.to_owned(),
                renew_after: plan.renew_after,
                body: Bytes::from(format!("{number:0>256}")),
                tally: Tally::default(),
            };
            workers.spawn(worker.run(first, interval, stop.clone()));
        }
        Self { workers, stop, started }
    }

    /// Stops; what is in flight is awaited and counted.
    pub async fn finish(self) -> Tally {
        self.stop.cancel();
        let mut tally = Tally::default();
        for part in self.workers.join_all().await {
            tally.add(part);
        }
        tally.elapsed = self.started.elapsed();
        tally.micros.sort_unstable();
        tally
    }
}

struct Worker {
    edge: Edge,
    host: String,
    renew_after: u32,
    body: Bytes,
    tally: Tally,
}

impl Worker {
    async fn run(mut self, first: Instant, interval: Duration, stop: CancellationToken) -> Tally {
        let mut visitor = None;
        let mut due = first;
        for turn in 0_u32.. {
            tokio::select! {
                () = stop.cancelled() => break,
                () = tokio::time::sleep_until(due.into()) => {}
            }
            if turn.is_multiple_of(self.renew_after) {
                visitor = None;
            }
            let began = Instant::now();
            self.tally.requests += 1;
            match self.request(&mut visitor, turn).await {
                Ok(version) => *self.tally.versions.entry(version).or_default() += 1,
                Err(error) => {
                    visitor = None;
                    self.tally.failed += 1;
                    if self.tally.failures.len() < 5 {
                        self.tally.failures.push(format!("request {turn}: {error:#}"));
                    }
                }
            }
            self.tally.micros.push(began.elapsed().as_micros().try_into().unwrap_or(u32::MAX));
            due += interval;
        }
        self.tally
    }

    /// GET and POST in turn; an answer that is not the app's own counts as a failure.
    async fn request(&self, kept: &mut Option<Visitor>, turn: u32) -> anyhow::Result<String> {
        if let Some(visitor) = kept.as_mut()
            && visitor.is_closed().await
        {
            *kept = None;
        }
        let visitor = match kept {
            Some(visitor) => visitor,
            None => kept.insert(self.edge.connect(&self.host).await?),
        };
        let (method, path, body) = if turn.is_multiple_of(2) {
            (Method::GET, "/", Bytes::new())
        } else {
            (Method::POST, "/echo", self.body.clone())
        };
        let answer = visitor.send(method.clone(), path, body).await.context(method.clone())?;
        ensure!(answer.status == 200, "{method} {path}: status {}", answer.status);
        let right =
            if path == "/" { answer.body.starts_with(b"hello ") } else { answer.body == self.body };
        ensure!(right, "{method} {path}: another body: {:?}", answer.text());
        Ok(answer.version().context("no version header")?.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_single_failure_is_an_error_and_so_is_no_request() {
        let good = Tally { requests: 10, ..Tally::default() };
        assert!(good.without_failure().is_ok());
        assert!(Tally { failed: 1, ..good }.without_failure().is_err());
        assert!(Tally::default().without_failure().is_err());
    }

    #[test]
    fn percentiles_are_of_the_sorted_durations() {
        let tally = Tally { micros: (1..=100).collect(), ..Tally::default() };
        assert_eq!(tally.percentile(50), Duration::from_micros(51));
        assert_eq!(tally.percentile(100), Duration::from_micros(100));
        assert_eq!(Tally::default().percentile(50), Duration::ZERO);
    }
}
