//! `buddo-agent run`: binds first, wires the parts, runs them, drains.
//!
//! ```text
//! bind local socket ─► not joined? wait for an identity, and report it
//!                   ─► joined: store, documents, reconciler, server, renewal ─► READY ─► … drain
//! ```
//!
//! Stopping leaves containers and routes as they are: visitors notice nothing.

use std::os::unix::fs::DirBuilderExt as _;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use buddo_runtime::clock::{Clock as _, SystemClock};
use buddo_runtime::durable;
use buddo_shared::host_wire::report::HostStatus;
use buddo_shared::host_wire::sealed::OpeningKey;
use buddo_shared::model::id::HostId;
use sd_notify::NotifyState;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinError;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::adapters::caddy;
use crate::adapters::pidfd::Pidfds;
use crate::adapters::podman::{CgroupFs, Podman, PullLimits};
use crate::adapters::probe::connection::NetProber;
use crate::adapters::probe::counted::CountedProber;
use crate::adapters::resolver::LiveTableFile;
use crate::adapters::store::Store;
use crate::config::Config;
use crate::control::desired_state::DesiredState;
use crate::control::join::Identity;
use crate::control::renew::{Renewer, join_alarms};
use crate::control::server;
use crate::host::disk::{ImageGc, ImageLeases};
use crate::host::facts;
use crate::host::metrics::{self, Scrape};
use crate::host::watchdog::{self, Signs};
use crate::local::socket::{self, Sources};
use crate::model::live_table::LiveTable;
use crate::model::retries::{Jitter, system_jitter};
use crate::model::snapshot::HostSnapshot;
use crate::ports::{Cgroups, MemoryEvents, ProcessExits, World};
use crate::process::disk_reserve::Reserve;
use crate::process::disk_space::{DiskSpace, system_measure};
use crate::process::metrics::Metrics;
use crate::process::open_files;
use crate::reconcile::report::Status;
use crate::reconcile::{Domains, Inputs, Reconciler, Render, Rendered, Settings, Shared};

/// How often a host that has not joined looks for an identity.
const LOOK_FOR_IDENTITY: Duration = Duration::from_secs(1);
/// Whatever still runs this long after being asked to stop is abandoned.
const DRAIN: Duration = Duration::from_secs(10);

/// Runs the agent until `stop`.
pub async fn run(config: Config, stop: CancellationToken) -> Result<()> {
    for folder in [&config.state_dir, &config.runtime_dir, &config.caddy.routes_dir] {
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)
            .with_context(|| format!("cannot make the folder {}", folder.display()))?;
    }
    let listener = socket::bind(&config.socket)?;
    let reserve = Reserve::new(config.reserve(), config.disk.reserve);
    let store = open_store(&config, &reserve)?;
    let metrics = Metrics::default();
    let status = Status::counted(store.clone(), metrics.clone());
    let Some(identity) = Identity::load(&config.state_dir)? else {
        return wait_to_join(config, listener, store, status, metrics, stop).await;
    };
    run_joined(config, identity, listener, store, status, metrics, stop).await
}

fn open_store(config: &Config, reserve: &Reserve) -> Result<Store> {
    // If the database was lost, numbering continues from the time of day in milliseconds: above any
    // number it can have used.
    let first = u64::try_from(SystemClock.now().as_millisecond()).unwrap_or_default();
    Ok(Store::open_behind(reserve, &config.database(), first)?)
}

