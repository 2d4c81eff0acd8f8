//! Concurrent API use: races have one winner, and neither guesses nor slow clients lock others out.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use buddo_shared::api::deploy::CreateDeployment;
use buddo_tests::api::{Reply, request};
use buddo_tests::edge::Edge;
use buddo_tests::load::Guesses;
use buddo_tests::poll;
use buddo_tests::product::{IMAGE, Limits, Options, PORT, Product};
use buddo_tests::world::Lease;
use futures_util::future::{join_all, try_join_all};
use reqwest::Method;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

const APPS: &str = "/api/deploy/apps";

fn body(name: &str) -> anyhow::Result<Value> {
    let request: CreateDeployment = request(name, IMAGE, PORT);
    Ok(serde_json::to_value(request)?)
}

fn ids(answers: &[Reply]) -> Vec<&Value> {
    answers.iter().map(|reply| &reply.json["deployment"]["id"]).collect()
}

/// `fm_43`, `fm_44`.
#[tokio::test]
async fn concurrent_creates_respect_the_limit_and_the_idempotency_key() -> anyhow::Result<()> {
    Lease::run(async |world| {
        let options = Options { limits: Limits::Single, ..Options::default() };
        let product = Product::up(world, options).await?;
        // Without its image the first one would soon fail, and no longer count.
        product.publish_images(false).await?;
        let api = product.operator("racer").await?;
        let bodies = (0..100).map(|n| body(&format!("race-{n}"))).collect::<Result<Vec<_>, _>>()?;
        let creates = bodies.iter().map(|body| api.call(Method::POST, APPS, Some(body)));
        let answers = try_join_all(creates).await?;
        let made = answers.iter().filter(|reply| reply.status == 201).count();
        let refused = answers
            .iter()
            .filter(|reply| reply.status == 429 && reply.json["code"] == "deployment_limit_reached")
            .count();
        ensure!((made, refused) == (1, 99), "{made} made, {refused} refused");
        ensure!(api.list().await?.len() == 1, "one is listed");

        let api = product.operator("retrier").await?;
        let body = body("again")?;
        let headers = [("Idempotency-Key", "5f0c7a1e")];
        let creates = (0..50).map(|_| api.call_with(Method::POST, APPS, Some(&body), &headers));
        let answers = try_join_all(creates).await?;
        ensure!(answers.iter().all(|reply| reply.status == 201), "{answers:?}");
        let first = answers[0].json.clone();
        ensure!(answers.iter().all(|reply| reply.json == first), "{:?}", ids(&answers));
        ensure!(api.list().await?.len() == 1, "one is listed");
        Ok(())
    })
    .await
}

/// At 10 a minute from one address, nearly all of them are refused.
const GUESSES: Guesses = Guesses { count: 10_000, at_once: 50, every: Duration::ZERO };
/// Memory that they may take, in KiB: what a few passwords being checked at once need.
const GROWTH_KIB: u64 = 96 * 1024;

#[tokio::test]
async fn a_login_flood_is_rate_limited_while_others_are_served() -> anyhow::Result<()> {
    Lease::run(async |world| {
        let options = Options { limits: Limits::Published, ..Options::default() };
        let product = Product::up(world, options).await?;
        let seen = GUESSES.run(&product).await?;
        let minutes = usize::try_from(seen.elapsed.as_secs() / 60 + 1)?;
        let turned_away = seen.turned_away;
        ensure!(turned_away >= GUESSES.count - 10 * minutes, "{turned_away} in {minutes} minutes");
        let grown = seen.grown_kib;
        ensure!(grown < GROWTH_KIB, "it has grown by {grown} KiB");
        Ok(())
    })
    .await
}

const SLOW: usize = 1_000;

/// Half a head, or half a body, and no more.
#[tokio::test]
async fn fm_49_slow_clients_do_not_block_service_and_time_out() -> anyhow::Result<()> {
    Lease::run(async |world| {
        let product = Product::up(world, Options::default()).await?;
        let api = product.operator("quick").await?;
        let door = product.api_door()?;
        let head = "GET /health HTTP/1.1\r\nHost: localhost\r\nX-Slow: ";
        let half = "POST /api/auth/login HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\
                    Content-Type: application/json\r\n\r\n{";
        let mut slow = Vec::new();
        for n in 0..SLOW {
            let text = if n % 2 == 0 { head } else { half };
            slow.push(sent(&door, text).await?);
        }
        // All of them wait; others are served as ever.
        for n in 0..20 {
            let reply = api.call(Method::GET, "/api/deploy/tiers", None).await?;
            ensure!(reply.status == 200, "{reply:?}");
            let name = format!("late-{n}");
            let password = format!("a-strong-password-{n}");
            product.api()?.register(&format!("{name}@example.com"), &name, &password).await?;
        }
        let ends = slow.into_iter().map(async |mut stream| {
            let mut said = Vec::new();
            // Cut off, or answered with an error and closed.
            let read = tokio::time::timeout(Duration::from_secs(30), stream.read_to_end(&mut said));
            read.await.context("a slow client is not let go").map(|_| said)
        });
        let ends = join_all(ends).await.into_iter().collect::<Result<Vec<_>, _>>()?;
        let told = ends.iter().filter(|said| said.starts_with(b"HTTP/1.1 408")).count();
        ensure!(told >= SLOW / 2, "only {told} got 408");
        poll::until("the service", Duration::from_secs(10), async || {
            let reply = api.call(Method::GET, "/readyz", None).await?;
            ensure!(reply.status == 200, "{reply:?}");
            Ok(())
        })
        .await
    })
    .await
}

async fn sent(door: &Edge, text: &str) -> anyhow::Result<TlsStream<TcpStream>> {
    let mut stream = door.tls("localhost").await?;
    stream.write_all(text.as_bytes()).await?;
    stream.flush().await?;
    Ok(stream)
}
