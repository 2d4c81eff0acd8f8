//! Figures, each beside its bar. Nothing here passes or fails: a figure is meaningful only on a
//! quiet machine, and no test can know whether the machine is quiet.

use std::time::Duration;

use buddo_shared::api::deploy::{Deployment, Status};
use clap::ValueEnum;

use crate::api::{Api, request};
use crate::product::{IMAGE, PORT};

mod acks;
mod api;
mod bare;
mod crowd;
mod database;
mod edge;
mod idle;
mod latency;
mod plan;
mod poller;
mod reloads;
mod sheet;

/// One part of the bench; each has its own world.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Section {
    /// From a request to the first answer, beside raw Podman.
    Latency,
    /// The pure plan.
    Plan,
    /// A host in use: idle costs, a no-op pass, dead containers noticed, a killed agent back.
    Crowd,
    /// Many apps created at once.
    Reloads,
    /// A document until it is durable on its host.
    Acks,
    /// Polls of a status, logins and guesses, and the coordinator's memory under them.
    Api,
    /// The coordinator's database when large.
    Database,
    /// What Caddy's resolver lookups cost, by how often it looks up.
    Edge,
}

impl Section {
    /// Everything that `make bench` measures by default.
    pub const ALL: [Self; 8] = [
        Self::Latency,
        Self::Plan,
        Self::Crowd,
        Self::Reloads,
        Self::Acks,
        Self::Api,
        Self::Database,
        Self::Edge,
    ];
}

/// How much is measured.
#[derive(Debug, Clone, Copy)]
pub struct Sizes {
    /// Rounds of each latency.
    pub rounds: u32,
    /// Apps of a host in use.
    pub apps: u32,
    /// Apps that are created at once.
    pub burst: u32,
    /// Seconds of each idle measurement and each load.
    pub seconds: u64,
}

/// Measures and prints.
pub async fn run(sections: &[Section], sizes: Sizes) -> anyhow::Result<()> {
    sheet::head();
    for section in sections {
        match section {
            Section::Latency => latency::measure(sizes).await?,
            Section::Plan => plan::measure()?,
            Section::Crowd => Box::pin(crowd::measure(sizes)).await?,
            Section::Reloads => Box::pin(reloads::measure(sizes)).await?,
            Section::Acks => acks::measure(sizes).await?,
            Section::Api => api::measure(sizes).await?,
            Section::Database => Box::pin(database::measure()).await?,
            Section::Edge => edge::measure(sizes).await?,
        }
    }
    Ok(())
}

/// Apps `from..to`, live.
async fn create(api: &Api, from: u32, to: u32) -> anyhow::Result<Vec<Deployment>> {
    let mut made = Vec::new();
    for number in from..to {
        made.push(api.create(&request(&format!("app-{number}"), IMAGE, PORT)).await?);
    }
    for deployment in &made {
        api.reaches(&deployment.id, Status::Running, 1).await?;
    }
    Ok(made)
}

fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}