async fn wait_to_join(
    config: Config,
    listener: tokio::net::UnixListener,
    store: Store,
    status: Status,
    metrics: Metrics,
    stop: CancellationToken,
) -> Result<()> {
    tracing::warn!("{}", socket::NOT_JOINED);
    let facts = facts::initial(&config);
    let snapshot = HostSnapshot {
        joined: false,
        host: HostStatus {
            agent_version: env!("CARGO_PKG_VERSION").to_owned(),
            podman_version: None,
            caddy_version: None,
            document: None,
            stale: false,
            memory_mb: facts.memory_mb,
            allocatable_mb: facts.allocatable_mb,
            cpu_millicores: facts.cpu_millicores,
            warnings: vec![socket::NOT_JOINED.to_owned()],
            lacks: None,
        },
        deployments: Vec::new(),
    };
    let (_snapshot, snapshots) = watch::channel(Some(Arc::new(snapshot)));
    let (_document, documents) = watch::channel(None);
    let scrape = Scrape {
        metrics: metrics.clone(),
        snapshot: snapshots.clone(),
        document: documents.clone(),
        store: store.clone(),
        events: None,
        disk_space: disk_space(&config),
        clock: Arc::new(SystemClock),
    };
    let sources = Sources {
        snapshot: snapshots,
        document: documents,
        routes: Arc::new(Default::default),
        status: status.clone(),
        scrape,
    };
    let until = stop.child_token();
    let serving =
        AbortOnDropHandle::new(tokio::spawn(socket::serve(listener, sources, until.clone())));
    notify(&[NotifyState::Ready, NotifyState::Status(socket::NOT_JOINED)]);
    let identity = loop {
        if stop.run_until_cancelled(tokio::time::sleep(LOOK_FOR_IDENTITY)).await.is_none() {
            return Ok(());
        }
        notify(&[NotifyState::Watchdog]);
        let state_dir = config.state_dir.clone();
        if let Some(identity) = durable::off_thread(move || Identity::load(&state_dir)).await?? {
            break identity;
        }
    };
    until.cancel();
    // A client that asks and does not read must not keep the host from serving.
    if let Ok(served) = tokio::time::timeout(DRAIN, serving).await {
        served.context("the local socket's task failed")??;
    }
    let listener = socket::bind(&config.socket)?;
    Box::pin(run_joined(config, identity, listener, store, status, metrics, stop)).await
}

async fn run_joined(
    config: Config,
    identity: Identity,
    local_listener: tokio::net::UnixListener,
    store: Store,
    status: Status,
    metrics: Metrics,
    stop: CancellationToken,
) -> Result<()> {
    let control_listener = TcpListener::bind(config.listen).await.with_context(|| {
        format!("cannot listen on {}; is another agent running? `listen` names it", config.listen)
    })?;
    let clock = Arc::new(SystemClock);
    if store.belong_to(identity.host_id, identity.joined).await? {
        tracing::warn!("this host has joined again; ignoring the previous document");
    }
    let trust_roots = identity.trust_roots.clone();
    let desired_state =
        Arc::new(DesiredState::restore(trust_roots, store.clone(), Arc::clone(&clock)).await?);
    let (renewer, alarm, _alarms) = renewer(&config, &identity, &clock, &desired_state)?;
    let tls = renewer.tls();
    let (disk_space, image_leases) = (disk_space(&config), ImageLeases::default());
    let reserve = store.reserve().clone();
    let podman = podman(&config, identity.host_id, &disk_space, &metrics);
    let events = podman.events(stop.child_token());
    let (facts, known) = watch::channel(facts::initial(&config));
    let world = Machine::new(&config, podman.clone(), &clock, &reserve, &metrics)?;
    let inputs = Inputs { document: desired_state.subscribe(), alarm, facts: known };
    let settings = settings(&config, identity.opening_key);
    let shared = Shared {
        store: store.clone(),
        status: status.clone(),
        image_leases: image_leases.clone(),
        metrics: metrics.clone(),
    };
    let reconciler = Reconciler::restore(world, inputs, events.clone(), settings, shared).await?;

    let scrape = Scrape {
        metrics: metrics.clone(),
        snapshot: reconciler.snapshot(),
        document: desired_state.subscribe(),
        store: store.clone(),
        events: Some(events),
        disk_space: disk_space.clone(),
        clock: Arc::new(SystemClock),
    };
    let _told = tell_metrics(&config, scrape.clone(), &stop).await?;
    let routes = reconciler.routes();
    let sources = Sources {
        snapshot: reconciler.snapshot(),
        document: desired_state.subscribe(),
        routes: Arc::new(move || routes.files()),
        status: status.clone(),
        scrape,
    };
    let signs = Signs {
        beats: reconciler.beats(),
        store: store.clone(),
        desired_state: Arc::clone(&desired_state),
    };
    let _writer = vital(&stop, write_reports(status.clone()));
    let logs = podman.clone();
    let image_gc = ImageGc {
        images: Arc::new(podman.clone()),
        disk_space: disk_space.clone(),
        image_leases,
        document: desired_state.subscribe(),
        snapshot: reconciler.snapshot(),
        facts: facts.clone(),
        metrics,
        jitter: system_jitter(),
        reserve,
    };
    let _image_gc = vital(&stop, image_gc.run());
    let _facts = vital(&stop, {
        let (config, snapshot) = (config.clone(), reconciler.snapshot());
        async move {
            facts::keep(&podman, &config, &disk_space, &facts, snapshot, &system_jitter()).await;
        }
    });
    let _watchdog = AbortOnDropHandle::new(tokio::spawn(watchdog::feed(signs)));
    let local = socket::serve(local_listener, sources, stop.clone());
    let local = tokio::spawn(ending_all(stop.clone(), local));
    let router = endpoints(desired_state, status, logs, reconciler.snapshot(), stop.child_token());
    let control = server::serve(control_listener, tls, router, stop.child_token());
    let control = tokio::spawn(ending_all(stop.clone(), control));
    let _renewer = vital(&stop, renewer.run(stop.child_token()));
    let reconciling = tokio::spawn(ending_all(stop.clone(), reconciler.run(stop.clone())));
    notify(&[NotifyState::Ready, NotifyState::Status("running")]);

    stop.cancelled().await;
    notify(&[NotifyState::Stopping]);
    drain(async { tokio::join!(reconciling, local, control).0 }).await
}

