//! The API: status polls over keep-alive connections, logins at the real cost of a password, and
//! the effect of mass guessing on others.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use futures_util::future::try_join_all;
use reqwest::Method;
use serde_json::json;

use super::bare::Bare;
use super::poller::Pollers;
use super::{Sizes, ms, sheet};
use crate::api::request;
use crate::load::Guesses;
use crate::product::{IMAGE, Limits, Options, PORT, Product};
use crate::world::{Lease, World};

/// About the length of a status.
const STATUS_BYTES: usize = 200;
const LOGINS: usize = 8;
/// Guesses from one address, 10,000 in a minute.
const GUESSES: Guesses = Guesses { count: 10_000, at_once: 50, every: Duration::from_millis(300) };

pub(super) async fn measure(sizes: Sizes) -> anyhow::Result<()> {
    polls_and_logins(Duration::from_secs(sizes.seconds.min(20))).await?;
    guesses().await
}

async fn polls_and_logins(time: Duration) -> anyhow::Result<()> {
    let world = Lease::new().await?;
    let product = Product::up(&world, Options::default()).await?;
    let api = product.operator("bench").await?;
    let made = api.create(&request("polled", IMAGE, PORT)).await?;
    let token = api.token().context("no token")?.expose().to_owned();
    let ask = format!(
        "GET /api/deploy/apps/{}/status HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\r\n",
        made.id
    );
    polls(&product, &ask, time).await?;
    logins(&product, time).await
}

/// At the published limits, which refuse nearly all of them.
async fn guesses() -> anyhow::Result<()> {
    let world = Lease::new().await?;
    let options = Options { limits: Limits::Published, ..Options::default() };
    let product = Product::up(&world, options).await?;
    let mut seen = GUESSES.run(&product).await?;
    let figure = format!("{} of {}", seen.turned_away, GUESSES.count);
    sheet::line("guesses of passwords in a minute, turned away", &figure, "all but 10 a minute");
    sheet::durations("others' pages under them", &mut seen.pages, "p99 50 ms");
    rss("coordinator, grown by them", seen.grown_kib, "");
    Ok(())
}

/// Compared with the minimum: the same bytes from just hyper and rustls.
async fn polls(product: &Product<'_>, ask: &str, time: Duration) -> anyhow::Result<()> {
    let ticks = || anyhow::Ok(product.world.service("coordinator")?.cpu_ticks);
    let pollers = Pollers::connect(&product.api_door()?).await?;
    let before = ticks()?;
    let mut polled = pollers.poll(ask, time).await?;
    let cpu = Duration::from_millis(10 * ticks()?.saturating_sub(before));
    let (rate, a_core) = polled.rates(cpu);

    let bare = Bare::start(Bytes::from_static(&[b'x'; STATUS_BYTES]))?;
    let floor = Pollers::connect(&bare.door()?).await?.poll(ask, time).await?;
    let (_, bare_a_core) = floor.rates(bare.end()?);

    let what = "status polls, the load generator on the same cores";
    sheet::line(what, &format!("{rate:.0}/s, {a_core:.0} a core"), "20,000/s on one core");
    let figure = format!("{bare_a_core:.0} a core; polls are {:.2} of it", a_core / bare_a_core);
    sheet::line("the same from bare hyper and rustls, one thread", &figure, "");
    sheet::durations("status polls: latency", &mut polled.took, "");
    let rss_kib = product.world.service("coordinator")?.rss_kib;
    rss("coordinator after status polls", rss_kib, "60 MiB beyond passwords' own");
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "figures for people")]
async fn logins(product: &Product<'_>, time: Duration) -> anyhow::Result<()> {
    let (email, password) = ("bench@example.com", "a-strong-password-of-bench");
    let (api, world): (_, &World) = (product.api()?, product.world);
    let began = Instant::now();
    let body = json!({ "email": email, "password": password });
    let trying = (0..LOGINS).map(async |_| {
        let mut took = Vec::new();
        let mut highest = 0;
        while began.elapsed() < time {
            let asked = Instant::now();
            let reply = api.call(Method::POST, "/api/auth/login", Some(&body)).await?;
            ensure!(reply.status == 200, "{reply:?}");
            took.push(asked.elapsed());
            highest = highest.max(world.service("coordinator")?.rss_kib);
        }
        anyhow::Ok((took, highest))
    });
    let done = try_join_all(trying).await?;
    let elapsed = began.elapsed().as_secs_f64();
    let highest = done.iter().map(|(_, highest)| *highest).max().unwrap_or_default();
    let mut took: Vec<Duration> = done.into_iter().flat_map(|(took, _)| took).collect();
    let each = ms(Duration::from_secs_f64(elapsed)) / took.len().max(1) as f64;
    let figure = format!("{:.1}/s, one each {each:.1} ms", took.len() as f64 / elapsed);
    sheet::line("logins (Argon2id, 19 MiB, 2 passes; half of all cores)", &figure, "");
    sheet::durations("logins: latency, 8 at once", &mut took, "");
    rss("coordinator under logins, at most", highest, "60 MiB beyond passwords' own");
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "figures for people")]
fn rss(what: &str, kib: u64, bar: &str) {
    sheet::line(what, &format!("{:.1} MiB", kib as f64 / 1024.0), bar);
}
