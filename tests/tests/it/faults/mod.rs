//! Faults of `docs/failure-modes.md` on real Podman, Caddy, registry and files: what the system
//! does by itself, and that visitors notice as little as possible.

mod caddy;
mod isolation;
mod podman;
mod registry;
mod secrets;
mod shortage;
mod state;
mod table;

use std::time::Duration;

use anyhow::{Context as _, ensure};
use buddo_shared::api::deploy::Status;
use buddo_tests::api::{Api, request};
use buddo_tests::edge::Edge;
use buddo_tests::poll;
use buddo_tests::product::{IMAGE, Options, PORT, Product, ZONE};
use buddo_tests::world::World;

/// How long the system may take to recover. It takes much less, unless it first waits
/// for deadlines or probes.
const PATIENCE: Duration = Duration::from_mins(2);

/// The product with an app that is live.
struct Live<'a> {
    product: Product<'a>,
    api: Api,
    /// The app's id.
    id: String,
    edge: Edge,
    host: String,
}

impl<'a> Live<'a> {
    async fn up(world: &'a World) -> anyhow::Result<Self> {
        Self::up_with(world, Options::default()).await
    }

    async fn up_with(world: &'a World, options: Options) -> anyhow::Result<Self> {
        let product = Product::up(world, options).await?;
        product.publish_images(false).await?;
        let api = product.operator("ada").await?;
        let made = api.create(&request("kept", IMAGE, PORT)).await?;
        api.reaches(&made.id, Status::Running, 1).await?;
        let edge = product.edge()?;
        Ok(Self { product, api, id: made.id, edge, host: format!("kept.{ZONE}") })
    }

    /// A visitor is answered by the app.
    async fn answers(&self) -> anyhow::Result<()> {
        let answer = self.edge.get(&self.host, "/").await?;
        ensure!(answer.status == 200 && answer.text() == "hello v1\n", "{answer:?}");
        Ok(())
    }

    /// Waits until a visitor is answered by the app again.
    async fn answers_again(&self) -> anyhow::Result<()> {
        poll::until("an answer of the app", PATIENCE, async || self.answers().await).await
    }

    /// Waits until `buddo-agent status` contains all of `words`.
    async fn tells(&self, words: &[&str]) -> anyhow::Result<()> {
        poll::until("the agent to say so", PATIENCE, async || {
            let status = self.product.status()?;
            ensure!(words.iter().all(|word| status.contains(word)), "{words:?} not in {status}");
            Ok(())
        })
        .await
    }

    /// Waits until `buddo-agent status` no longer contains any of `words`.
    async fn tells_no_more(&self, words: &str) -> anyhow::Result<()> {
        poll::until("the agent to say so no more", PATIENCE, async || {
            let status = self.product.status()?;
            ensure!(!status.contains(words), "{words} in {status}");
            Ok(())
        })
        .await
    }

    /// Waits until the app has one container, other than `before`; returns its name.
    async fn replaced(&self, before: &str) -> anyhow::Result<String> {
        poll::until("another container", PATIENCE, async || {
            let names = self.product.containers()?;
            ensure!(names.len() == 1 && names[0] != before, "{names:?}");
            Ok(names[0].clone())
        })
        .await
    }

    /// The one container's name.
    fn container(&self) -> anyhow::Result<String> {
        let names = self.product.containers()?;
        ensure!(names.len() == 1, "{names:?}");
        Ok(names[0].clone())
    }
}

/// What an administrator would type, in the world; returns its output.
fn run(world: &World, argv: &[&str]) -> anyhow::Result<String> {
    let output = world.exec(argv)?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{argv:?}: {}", said.trim());
    Ok(String::from_utf8(output.stdout)?)
}

/// The processes whose command line matches, of this world.
fn processes(world: &World, pattern: &str) -> anyhow::Result<Vec<String>> {
    let found = run(world, &["pgrep", "--full", pattern]).context("no such process")?;
    Ok(found.lines().map(str::to_owned).collect())
}

/// Sends a signal to all of them at once.
fn signal(world: &World, signal: &str, pids: &[String]) -> anyhow::Result<()> {
    let mut argv = vec!["kill", signal];
    argv.extend(pids.iter().map(String::as_str));
    run(world, &argv).map(drop)
}

/// Names, processes and starts of all containers: what changes when one is started again.
fn started(world: &World) -> anyhow::Result<String> {
    run(world, &["podman", "ps", "--format={{.Names}} {{.Pid}} {{.StartedAt}}"])
}
