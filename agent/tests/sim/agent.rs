//! One life of the agent: the real reconciler, plan, desired state, probes, reports and store,
//! wired to the simulated machine as `daemon.rs` wires them to the real one.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;

use buddo_agent::adapters::store::Store;
use buddo_agent::config::{Drain, Network};
use buddo_agent::control::desired_state::DesiredState;
use buddo_agent::host::disk::ImageLeases;
use buddo_agent::model::host_facts::{HostFacts, LimitRule};
use buddo_agent::model::retries::Jitter;
use buddo_agent::model::snapshot::HostSnapshot;
use buddo_agent::model::trust::TrustRoots;
use buddo_agent::ports::{self, EventFeed, Named};
use buddo_agent::process::metrics::Metrics;
use buddo_agent::reconcile::report::Status;
use buddo_agent::reconcile::{Domains, Inputs, Reconciler, Rendered, Settings, Shared};
use buddo_shared::model::name::HostName;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::caddy::{File, TableFile};
use crate::clock::{SimClock, true_time};
use crate::coordinator::{Keys, Line, host};
use crate::disk::{Database, SimDisk};
use crate::podman::Life;
use crate::world::{DRAIN, Feed, GRACE, World};

/// A running agent. When dropped, its tasks end; calls already sent to the machine still take
/// effect.
pub(crate) struct Agent {
    /// Its end of the connection.
    pub(crate) line: Line,
    /// The current snapshot.
    pub(crate) snapshot: watch::Receiver<Option<Arc<HostSnapshot>>>,
    tasks: Vec<JoinHandle<()>>,
    _facts: watch::Sender<HostFacts>,
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

/// What one life of the agent reaches.
struct Simulated {
    life: Arc<Life>,
    live_table: Arc<TableFile>,
    clock: Arc<SimClock>,
    jitter: Jitter,
}

impl ports::World for Simulated {
    type Containers = Life;
    type Prober = Life;
    type Proxy = Life;
    type LiveTable = TableFile;
    type Clock = SimClock;

    fn containers(&self) -> &Arc<Life> {
        &self.life
    }

    fn prober(&self) -> &Arc<Life> {
        &self.life
    }

    fn proxy(&self) -> &Arc<Life> {
        &self.life
    }

    fn live_table(&self) -> &Arc<TableFile> {
        &self.live_table
    }

    fn clock(&self) -> &Arc<SimClock> {
        &self.clock
    }

    fn jitter(&self) -> &Jitter {
        &self.jitter
    }

