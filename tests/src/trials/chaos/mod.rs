//! Apps under load while everything beside them is killed at random and they are redeployed.
//!
//! ```text
//! seed ─► schedule ─► kill agent | Podman | Caddy | coordinator | resolver, redeploy an app
//! load on all apps ─► tally ─┐
//! Caddy's absences ──────────┴─► what was lost to anything else: nothing may be
//! afterwards ─► containers, secrets, routes, addresses, API: exactly what should be
//! ```

mod end;
mod killer;
mod outcome;
mod schedule;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use buddo_shared::api::deploy::Status;
use buddo_shared::model::secret::Secret;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::sync::mpsc;

pub use outcome::{Ended, Outcome, Redeploys};
pub use schedule::{Action, Victim, draw};

use killer::Killer;

use crate::api::{Api, request};
use crate::load::{Load, Plan, Sockets};
use crate::poll;
use crate::product::{IMAGE, PORT, Product, ZONE};

/// How long a redeploy may go unanswered while the coordinator is being killed.
const PATIENCE: Duration = Duration::from_mins(2);

/// A redeploy that by then neither serves, nor was given up, nor was superseded is stuck.
const GIVEN_UP: Duration = Duration::from_secs(90);

/// A redeploy that takes longer is reported with its audit log.
const SLOW: Duration = Duration::from_secs(10);

#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// What the schedule is drawn from.
    pub seed: u64,
    pub length: Duration,
    /// Between two events, on average.
    pub pace: Duration,
    pub apps: u32,
    /// Apps that are never redeployed: a WebSocket to each lives until Caddy is killed.
    pub steady: u32,
    pub load: Plan,
}

impl Settings {
    pub fn schedule(&self) -> Vec<(Duration, Action)> {
        draw(self.seed, self.length, self.pace, self.steady, self.apps)
    }
}

/// Runs it. [`Outcome::verdict`] judges.
pub async fn run(product: &Product<'_>, settings: Settings) -> anyhow::Result<Outcome> {
    product.publish_images(false).await?;
    let api = product.operator("ada").await?;
    let edge = product.edge()?;
    let ids = create(&api, settings.apps).await?;
    let hosts: Vec<String> = (0..settings.apps).map(host).collect();

    let load = Load::start_on(&edge, &hosts, settings.load);
    let sockets = Sockets::open(&edge, &hosts[..settings.steady as usize]);
    let began = Instant::now();
    let (orders, ordered) = mpsc::unbounded_channel();
    let disturb = async {
        let mut killer = Killer::new(product.world);
        // Moved in: dropping it signals that no further redeploy comes.
        let orders = orders;
        for (at, action) in settings.schedule() {
            tokio::time::sleep_until((began + at).into()).await;
            tracing::info!(at = format!("{:.1} s", at.as_secs_f64()), %action);
            match action {
                Action::Kill(victim) => killer.kill(victim)?,
                Action::Redeploy(app) => {
                    let id = ids.get(app as usize).context("the schedule names no such app")?;
                    orders.send(id.clone())?;
                }
            }
        }
        tokio::time::sleep_until((began + settings.length).into()).await;
        killer.finish().await
    };
    let ((outages, kills), done) = tokio::try_join!(disturb, redeploys(&api, ordered))?;
    let over = began + settings.length;
    end::check(product, &api, &ids, &hosts).await?;
    let settled = over.elapsed();
    let (requests, messages) = (load.finish().await, sockets.finish().await);
    let redeploys = Redeploys::of(done, settled);
    Ok(Outcome { seed: settings.seed, requests, messages, outages, kills, redeploys })
}

fn name(app: u32) -> String {
    format!("app-{app}")
}

fn host(app: u32) -> String {
    format!("{}.{ZONE}", name(app))
}

/// The apps, all live; each has an environment, so that there are secrets to maintain.
async fn create(api: &Api, apps: u32) -> anyhow::Result<Vec<String>> {
    let mut ids = Vec::new();
    for app in 0..apps {
        let mut wanted = request(&name(app), IMAGE, PORT);
        let value = Secret::new(format!("of {}", name(app)));
        wanted.env_vars = Some(BTreeMap::from([("KEY".to_owned(), value)]));
        ids.push(api.create(&wanted).await?.id);
    }
    for id in &ids {
        api.reaches(id, Status::Running, 1).await?;
    }
    Ok(ids)
}

/// Carries out redeploys, several at once if needed, until no further one comes.
async fn redeploys(
    api: &Api,
    mut orders: mpsc::UnboundedReceiver<String>,
) -> anyhow::Result<Vec<Ended>> {
    let (mut running, mut all) = (FuturesUnordered::new(), Vec::new());
    let mut more = true;
    while more || !running.is_empty() {
        tokio::select! {
            order = orders.recv(), if more => {
                more = order.is_some();
                running.extend(order.map(|id| redeploy(api, id)));
            }
            Some(done) = running.next() => all.push(done?),
        }
    }
    Ok(all)
}

/// Restarts an app, retrying until the coordinator has accepted. Measures from the answer until
/// the API says that the new revision serves, was given up, or was superseded.
async fn redeploy(api: &Api, id: String) -> anyhow::Result<Ended> {
    let accepted =
        poll::until("a restart to be accepted", PATIENCE, async || api.act(&id, "restart").await);
    let revision = accepted.await?.revision;
    let began = Instant::now();
    let what = format!("deployment {id} to end its redeploy to revision {revision}");
    let ended = poll::until(&what, GIVEN_UP, async || {
        let deployment = api.deployment(&id).await?;
        let newer = deployment.revision > revision;
        ensure!(newer || deployment.status == Status::Running, "{deployment:?}");
        Ok(deployment)
    });
    let reached = ended.await?;
    if reached.revision > revision {
        // The caller that requested that one measures how long it takes.
        return Ok(Ended::Superseded);
    }
    let took = began.elapsed();
    let failed = reached.last_error;
    if took > SLOW || failed.is_some() {
        let log = api.logs(&id).await?.logs;
        let (app, serves) = (reached.subdomain, reached.revision);
        tracing::warn!(
            ?took,
            ?failed,
            app,
            revision,
            serves,
            ?log,
            "a redeploy was slow or failed"
        );
    }
    Ok(Ended::Reached { took, failed })
}
