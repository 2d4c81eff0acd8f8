//! A redeploy by `recreate` under load: the old version stops before the new one starts, which
//! takes seconds in which nothing runs at all. Requests are held meanwhile.
//!
//! The documents are the test's own: the API need not offer every strategy that a host supports.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use buddo_shared::host_wire::manifest::{Manifest, SCHEMA, ServiceSpec, Strategy};
use buddo_shared::model::id::{DeploymentId, Generation};
use buddo_shared::model::name::HostName;
use jiff::{SignedDuration, Timestamp};
use nix::sys::signal::Signal;

use crate::image::{Layer, publish};
use crate::impostor::{self, Impostor};
use crate::load::{Load, Mix, Plan, Tally};
use crate::poll;
use crate::product::{Product, ZONE};
use crate::world::Caddy;

/// How long the app takes before it listens.
const START_DELAY_MS: &str = "3000";
const APP: &str = "slow";
const PATIENCE: Duration = Duration::from_mins(1);
/// How long Caddy holds a request, and some time for its answer.
const HOLD: Duration = Duration::from_secs(12);

/// Runs it with requests of one kind; returns what the load saw, failures included.
pub async fn run(product: &Product<'_>, mix: Mix) -> anyhow::Result<Tally> {
    let layer = Layer::of_program(&product.world.binary("buddo-web"))?;
    for version in ["v1", "v2"] {
        let env = [("VERSION", version), ("START_DELAY_MS", START_DELAY_MS)];
        publish(product.world, &layer, "demo/slow", version, &env).await?;
    }
    product.world.stop("coordinator", Signal::SIGKILL).await?;
    let impostor = Impostor::of(product)?;
    let edge = product.edge()?;
    let host = format!("{APP}.{ZONE}");
    let serves = async |version: &str| {
        poll::until(version, PATIENCE, async || {
            let answer = edge.get(&host, "/").await?;
            ensure!(answer.status == 200 && answer.version() == Some(version), "{answer:?}");
            Ok(())
        })
        .await
    };

    offer(&impostor, 1).await?;
    serves("v1").await?;
    let plan = Plan { rate: 200, workers: 20, renew_after: 10, mix };
    let load = Load::start(&edge, &host, plan);
    poll::until("requests to v1", PATIENCE, async || {
        ensure!(load.sent() >= 200, "{} were sent", load.sent());
        Ok(())
    })
    .await?;
    offer(&impostor, 2).await?;
    serves("v2").await?;
    let sent = load.sent();
    poll::until("requests to v2", PATIENCE, async || {
        ensure!(load.sent() >= sent + 200, "{} were sent", load.sent());
        Ok(())
    })
    .await?;
    let tally = load.finish().await;
    let answered: Vec<_> = tally.versions.keys().map(String::as_str).collect();
    ensure!(answered == ["v1", "v2"], "{answered:?} answered");
    Ok(tally)
}

async fn offer(impostor: &Impostor, revision: u32) -> anyhow::Result<()> {
    let manifest = document(impostor, revision)?;
    let envelope = impostor.signer.sign(&manifest)?.bytes;
    let (status, said) = impostor.offer(&impostor.coordinator()?, envelope).await?;
    ensure!(status == 200, "{status} {said}");
    Ok(())
}

fn document(on: &Impostor, revision: u32) -> anyhow::Result<Manifest> {
    #[expect(clippy::disallowed_methods, reason = "documents for a real agent need real time")]
    let now = Timestamp::now();
    let image = format!("harbor.buddo.xyz:4443/demo/slow:v{revision}");
    let service =
        ServiceSpec { strategy: Strategy::Recreate, ..impostor::service(&image, revision)? };
    let id = DeploymentId::new(uuid::Uuid::from_u128(1));
    let desired = impostor::deployment(id, APP, service)?;
    Ok(Manifest {
        schema: SCHEMA,
        host_id: on.host,
        generation: Generation { epoch: 1000, generation: revision.into() },
        issued_at: now,
        expires_at: now + SignedDuration::from_hours(1),
        zone: HostName::parse(ZONE).context("the zone")?,
        deployments: vec![desired],
        trust: None,
    })
}

/// What each Caddy must do: hold all requests, except POSTs on the distribution's, which answers
/// them with 502 (caddy#7546). Even those are answered, and none waits longer than the others.
pub fn judge(tally: &Tally, caddy: Caddy, mix: Mix) -> anyhow::Result<()> {
    if caddy == Caddy::Current || mix == Mix::Get {
        return tally.without_failure().map(drop);
    }
    ensure!(tally.requests > 0, "no request was sent");
    let other = tally.failures.iter().find(|failure| !failure.error.contains("status 502"));
    ensure!(other.is_none(), "a request was neither held nor refused: {other:?}");
    let longest = tally.percentile(100);
    ensure!(longest < HOLD, "a request hung for {longest:?}");
    Ok(())
}