/// What coordinators may ask of this host.
fn endpoints(
    sink: Arc<DesiredState<SystemClock>>,
    status: Status,
    logs: Podman,
    containers: watch::Receiver<Option<Arc<HostSnapshot>>>,
    stop: CancellationToken,
) -> server::Router {
    server::routes(server::Parts { sink, outbox: Arc::new(status), logs, containers, stop })
}

/// A part the agent cannot work without. It only ends by itself if it panics: then the whole agent
/// ends, and systemd starts a fresh one.
async fn ending_all<T>(stop: CancellationToken, part: impl Future<Output = T>) -> T {
    let _ends_all = stop.drop_guard();
    part.await
}

/// The same as a separate task, which runs as long as the handle is held.
fn vital(
    stop: &CancellationToken,
    part: impl Future<Output = ()> + Send + 'static,
) -> AbortOnDropHandle<()> {
    AbortOnDropHandle::new(tokio::spawn(ending_all(stop.clone(), part)))
}

/// Waits for the parts, but not forever.
async fn drain(parts: impl Future<Output = Result<(), JoinError>>) -> Result<()> {
    if let Ok(reconciled) = tokio::time::timeout(DRAIN, parts).await {
        return reconciled.context("the reconciler failed; see the log above");
    }
    tracing::warn!("some parts did not stop in time");
    Ok(())
}

/// This machine: Podman, Caddy and the resolver's file.
struct Machine {
    podman: Arc<Podman>,
    prober: Arc<CountedProber<NetProber>>,
    caddy: Arc<caddy::Routes>,
    live_table: Arc<LiveTableFile>,
    clock: Arc<SystemClock>,
    jitter: Jitter,
}

impl Machine {
    fn new(
        config: &Config,
        podman: Podman,
        clock: &Arc<SystemClock>,
        reserve: &Reserve,
        metrics: &Metrics,
    ) -> Result<Self> {
        let caddy = caddy::Routes::new(config).context("cannot prepare Caddy's routes")?;
        let live_table = LiveTableFile::new(config.resolver.table.clone());
        Ok(Self {
            podman: Arc::new(podman),
            prober: Arc::new(CountedProber { prober: NetProber, metrics: metrics.clone() }),
            caddy: Arc::new(caddy.with_metrics(metrics.clone())),
            live_table: Arc::new(live_table.with_reserve(reserve.clone())),
            clock: Arc::clone(clock),
            jitter: system_jitter(),
        })
    }
}

impl World for Machine {
    type Containers = Podman;
    type Prober = CountedProber<NetProber>;
    type Proxy = caddy::Routes;
    type LiveTable = LiveTableFile;
    type Clock = SystemClock;

    fn containers(&self) -> &Arc<Podman> {
        &self.podman
    }

    fn prober(&self) -> &Arc<CountedProber<NetProber>> {
        &self.prober
    }

    fn proxy(&self) -> &Arc<caddy::Routes> {
        &self.caddy
    }

    fn live_table(&self) -> &Arc<LiveTableFile> {
        &self.live_table
    }

    fn clock(&self) -> &Arc<SystemClock> {
        &self.clock
    }

    fn jitter(&self) -> &Jitter {
        &self.jitter
    }

    fn memory_events(&self) -> Option<Arc<dyn MemoryEvents>> {
        Some(Arc::new(CgroupFs::default()))
    }

    fn cgroups(&self) -> Option<Arc<dyn Cgroups>> {
        Some(Arc::new(CgroupFs::default()))
    }

    fn process_exits(&self) -> Option<Arc<dyn ProcessExits>> {
        Some(Arc::new(Pidfds))
    }
}

