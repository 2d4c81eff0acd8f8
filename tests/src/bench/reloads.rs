//! Many apps at once: plain ones, and ones with custom domains.

use std::time::{Duration, Instant};

use anyhow::ensure;
use buddo_shared::api::deploy::Status;
use buddo_shared::host_wire::manifest::{DeploymentSpec, Manifest, SCHEMA};
use buddo_shared::model::id::{DeploymentId, Generation};
use buddo_shared::model::name::HostName;
use futures_util::future::try_join_all;
use jiff::{SignedDuration, Timestamp};
use nix::sys::signal::Signal;

use super::{Sizes, create, sheet};
use crate::api::request;
use crate::impostor::{self, Impostor};
use crate::load::{Load, Mix, Plan, Tally};
use crate::poll;
use crate::product::{IMAGE, Options, PORT, Product, ZONE};
use crate::trials::redeploys::reloads;
use crate::world::Lease;

const PATIENCE: Duration = Duration::from_mins(5);

pub(super) async fn measure(sizes: Sizes) -> anyhow::Result<()> {
    let world = Lease::new().await?;
    let product = Product::up(&world, Options::default()).await?;
    product.publish_images(false).await?;
    let api = product.operator("bench").await?;
    let asked = create(&api, 0, 1).await?.remove(0).id.parse()?;
    let plan = Plan { rate: 200, workers: 8, renew_after: 20, mix: Mix::Both };
    let other = || anyhow::Ok(Load::start(&product.edge()?, &format!("app-0.{ZONE}"), plan));

    let (load, before, began) = (other()?, reloads(&world)?, Instant::now());
    let created = (0..sizes.burst).map(async |number| {
        let made = api.create(&request(&format!("burst-{number}"), IMAGE, PORT)).await?;
        api.reaches(&made.id, Status::Running, 1).await
    });
    try_join_all(created).await?;
    let what = format!("{} plain apps created at once", sizes.burst);
    show(&what, began, reloads(&world)? - before, "0 reloads", &load.finish().await);

    // The same host by a document with as many other apps, each with a domain; beside them the
    // app that is asked.
    world.stop("coordinator", Signal::SIGKILL).await?;
    let impostor = Impostor::of(&product)?;
    let envelope = impostor.signer.sign(&document(&impostor, asked, sizes.burst)?)?.bytes;
    let (load, before, began) = (other()?, reloads(&world)?, Instant::now());
    let (status, said) = impostor.offer(&impostor.coordinator()?, envelope).await?;
    ensure!(status == 200, "{status} {said}");
    let routes = world.layout().path("agent/caddy/routes");
    poll::until("all domains", PATIENCE, async || {
        let files = std::fs::read_dir(&routes)?.count();
        ensure!(files > sizes.burst as usize, "{files} route files");
        Ok(())
    })
    .await?;
    let what = format!("{} domains at once", sizes.burst);
    show(&what, began, reloads(&world)? - before, "2 reloads/s at most", &load.finish().await);
    Ok(())
}

fn show(what: &str, began: Instant, reloads: usize, bar: &str, tally: &Tally) {
    let took = began.elapsed().as_secs_f64();
    sheet::line(what, &format!("{reloads} reloads in {took:.1} s"), bar);
    let (p99, longest) = (tally.percentile(99), tally.percentile(100));
    let figure = format!("{} failed, p99 {p99:.1?}, worst {longest:.1?}", tally.failed);
    sheet::line(&format!("{what}: another app's requests"), &figure, "0 failed");
}

fn document(on: &Impostor, asked: DeploymentId, apps: u32) -> anyhow::Result<Manifest> {
    #[expect(clippy::disallowed_methods, reason = "documents for a real agent need real time")]
    let now = Timestamp::now();
    let app = |id: DeploymentId, name: &str, domains: Vec<HostName>| {
        let service = impostor::service(IMAGE, 1)?;
        anyhow::Ok(DeploymentSpec { domains, ..impostor::deployment(id, name, service)? })
    };
    let mut deployments = vec![app(asked, "app-0", Vec::new())?];
    for number in 0..apps {
        let domain = HostName::parse(&format!("www-{number}.example.org"))?;
        let id = DeploymentId::new(uuid::Uuid::from_u128(u128::from(number) + 1));
        deployments.push(app(id, &format!("own-{number}"), vec![domain])?);
    }
    Ok(Manifest {
        schema: SCHEMA,
        host_id: on.host,
        generation: Generation { epoch: 1_000_000_000_000, generation: 1 },
        issued_at: now,
        expires_at: now + SignedDuration::from_hours(1),
        zone: HostName::parse(ZONE)?,
        deployments,
        trust: None,
    })
}
