//! Everything killed at random under load, in short; the full run is `make chaos`.

use std::time::Duration;

use anyhow::ensure;
use buddo_tests::load::{Mix, Plan};
use buddo_tests::product::{Options, Product};
use buddo_tests::trials::chaos::{Settings, Victim, run};
use buddo_tests::world::Lease;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_kills_of_every_service_lose_nothing() -> anyhow::Result<()> {
    Lease::run(async |world| {
        let product = Product::up(world, Options::default()).await?;
        let settings = Settings {
            // A seed whose half minute kills every service.
            seed: 5,
            length: Duration::from_secs(30),
            pace: Duration::from_secs(1),
            apps: 6,
            steady: 2,
            load: Plan { rate: 300, workers: 24, renew_after: 10, mix: Mix::Both },
        };
        let outcome = run(&product, settings).await?;
        eprintln!("{outcome}");
        ensure!(outcome.kills.len() == Victim::ALL.len(), "not all was killed");
        outcome.verdict()
    })
    .await
}