fn settings(config: &Config, key: OpeningKey) -> Settings {
    Settings {
        network: config.network.clone(),
        drain: config.drain.clone(),
        render: renderer(config),
        joined: true,
        key: Some(Arc::new(key)),
        previous: previous_table(config),
        watched_exits: open_files::watches(),
    }
}

fn podman(config: &Config, host: HostId, disk_space: &DiskSpace, metrics: &Metrics) -> Podman {
    let limits = PullLimits { max_image: config.pull.max_image, ..PullLimits::default() };
    Podman::new(config.podman.socket.clone(), host)
        .with_pull_limits(limits)
        .with_max_containers(config.podman.max_containers)
        .with_disk_space(disk_space.clone())
        .without_kernel_keys(&config.state_dir)
        .with_metrics(metrics.clone())
}

async fn write_reports(status: Status) {
    if let Err(error) = status.write(&SystemClock).await {
        log(&error, "cannot write reports");
    }
}

fn disk_space(config: &Config) -> DiskSpace {
    DiskSpace::new(config.disk, config.state_dir.clone(), system_measure())
}

/// Serves metrics on the configured loopback address, if any.
async fn tell_metrics(
    config: &Config,
    scrape: Scrape,
    stop: &CancellationToken,
) -> Result<Option<AbortOnDropHandle<std::io::Result<()>>>> {
    let Some(address) = config.metrics.listen else { return Ok(None) };
    let listener = TcpListener::bind(address).await.with_context(|| {
        format!("cannot serve metrics on {address}; is it taken? `metrics.listen` sets it")
    })?;
    let serving = metrics::serve(listener, scrape, stop.child_token());
    Ok(Some(AbortOnDropHandle::new(tokio::spawn(serving))))
}

/// Warnings for the administrator.
type Alarm = watch::Receiver<Option<String>>;

/// Renews the certificate, and reports the alarms of documents and certificate as one, for as long
/// as the handle is held.
fn renewer(
    config: &Config,
    identity: &Identity,
    clock: &Arc<SystemClock>,
    desired_state: &DesiredState<SystemClock>,
) -> Result<(Renewer<SystemClock>, Alarm, AbortOnDropHandle<()>)> {
    let (state_dir, clock) = (config.state_dir.clone(), Arc::clone(clock));
    let renewer =
        Renewer::new(identity, state_dir, clock, system_jitter(), desired_state.trust_roots())?;
    let (both, alarm) = watch::channel(None);
    let joined = tokio::spawn(join_alarms(desired_state.alarm(), renewer.alarm(), both));
    Ok((renewer, alarm, AbortOnDropHandle::new(joined)))
}

/// The route files' text, from the configuration's Caddy settings.
fn renderer(config: &Config) -> Render {
    let (network, dns) = (config.network.clone(), config.resolver.dns);
    let (certificate, error_log) =
        (config.caddy.certificate.clone(), config.caddy.error_log.clone());
    let hsts_s = config.caddy.hsts_s;
    Arc::new(move |zone, domains: &Domains| {
        let edge = caddy::Edge {
            zone,
            network: &network,
            dns,
            certificate: certificate.as_ref(),
            error_log: &error_log,
            hsts_s,
        };
        let (zone_file, text) = edge.zone_file();
        let mut rendered = Rendered { zone: zone_file.clone(), ..Rendered::default() };
        rendered.files.insert(zone_file, text);
        for (id, (subdomain, names)) in domains {
            if let Some((file, text)) = edge.domains_file(*id, subdomain, names) {
                rendered.own.insert(*id, file.clone());
                rendered.files.insert(file, text);
            }
        }
        rendered
    })
}

/// The table as it was left; a torn or missing one says nothing, and is published again.
fn previous_table(config: &Config) -> Option<LiveTable> {
    let text = std::fs::read(&config.resolver.table).ok()?;
    serde_json::from_slice(&text).ok()
}

fn notify(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!(%error, "cannot notify systemd");
    }
}

fn log(error: &(dyn std::error::Error + 'static), message: &str) {
    tracing::error!(error, "{message}");
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reports, facts, images, the certificate: none of them can stop silently.
    #[tokio::test]
    async fn the_agent_stops_when_any_vital_task_ends() {
        let stop = CancellationToken::new();
        let lives = vital(&stop, std::future::pending());
        assert!(!stop.is_cancelled());
        let dies = vital(&stop, async { panic!("a bug") });
        let stopped = tokio::time::timeout(Duration::from_secs(20), stop.cancelled()).await;
        assert!(stopped.is_ok() && dies.await.is_err() && !lives.is_finished());
    }
}
