//! Password guesses from one address, and their effect on everybody else.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use anyhow::ensure;
use futures_util::future::try_join_all;
use reqwest::Method;
use serde_json::json;
use tokio::time::{MissedTickBehavior, interval};

use crate::product::Product;

/// Addresses of others, and what each requests: a login and a few pages.
const OTHERS: u8 = 40;
const PAGES: u32 = 5;
/// The account that all of them log in to.
const EMAIL: &str = "calm@example.com";
const PASSWORD: &str = "a-strong-password-of-calm";

/// How many guesses, and how fast.
#[derive(Debug, Clone, Copy)]
pub struct Guesses {
    pub count: usize,
    /// Concurrent guesses.
    pub at_once: usize,
    /// Minimum time between rounds; zero is as fast as they are answered.
    pub every: Duration,
}

#[derive(Debug)]
pub struct Seen {
    /// Guesses refused before a password was checked (429).
    pub turned_away: usize,
    /// Total duration of the guesses.
    pub elapsed: Duration,
    /// How long the others waited for each page.
    pub pages: Vec<Duration>,
    /// By how much the coordinator's memory grew, in KiB.
    pub grown_kib: u64,
}

impl Guesses {
    /// Sends them all from this machine's first address, while 40 others, who know an account's
    /// password, come from their own addresses, one after the other, and none of them is refused.
    pub async fn run(self, product: &Product<'_>) -> anyhow::Result<Seen> {
        product.register(EMAIL, "calm", PASSWORD).await?;
        let rss = || anyhow::Ok(product.world.service("coordinator")?.rss_kib);
        let before = rss()?;
        let began = Instant::now();
        let guesses = async {
            let turned_away = self.guess(product).await?;
            anyhow::Ok((turned_away, began.elapsed()))
        };
        let rounds = u32::try_from(self.count / self.at_once)?;
        let pause = self.every * rounds / u32::from(OTHERS);
        let others = others(product, pause);
        let ((turned_away, elapsed), pages) = tokio::try_join!(guesses, others)?;
        let grown_kib = rss()?.saturating_sub(before);
        Ok(Seen { turned_away, elapsed, pages, grown_kib })
    }

    async fn guess(self, product: &Product<'_>) -> anyhow::Result<usize> {
        let api = product.api()?;
        let mut turned_away = 0;
        let mut pace = pace(self.every);
        for round in 0..self.count / self.at_once {
            pace.tick().await;
            let tries = (0..self.at_once).map(async |n| {
                let email = format!("user-{}@example.com", round * self.at_once + n);
                let body = json!({ "email": email, "password": "canary-guess" });
                api.call(Method::POST, "/api/auth/login", Some(&body)).await
            });
            for reply in try_join_all(tries).await? {
                ensure!(matches!(reply.status, 401 | 429), "{reply:?}");
                turned_away += usize::from(reply.status == 429);
            }
        }
        Ok(turned_away)
    }
}

async fn others(product: &Product<'_>, pause: Duration) -> anyhow::Result<Vec<Duration>> {
    let mut took = Vec::new();
    let body = json!({ "email": EMAIL, "password": PASSWORD });
    let mut pace = pace(pause);
    for n in 1..=OTHERS {
        pace.tick().await;
        let address = Ipv4Addr::new(127, 0, 1, n);
        let api = product.api()?.from_address(&product.api_ca(), address)?;
        for _ in 0..PAGES {
            let began = Instant::now();
            let reply = api.call(Method::GET, "/api/oauth/apps/buddo-cli", None).await?;
            took.push(began.elapsed());
            ensure!(reply.status == 200, "{reply:?}");
        }
        let reply = api.call(Method::POST, "/api/auth/login", Some(&body)).await?;
        ensure!(reply.status == 200, "{reply:?}");
    }
    Ok(took)
}

fn pace(every: Duration) -> tokio::time::Interval {
    let mut pace = interval(every.max(Duration::from_nanos(1)));
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    pace
}
