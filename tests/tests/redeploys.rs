//! Redeploys under load: no request is lost, no other app notices.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use buddo_shared::api::deploy::Status;
use buddo_tests::api::{Api, request};
use buddo_tests::load::{Load, Plan};
use buddo_tests::product::{IMAGE, Options, PORT, Product, ZONE};
use buddo_tests::world::{Lease, World};
use futures_util::{SinkExt as _, StreamExt as _};
use tokio_tungstenite::tungstenite::Message;

const RESTARTS: u32 = 20;
const OTHERS: u32 = 30;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn restarts_under_load_lose_no_request_and_other_apps_notice_nothing() -> anyhow::Result<()> {
    Lease::run(async |world| {
        let product = Product::up(world, Options::default()).await?;
        product.publish_images(false).await?;
        let api = product.operator("ada").await?;
        let edge = product.edge()?;
        let busy = api.create(&request("busy", IMAGE, PORT)).await?;
        let quiet = api.create(&request("quiet", IMAGE, PORT)).await?;
        api.reaches(&busy.id, Status::Running, 1).await?;
        api.reaches(&quiet.id, Status::Running, 1).await?;

        let mut socket = edge.websocket(&format!("quiet.{ZONE}")).await?;
        let loads = reloads(world)?;
        let load = Load::start(&edge, &format!("busy.{ZONE}"), Plan::default());
        let restarts = async {
            for _ in 0..RESTARTS {
                let restarted = api.act(&busy.id, "restart").await?;
                api.reaches(&busy.id, Status::Running, restarted.revision).await?;
                socket.send(Message::text("still there?")).await.context("the WebSocket closed")?;
                let echoed = tokio::time::timeout(Duration::from_secs(10), socket.next()).await?;
                ensure!(
                    matches!(echoed, Some(Ok(Message::Text(_)))),
                    "the WebSocket closed: {echoed:?}"
                );
            }
            anyhow::Ok(())
        };
        tokio::try_join!(restarts, come_and_go(&api))?;
        let tally = load.finish().await;
        report(&tally);
        tally.without_failure()?;
        ensure!(reloads(world)? == loads, "the life of an app reloaded Caddy");
        ensure!(tally.rate() > 1_000.0, "only {:.0} requests/s were reached", tally.rate());
        Ok(())
    })
    .await
}

/// Other apps are created and destroyed meanwhile, a few at a time.
async fn come_and_go(api: &Api) -> anyhow::Result<()> {
    for batch in 0..OTHERS / 3 {
        let mut made = Vec::new();
        for number in 0..3 {
            let name = format!("other-{batch}-{number}");
            made.push(api.create(&request(&name, IMAGE, PORT)).await?);
        }
        for deployment in made {
            api.reaches(&deployment.id, Status::Running, 1).await?;
            api.destroy(&deployment.id).await?;
        }
    }
    Ok(())
}

/// How often Caddy put a configuration in force. The agent offers the one it wants once a minute,
/// in case Caddy runs another; an unchanged one is no reload.
fn reloads(world: &World) -> anyhow::Result<usize> {
    let log = std::fs::read_to_string(world.layout().path("log/caddy.log"))?;
    Ok(log.matches("admin endpoint started").count())
}

#[expect(clippy::print_stderr, reason = "the figures of the run")]
fn report(tally: &buddo_tests::load::Tally) {
    eprintln!(
        "{} requests at {:.0}/s, {} failed; p50 {:?}, p99 {:?}",
        tally.requests,
        tally.rate(),
        tally.failed,
        tally.percentile(50),
        tally.percentile(99),
    );
}
