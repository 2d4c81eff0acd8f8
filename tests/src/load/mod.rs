//! A load generator that counts every failure: verified TLS through the edge, GET and POST,
//! keep-alive and fresh connections, at a fixed rate regardless of the answers.
//!
//! ```text
//! start + k · interval ─► worker: [new connection each N requests] ─► GET / | POST /echo ─► tally
//! ```

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use http::Method;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::edge::{Edge, Visitor};
use crate::poll;

mod guesses;
mod sockets;
mod tally;

pub use guesses::{Guesses, Seen};
pub use sockets::Sockets;
pub use tally::{Failure, Outage, Tally};

#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// Requests per second, of all workers together.
    pub rate: u32,
    pub workers: u32,
    /// Each worker opens a new connection after this many requests.
    pub renew_after: u32,
    pub mix: Mix,
}

impl Default for Plan {
    fn default() -> Self {
        Self { rate: 3_000, workers: 48, renew_after: 40, mix: Mix::Both }
    }
}

/// What a worker requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mix {
    /// GET and POST in turn.
    Both,
    Get,
    /// Only POST with a body.
    Post,
}

impl Mix {
    fn method(self, turn: u32) -> Method {
        match self {
            Self::Get => Method::GET,
            Self::Both if turn.is_multiple_of(2) => Method::GET,
            Self::Both | Self::Post => Method::POST,
        }
    }
}

/// A running load.
#[derive(Debug)]
pub struct Load {
    workers: JoinSet<Tally>,
    stop: CancellationToken,
    started: Instant,
    sent: Arc<Mutex<Sent>>,
}

/// The requests of all workers, numbered in the order in which they begin.
#[derive(Debug, Default)]
struct Sent {
    begun: u64,
    under_way: BTreeSet<u64>,
}

impl Load {
    /// Starts sending to `host`.
    pub fn start(edge: &Edge, host: &str, plan: Plan) -> Self {
        Self::start_on(edge, &[host.to_owned()], plan)
    }

    /// Starts sending to all of `hosts`, with the workers distributed among them.
    pub fn start_on(edge: &Edge, hosts: &[String], plan: Plan) -> Self {
        let (stop, started) = (CancellationToken::new(), Instant::now());
        let sent = Arc::<Mutex<Sent>>::default();
        let mut workers = JoinSet::new();
        let interval = Duration::from_secs(1) * plan.workers / plan.rate;
        for (number, host) in (0..plan.workers).zip(hosts.iter().cycle()) {
            let first = started + interval * number / plan.workers;
            let worker = Worker {
                edge: edge.clone(),
                host: host.clone(),
                plan,
                body: Bytes::from(format!("{number:0>256}")),
                sent: Arc::clone(&sent),
                tally: Tally::default(),
            };
            workers.spawn(worker.run(first, interval, stop.clone()));
        }
        Self { workers, stop, started, sent }
    }

    /// Requests sent so far.
    pub fn sent(&self) -> u64 {
        lock(&self.sent).begun
    }

    /// Waits for the answers to all requests that have begun by now.
    pub async fn answered(&self) -> anyhow::Result<()> {
        let last = self.sent();
        let under_way = "requests under way";
        poll::until(under_way, Duration::from_secs(30), async || {
            let oldest = lock(&self.sent).under_way.first().copied();
            ensure!(oldest.is_none_or(|oldest| oldest > last), "request {oldest:?} is under way");
            Ok(())
        })
        .await
    }

    /// Stops; requests in flight are awaited and counted.
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

fn lock(sent: &Mutex<Sent>) -> std::sync::MutexGuard<'_, Sent> {
    sent.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Worker {
    edge: Edge,
    host: String,
    plan: Plan,
    body: Bytes,
    sent: Arc<Mutex<Sent>>,
    tally: Tally,
}

/// A connection and when it was started.
struct Kept {
    visitor: Visitor,
    opened: Instant,
}

impl Worker {
    async fn run(mut self, first: Instant, interval: Duration, stop: CancellationToken) -> Tally {
        let mut kept = None;
        let mut due = first;
        for turn in 0_u32.. {
            tokio::select! {
                () = stop.cancelled() => break,
                () = tokio::time::sleep_until(due.into()) => {}
            }
            if turn.is_multiple_of(self.plan.renew_after) {
                kept = None;
            }
            self.turn(&mut kept, turn).await;
            due += interval;
        }
        self.tally
    }

    async fn turn(&mut self, kept: &mut Option<Kept>, turn: u32) {
        if let Some(connection) = kept.as_mut()
            && connection.visitor.is_closed().await
        {
            *kept = None;
        }
        let began = Instant::now();
        let opened = kept.as_ref().map_or(began, |connection| connection.opened);
        self.tally.requests += 1;
        let number = {
            let mut sent = lock(&self.sent);
            sent.begun += 1;
            let number = sent.begun;
            sent.under_way.insert(number);
            number
        };
        let method = self.plan.mix.method(turn);
        match self.request(kept, method.clone()).await {
            Ok(version) => *self.tally.versions.entry(version).or_default() += 1,
            Err(error) => {
                *kept = None;
                let error = format!("{method}, request {turn}: {error:#}");
                let (host, ended) = (self.host.clone(), Instant::now());
                self.tally.fail(Failure { host, opened, began, ended, error });
            }
        }
        lock(&self.sent).under_way.remove(&number);
        self.tally.micros.push(began.elapsed().as_micros().try_into().unwrap_or(u32::MAX));
    }

    /// An answer that is not the app's own counts as a failure.
    async fn request(&self, kept: &mut Option<Kept>, method: Method) -> anyhow::Result<String> {
        let connection = if let Some(connection) = kept {
            connection
        } else {
            let opened = Instant::now();
            let visitor = self.edge.connect(&self.host).await?;
            kept.insert(Kept { visitor, opened })
        };
        let (path, body) = match method {
            Method::GET => ("/", Bytes::new()),
            _ => ("/echo", self.body.clone()),
        };
        let answer = connection.visitor.send(method, path, body).await?;
        ensure!(answer.status == 200, "{path}: status {}", answer.status);
        let right =
            if path == "/" { answer.body.starts_with(b"hello ") } else { answer.body == self.body };
        ensure!(right, "{path}: another body: {:?}", answer.text());
        Ok(answer.version().context("no version header")?.to_owned())
    }
}
