//! The simulation's story on the real parts: what operators request and what their apps do is drawn
//! from the same generator, goes as signed documents to a real agent with real Podman and Caddy,
//! which is killed in between, and must reach the state that the simulation's own check expects.
//!
//! ```text
//! story (agent/tests/story) ─ acts ─► documents ─► signed ─► agent ─► Podman, Caddy
//!                                       ▲                      │ killed with -9 at some act
//!                                       └── what it says ──────┘
//! ```

#[allow(dead_code, reason = "the simulation plays more of it")]
#[path = "../../../agent/tests/story/mod.rs"]
mod story;

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use buddo_agent::model::live_table::LiveTable;
use buddo_agent::model::snapshot::HostSnapshot;
use buddo_shared::host_wire::manifest::{DeploymentSpec, Manifest, SCHEMA, ServiceSpec};
use buddo_shared::host_wire::sealed::{Sealed, SealingKey};
use buddo_shared::model::env::EnvVars;
use buddo_shared::model::id::Generation;
use buddo_shared::model::name::HostName;
use buddo_shared::model::probe::Probe;
use buddo_shared::model::secret::Secret;
use buddo_tests::edge::Edge;
use buddo_tests::image::{Layer, publish};
use buddo_tests::impostor::{self, Impostor};
use buddo_tests::product::{Options, Product, ZONE};
use buddo_tests::trials::containers;
use buddo_tests::world::Lease;
use buddo_tests::{poll, unix_http};
use jiff::{SignedDuration, Timestamp};
use nix::sys::signal::Signal;
use reqwest::Client;
use story::act::Act;
use story::app::{self, App};
use story::converged::{Fate, Found, Seen, what_is_missing};
use story::documents::{Acted, Documents, deployment};
use story::rng::Rng;

/// Stories, one after the other on one host.
const STORIES: u64 = 5;
/// Apps that operators act on.
const APPS: u64 = 3;
/// Acts of each story.
const ACTS: u64 = 5;
/// Convergence takes seconds; a busy machine takes longer.
const PATIENCE: Duration = Duration::from_mins(1);

/// One host, its coordinator's documents, and the connection between them.
struct Stage<'a> {
    product: &'a Product<'a>,
    impostor: Impostor,
    client: Client,
    layer: Layer,
    edge: Edge,
    sealing: SealingKey,
    documents: Documents,
    apps: BTreeMap<(u64, u32), App>,
    generation: u64,
}

impl<'a> Stage<'a> {
    fn set(product: &'a Product<'a>) -> anyhow::Result<Self> {
        let impostor = Impostor::of(product)?;
        Ok(Self {
            client: impostor.coordinator()?,
            layer: Layer::of_program(&product.world.binary("buddo-web"))?,
            edge: product.edge()?,
            sealing: sealing_key(product)?,
            documents: Documents::default(),
            apps: BTreeMap::new(),
            generation: 0,
            product,
            impostor,
        })
    }

    /// An operator does something, and the next document says so.
    async fn act(&mut self, rng: &mut Rng, act: Act) -> anyhow::Result<()> {
        let app = rng.below(APPS);
        let (documents, sealing) = (&mut self.documents, &self.sealing);
        let acted = documents.act(app, act, &|app, n, revision, image| {
            desired(sealing, app, n, revision, image).expect("valid")
        });
        if let Acted::Fresh(id, revision, image) = acted {
            let n = story::documents::number(id);
            // Apps that turn bad later have their own tests.
            let behaviour = match rng.below(5) {
                0 => App::Silent,
                1 => App::Exits(Duration::ZERO),
                _ => app::good(rng),
            };
            let same = self.apps.get(&(n, image.get())).copied();
            let behaviour = same.filter(|_| image != revision).unwrap_or(behaviour);
            self.apps.insert((n, revision.get()), behaviour);
            if image == revision {
                self.publish(&tag(n, image.get()), behaviour).await?;
            }
        }
        self.sign().await
    }

    /// Stores the image of a revision.
    async fn publish(&self, tag: &str, app: App) -> anyhow::Result<()> {
        let delay;
        let behaviour = match app {
            App::Silent => ("SILENT", "1"),
            App::Exits(_) => ("EXIT_AT_START", "7"),
            App::Good(after) => {
                delay = after.as_millis().to_string();
                ("START_DELAY_MS", delay.as_str())
            }
            other => anyhow::bail!("no image does {other:?}"),
        };
        let env = [("VERSION", tag), behaviour];
        publish(self.product.world, &self.layer, "demo/story", tag, &env).await.map(drop)
    }

    /// Signs the desired state. An agent that is just being killed accepts it when it is back.
    async fn sign(&mut self) -> anyhow::Result<()> {
        self.generation += 1;
        self.documents.complete();
        #[expect(clippy::disallowed_methods, reason = "documents for a real agent need real time")]
        let now = Timestamp::now();
        let manifest = Manifest {
            schema: SCHEMA,
            host_id: self.impostor.host,
            generation: Generation { epoch: 1_000, generation: self.generation },
            issued_at: now,
            expires_at: now + SignedDuration::from_hours(1),
            zone: HostName::parse(ZONE)?,
            deployments: self.documents.wanted.values().cloned().collect(),
            trust: None,
        };
        let envelope = self.impostor.signer.sign(&manifest)?.bytes;
        poll::until("the document to be taken", PATIENCE, async || {
            let (status, said) = self.impostor.offer(&self.client, envelope.clone()).await?;
            ensure!(status == 200, "{status} {said}");
            Ok(())
        })
        .await
    }

