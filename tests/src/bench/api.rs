//! The API: polls of a status over connections that stay open, and logins at the real cost of a password.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use futures_util::future::try_join_all;
use reqwest::Method;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use super::{Sizes, ms, sheet};
use crate::api::request;
use crate::edge::Edge;
use crate::product::{IMAGE, Options, PORT, Product};
use crate::world::{Lease, World};

/// Connections that poll.
const POLLERS: usize = 32;
/// Logins at once.
const LOGINS: usize = 8;

pub(super) async fn measure(sizes: Sizes) -> anyhow::Result<()> {
    let world = Lease::new().await?;
    let product = Product::up(&world, Options::default()).await?;
    let api = product.operator("bench").await?;
    let made = api.create(&request("polled", IMAGE, PORT)).await?;
    let token = api.token().context("no token")?.expose().to_owned();
    let ask = format!(
        "GET /api/deploy/apps/{}/status HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\r\n",
        made.id
    );
    let seconds = Duration::from_secs(sizes.seconds.min(20));
    polls(&product, &ask, seconds).await?;
    logins(&product, seconds).await
}

#[expect(clippy::cast_precision_loss, reason = "figures for people")]
async fn polls(product: &Product<'_>, ask: &str, seconds: Duration) -> anyhow::Result<()> {
    let door = product.api_door()?;
    let mut pollers = Vec::new();
    for _ in 0..POLLERS {
        pollers.push(Poller::connect(&door).await?);
    }
    let before = product.world.service("coordinator")?;
    let began = Instant::now();
    let polling = pollers.into_iter().map(async |mut poller| {
        let mut took = Vec::new();
        while began.elapsed() < seconds {
            let asked = Instant::now();
            poller.ask(ask).await?;
            took.push(asked.elapsed());
        }
        anyhow::Ok(took)
    });
    let mut took: Vec<Duration> = try_join_all(polling).await?.into_iter().flatten().collect();
    let elapsed = began.elapsed().as_secs_f64();
    let after = product.world.service("coordinator")?;
    let cpu = after.cpu_ticks.saturating_sub(before.cpu_ticks) as f64 / 100.0;
    let (count, bar) = (took.len() as f64, "20,000/s on one core");
    let figure = format!("{:.0}/s, {:.0} a core", count / elapsed, count / cpu.max(0.01));
    sheet::line("status polls, the load generator on the same cores", &figure, bar);
    sheet::durations("status polls: latency", &mut took, "");
    rss("coordinator after status polls", after.rss_kib, "60 MiB beyond passwords' own");
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "figures for people")]
async fn logins(product: &Product<'_>, seconds: Duration) -> anyhow::Result<()> {
    let (email, password) = ("bench@example.com", "a-strong-password-of-bench");
    let (api, world): (_, &World) = (product.api()?, product.world);
    let began = Instant::now();
    let body = json!({ "email": email, "password": password });
    let trying = (0..LOGINS).map(async |_| {
        let mut took = Vec::new();
        let mut highest = 0;
        while began.elapsed() < seconds {
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

/// A connection that asks one thing at a time, as lean as can be: it shares its cores with what is
/// measured.
struct Poller {
    stream: TlsStream<TcpStream>,
    buffer: Vec<u8>,
}

impl Poller {
    async fn connect(door: &Edge) -> anyhow::Result<Self> {
        Ok(Self { stream: door.tls("localhost").await?, buffer: Vec::new() })
    }

    async fn ask(&mut self, request: &str) -> anyhow::Result<()> {
        self.stream.write_all(request.as_bytes()).await?;
        self.stream.flush().await?;
        self.buffer.clear();
        let head = loop {
            let read = self.stream.read_buf(&mut self.buffer).await?;
            ensure!(read > 0, "the server has closed the connection");
            let end = self.buffer.windows(4).position(|bytes| bytes == b"\r\n\r\n");
            if let Some(end) = end {
                break end + 4;
            }
        };
        let text = std::str::from_utf8(&self.buffer[..head])?.to_ascii_lowercase();
        ensure!(text.starts_with("http/1.1 200"), "{text}");
        let length = text.lines().find_map(|line| line.strip_prefix("content-length: "));
        let length: usize = length.context("no length")?.trim().parse()?;
        while self.buffer.len() < head + length {
            ensure!(self.stream.read_buf(&mut self.buffer).await? > 0, "the answer ended early");
        }
        Ok(())
    }
}