    fn cgroups(&self) -> Option<Arc<dyn ports::Cgroups>> {
        Some(Arc::<Life>::clone(&self.life))
    }
}

/// Where containers are published.
pub(crate) fn network() -> Network {
    Network {
        slot_a: Ipv4Addr::new(127, 64, 0, 0),
        slot_b: Ipv4Addr::new(127, 96, 0, 0),
        special: Ipv4Addr::new(127, 63, 0, 1),
        app_port: 8000,
    }
}

/// One file for the zone, one for each app with domains.
pub(crate) fn render(zone: &HostName, domains: &Domains) -> Rendered {
    let mut rendered = Rendered { zone: "zone.caddy".to_owned(), ..Rendered::default() };
    rendered.files.insert("zone.caddy".to_owned(), zone.to_string());
    for (id, (_, names)) in domains {
        let file = format!("{id}.caddy");
        let names: Vec<_> = names.iter().map(ToString::to_string).collect();
        rendered.files.insert(file.clone(), names.join(" "));
        rendered.own.insert(*id, file);
    }
    rendered
}

impl Agent {
    /// Begins a new life. On an error, try again later.
    pub(crate) async fn start(
        world: &Arc<World>,
        keys: &Keys,
        database: &Database,
    ) -> Result<Self, String> {
        let (hints, hinted) = watch::channel(0);
        let named = Arc::new(Named::default());
        let (lines, lined) = watch::channel(0);
        let (healthy, seen_healthy) = watch::channel(true);
        let number = world.with(|state| {
            state.life += 1;
            state.alive = true;
            state.feed = Some(Feed { hints, named: Arc::clone(&named), lines, healthy });
            let life = state.life;
            state.say(|| format!("the agent starts, life {life}"));
            life
        });
        let disk = SimDisk { world: Arc::clone(world), life: number, database: database.clone() };
        // As in production: a lost database counts on from the time of day.
        let first = true_time(world.begun.elapsed(), 0).as_millisecond();
        let first = u64::try_from(first).unwrap_or_default();
        let store = Store::on(Arc::new(disk), first).map_err(|e| e.to_string())?;
        store.belong_to(host(), Uuid::nil()).await.map_err(|e| e.to_string())?;
        let status = Status::new(store.clone());
        let trust_roots = TrustRoots::new(host(), keys.trust()).map_err(|e| e.to_string())?;
        let clock = Arc::new(SimClock(Arc::clone(world)));
        let desired_state =
            DesiredState::restore(trust_roots, store.clone(), Arc::clone(&clock)).await;
        let desired_state = Arc::new(desired_state.map_err(|e| e.to_string())?);
        let held =
            desired_state.subscribe().borrow().as_ref().map(|d| d.manifest().generation.generation);
        world.with(|state| {
            let acked = state.books.acked;
            if !state.amnesia && held.unwrap_or_default() < acked {
                state.violate(format!("document {acked} was acknowledged, and {held:?} is held"));
            }
        });
        let facts = HostFacts { limits: LimitRule::Enforced, ..HostFacts::default() };
        let (facts, known) = watch::channel(facts);
        let renew = Arc::new(Notify::new());
        let events = EventFeed {
            hints: hinted,
            named,
            lines: lined,
            healthy: seen_healthy,
            renew: Arc::clone(&renew),
        };
        let life = Arc::new(Life { world: Arc::clone(world), number });
        let chance = Arc::clone(world);
        let simulated = Simulated {
            life,
            live_table: Arc::new(TableFile::new(Arc::clone(world), number)),
            clock: Arc::clone(&clock),
            jitter: Arc::new(move || chance.with(|state| state.rng.unit())),
        };
        let inputs = Inputs {
            document: desired_state.subscribe(),
            alarm: desired_state.alarm(),
            facts: known,
        };
        let settings = Settings {
            network: network(),
            drain: Drain { before_stop: DRAIN, stop_grace: GRACE },
            render: Arc::new(render),
            joined: true,
            key: Some(Arc::new(keys.opening())),
            previous: world.with(|state| match &state.edge.file {
                File::Table(table) => Some(table.clone()),
                File::Missing | File::Torn => None,
            }),
            watched_exits: usize::MAX,
        };
        let shared = Shared {
            store,
            status: status.clone(),
            image_leases: ImageLeases::default(),
            metrics: Metrics::default(),
        };
        let reconciler = Reconciler::restore(simulated, inputs, events, settings, shared).await;
        let reconciler = reconciler.map_err(|e| e.to_string())?;
        let snapshot = reconciler.snapshot();
        let writer = status.clone();
        let tasks = vec![
            tokio::spawn(reconciler.run(CancellationToken::new())),
            tokio::spawn(async move {
                let _ = writer.write(&*clock).await;
            }),
            tokio::spawn(check_pictures(Arc::clone(world), snapshot.clone())),
            tokio::spawn(renew_events(Arc::clone(world), renew)),
        ];
        let changed = ports::Outbox::changed(&status);
        let line = Line { life: number, desired_state, status, changed };
        Ok(Self { line, snapshot, tasks, _facts: facts })
    }

    /// The deployments as it shows them.
    pub(crate) fn shown(
        &self,
    ) -> BTreeMap<String, buddo_agent::model::snapshot::DeploymentSnapshot> {
        let snapshot = self.snapshot.borrow();
        let apps = snapshot.iter().flat_map(|snapshot| snapshot.deployments.iter());
        apps.map(|app| (app.status.id.to_string(), app.clone())).collect()
    }
}

async fn check_pictures(
    world: Arc<World>,
    mut snapshot: watch::Receiver<Option<Arc<HostSnapshot>>>,
) {
    while snapshot.changed().await.is_ok() {
        let shown = snapshot.borrow_and_update().clone();
        if let Some(shown) = shown {
            world.with(|state| state.check(&shown));
        }
    }
}

/// Opens a new event stream on request: it reports again, if Podman does.
async fn renew_events(world: Arc<World>, renew: Arc<Notify>) {
    loop {
        renew.notified().await;
        let healthy = world.with(|state| state.feed.as_ref().map(|feed| feed.healthy.clone()));
        let Some(healthy) = healthy else { return };
        healthy.send_replace(false);
        let pause = world.with(|state| state.rng.ms(100, 1_000));
        sleep(pause).await;
        world.with(|state| {
            state.deaf = false;
            if let Some(feed) = &state.feed {
                feed.healthy.send_replace(true);
                feed.hints.send_modify(|hints| *hints += 1);
            }
        });
    }
}