    /// Records what the agent shows of the document in force as the coordinator would.
    async fn hear(&mut self) -> anyhow::Result<HostSnapshot> {
        let (_, body) = unix_http::get(&self.product.agent_socket(), "/v1/status").await?;
        let snapshot: HostSnapshot = serde_json::from_slice(&body).context("no snapshot yet")?;
        let held = snapshot.host.document.map(|place| place.generation);
        ensure!(held == Some(self.generation), "the document in force is {held:?}");
        let mut changes = false;
        for app in &snapshot.deployments {
            changes |= self.documents.take(&app.status).changes;
        }
        if changes {
            self.sign().await?;
            anyhow::bail!("the document changes by what the host says");
        }
        Ok(snapshot)
    }

    /// Waits until the host is as its document says, by the simulation's check.
    async fn converges(&mut self) -> anyhow::Result<()> {
        poll::until("convergence", PATIENCE, async || {
            let snapshot = self.hear().await?;
            let world = self.product.world;
            let table = std::fs::read(world.layout().path("agent/live.json"))?;
            let table: LiveTable = serde_json::from_slice(&table)?;
            let found = containers::all(world).await?;
            let secrets = containers::secrets(world).await?;
            let levels = snapshot.deployments.iter().map(|app| (app.status.id, &app.status));
            let seen = Seen {
                containers: found.iter().filter_map(container).collect(),
                secrets: secrets.iter().map(String::as_str).collect(),
                table: &table,
                levels: levels.collect(),
            };
            let missing = what_is_missing(&self.documents, &seen, |desired| {
                let n = story::documents::number(desired.id);
                let app = self.apps.get(&(n, desired.revision.get()));
                let starts = app.is_some_and(|app| app.starts());
                Fate { may_live: starts, may_fail: !starts }
            });
            ensure!(missing.is_none(), "{}", missing.unwrap_or_default());
            self.visit(&snapshot).await
        })
        .await
    }

    /// Visitors of each app that is live are answered by its revision.
    async fn visit(&self, snapshot: &HostSnapshot) -> anyhow::Result<()> {
        for desired in self.documents.wanted.values() {
            let mut shown = snapshot.deployments.iter();
            let serving = shown.find(|app| app.status.id == desired.id);
            let Some(revision) = serving.and_then(|app| app.status.serving) else { continue };
            let answer = self.edge.get(&format!("{}.{ZONE}", desired.subdomain), "/").await?;
            // A restart has the image of the previous revision.
            let image =
                desired.services.public().image.tag().filter(|_| revision == desired.revision);
            let right = image.is_none_or(|image| answer.version() == Some(image));
            ensure!(answer.status == 200 && right, "{desired:?} is answered by {answer:?}");
        }
        Ok(())
    }
}

/// The host's public key, as its coordinator knows it.
fn sealing_key(product: &Product<'_>) -> anyhow::Result<SealingKey> {
    let path = product.world.layout().path("coordinator/coordinator.db");
    let database = rusqlite::Connection::open(&path)?;
    let key: String = database.query_row("SELECT sealing_key FROM hosts", [], |row| row.get(0))?;
    Ok(serde_json::from_value(serde_json::Value::String(key))?)
}

fn tag(n: u64, image: u32) -> String {
    format!("n{n}r{image}")
}

/// The entry of a revision, with an environment.
fn desired(
    sealing: &SealingKey,
    app: u64,
    n: u64,
    revision: u32,
    image: u32,
) -> anyhow::Result<DeploymentSpec> {
    let id = deployment(n);
    let variable = ("TOKEN".to_owned(), Secret::new(format!("v{revision}")));
    let env = EnvVars::parse([variable]).expect("valid").to_plain_json();
    let image = format!("harbor.buddo.xyz:4443/demo/story:{}", tag(n, image));
    let service = ServiceSpec {
        probe: Probe { start_deadline_ms: 10_000, interval_ms: 1_000, ..Probe::default() },
        env: Some(Sealed::seal(sealing, Sealed::ENVIRONMENT, id, &env)?),
        ..impostor::service(&image, revision)?
    };
    impostor::deployment(id, &format!("story-{app}"), service)
}

/// One of Podman's containers, in the check's form; `None`: it is not ours.
fn container(found: &containers::Found) -> Option<Found> {
    Some(Found {
        name: found.name.clone(),
        identity: found.identity?,
        address: found.addresses.first()?.parse().ok()?,
        answers: found.state == "running",
    })
}

#[tokio::test]
async fn simulated_stories_converge_on_real_podman() -> anyhow::Result<()> {
    Lease::run(async |world| {
        let product = Product::up(world, Options::default()).await?;
        world.stop("coordinator", Signal::SIGKILL).await?;
        let mut stage = Stage::set(&product)?;
        for seed in 0..STORIES {
            let mut rng = Rng::new(seed);
            let killed_at = rng.below(ACTS);
            for turn in 0..ACTS {
                // Custom domains reload Caddy, which other tests cover.
                let act = match Act::draw(&mut rng) {
                    Act::Name => Act::Restart,
                    act => act,
                };
                stage.act(&mut rng, act).await.with_context(|| format!("story {seed}"))?;
                // Not a wait for a condition: each act should hit another step of the previous one.
                tokio::time::sleep(rng.ms(0, 1_000)).await;
                if turn == killed_at {
                    world.signal("agent", Signal::SIGKILL)?;
                }
            }
            stage.converges().await.with_context(|| format!("story {seed}"))?;
        }
        stage.documents.wanted.clear();
        stage.sign().await?;
        stage.converges().await.context("after the last story")
    })
    .await
}
