//! The loop: observed state → desired state → make it so. Level-triggered.
//!
//! ```text
//!   document ───┐                        ┌─► probes.keep     (which containers are probed)
//!   events ─────┤                        ├─► table.publish   (where visitors go; persisted)
//!   probes ─────┼─► wake ─► observe ─► plan ─► routes.want   (files, certificates)
//!   operations ─┤    (what is in doubt)  ├─► store.save      (persisted state; not waited for)
//!   timers ─────┤                        ├─► operations.send (steps, each in its lane)
//!   errors ─────┤                        ├─► errors.want     (Caddy's log, while a guard is open)
//!   kills ──────┤                        ├─► kills.want      (the kernel's counts, likewise)
//!   exits ──────┘                        ├─► exits.keep      (processes of running containers)
//!                                        └─► status.set, snapshot
//! ```
//!
//! A wake-up carries no data: at most it names what to ask about. Every pass plans for everything,
//! and asks Podman about what is in doubt, at regular intervals about all. A pass never fails: what
//! went wrong becomes part of the status. Operations run in tasks of their own and wake the loop
//! when they end.

pub mod event_liveness;
pub mod executor;
pub mod observe;
mod old_table;
mod operations;
mod orphans;
mod pass;
mod publish;
mod relist;
pub mod report;
mod resync;
pub mod routing;
mod save;
mod secrets;
mod shortage;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use buddo_runtime::backoff::Failures;
use buddo_runtime::clock::Clock;
use buddo_shared::id::DeploymentId;
use buddo_shared::name::{HostName, Subdomain};
use buddo_shared::report::{Failure, Frame};
use buddo_shared::sealed::OpeningKey;
use operations::Operations;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::adapters::probe::board::Probes;
use crate::adapters::store::Store;
use crate::config::{Drain, Network};
use crate::host::disk::ImageLeases;
use crate::host::exits::Exits;
use crate::host::metrics::Metrics;
use crate::host::oom::Kills;
use crate::host::proxy_errors::Errors;
use crate::model::document::Document;
use crate::model::failed_requests::Names;
use crate::model::host_facts::HostFacts;
use crate::model::live_table::LiveTable;
use crate::model::retries::Jitter;
use crate::model::snapshot::HostSnapshot;
use crate::plan::permits::Permits;
use crate::plan::rollback_watch::mass_failure::MassFailure;
use crate::plan::state::{DeploymentState, Persisted};
use crate::ports::{
    Containers, EventFeed, LiveTablePublisher, MemoryEvents, Prober, ProcessExits, Proxy,
    RouteFiles,
};
use crate::reconcile::event_liveness::EventLiveness;
use crate::reconcile::executor::Executor;
use crate::reconcile::observe::Observed;
use crate::reconcile::report::Status;
use crate::reconcile::routing::Routes;

/// How often all containers are listed while events arrive.
const RELIST: Duration = Duration::from_mins(1);
/// How often while they do not.
const RELIST_BLIND: Duration = Duration::from_secs(4);
/// Events of one change arrive together; one pass serves them all.
const GATHER: Duration = Duration::from_millis(25);
/// How often the loop shows that it is alive, even with nothing to do.
const HEARTBEAT: Duration = Duration::from_secs(5);
/// How often the last probes of serving containers are reported.
const CHECKED: Duration = Duration::from_secs(30);

/// The outside world, behind its ports.
pub struct World<C, P, X, L, K> {
    pub containers: Arc<C>,
    pub prober: Arc<P>,
    pub proxy: Arc<X>,
    pub table: Arc<L>,
    pub clock: Arc<K>,
    pub jitter: Jitter,
}

/// What the loop listens to.
pub struct Inputs {
    /// The document in force.
    pub document: watch::Receiver<Option<Arc<Document>>>,
    /// Why a document was refused.
    pub alarm: watch::Receiver<Option<String>>,
    /// Hints that something happened to a container.
    pub events: EventFeed,
    pub facts: watch::Receiver<HostFacts>,
}

/// Route files and which of them each app needs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rendered {
    pub files: RouteFiles,
    /// The file that every app needs.
    pub zone: String,
    /// Files that only one app needs, in addition.
    pub own: BTreeMap<DeploymentId, String>,
}

/// Apps with host names of their own.
pub type Domains = BTreeMap<DeploymentId, (Subdomain, Vec<HostName>)>;

/// Renders route files for a zone and the domains in it.
pub type Render = Arc<dyn Fn(&HostName, &Domains) -> Rendered + Send + Sync>;

/// What does not change while the agent runs.
pub struct Settings {
    pub network: Network,
    /// How old containers leave.
    pub drain: Drain,
    /// How route files are written.
    pub render: Render,
    /// Whether this host belongs to a coordinator.
    pub joined: bool,
    pub key: Option<Arc<OpeningKey>>,
    /// The last published live table, if it could be read.
    pub previous: Option<LiveTable>,
}

/// The first write has nothing to wait for.
fn no_write_yet() -> save::WriteEnd {
    let end = save::WriteEnd::new();
    end.cancel();
    end
}

/// What is retried until it succeeds.
#[derive(Default)]
struct Retries {
    listing: Failures,
    publishing: Failures,
    saving: Arc<Failures>,
}

/// The loop and all its state.
pub struct Reconciler<C, P, X, L, K> {
    world: World<C, P, X, L, K>,
    inputs: Inputs,
    settings: Settings,
    store: Store,
    status: Status,
    probes: Probes<P, K>,
    routes: Routes<X>,
    errors: Errors<X>,
    kills: Kills,
    exits: Exits,
    operations: Operations<C>,
    event_liveness: EventLiveness,
    wake: Arc<Notify>,
    memories: BTreeMap<DeploymentId, DeploymentState>,
    saved: BTreeMap<DeploymentId, Persisted>,
    unsaved: watch::Sender<bool>,
    last_write: save::WriteEnd,
    table: Option<LiveTable>,
    /// As an earlier agent left it, until this one has written its own.
    left: Option<LiveTable>,
    unpublished: bool,
    failures: Retries,
    rendered: (Domains, Option<HostName>, Rendered),
    secrets: secrets::Looks,
    sweep: orphans::Sweep,
    shortage: shortage::Shortage,
    relist: relist::Relist,
    observed: Observed,
    /// There were hints since the last pass.
    hinted: bool,
    trouble: Option<Failure>,
    /// Apps that went down recently, and until when their host is to blame.
    mass_failure: MassFailure,
    troubled_until: Option<Instant>,
    many_sick: bool,
    permits: Permits,
    /// Host names, with the document they were made for, while a guard is open.
    names: Option<(Arc<Document>, Names)>,
    snapshot: watch::Sender<Option<Arc<HostSnapshot>>>,
    beats: watch::Sender<u64>,
    metrics: Metrics,
}

impl<C, P, X, L, K> Reconciler<C, P, X, L, K>
where
    C: Containers,
    P: Prober,
    X: Proxy,
    L: LiveTablePublisher,
    K: Clock,
{
    /// Restores the loop from the database.
    pub async fn restore(
        world: World<C, P, X, L, K>,
        inputs: Inputs,
        settings: Settings,
        store: Store,
        status: Status,
    ) -> Result<Self, crate::adapters::store::StoreError> {
        let saved = store.deployments().await?;
        let mut memories: BTreeMap<_, _> = saved
            .iter()
            .map(|(id, durable)| (*id, DeploymentState::restore(durable.clone())))
            .collect();
        // The coordinator has not been told yet that these are gone, if they are.
        for id in store.reported().await?.keys().filter_map(|subject| subject.parse().ok()) {
            memories.entry(id).or_default();
        }
        let wake = Arc::new(Notify::new());
        let executor = Executor::new(Arc::clone(&world.containers), settings.key.clone());
        let jitter = || Arc::clone(&world.jitter);
        let left = settings.previous.clone();
        Ok(Self {
            probes: Probes::new(
                Arc::clone(&world.prober),
                Arc::clone(&world.clock),
                jitter(),
                Arc::clone(&wake),
            ),
            routes: Routes::new(Arc::clone(&world.proxy), jitter(), Arc::clone(&wake)),
            errors: Errors::new(Arc::clone(&world.proxy), Arc::clone(&wake)),
            kills: Kills::new(Arc::clone(&wake)),
            exits: Exits::new(Arc::clone(&wake)),
            operations: Operations::new(executor, Arc::clone(&wake), inputs.events.lines.clone()),
            event_liveness: EventLiveness::default(),
            world,
            inputs,
            settings,
            store,
            status,
            wake,
            memories,
            saved,
            unsaved: watch::Sender::new(false),
            last_write: no_write_yet(),
            table: None,
            left,
            unpublished: false,
            failures: Retries::default(),
            rendered: (BTreeMap::new(), None, Rendered::default()),
            secrets: secrets::Looks::begin(Instant::now()),
            sweep: orphans::Sweep::begin(Instant::now()),
            shortage: shortage::Shortage::default(),
            relist: relist::Relist::begin(Instant::now()),
            observed: Observed::default(),
            hinted: false,
            trouble: None,
            mass_failure: MassFailure::default(),
            troubled_until: None,
            many_sick: false,
            permits: Permits::begin(Instant::now()),
            names: None,
            snapshot: watch::Sender::new(None),
            beats: watch::Sender::new(0),
            metrics: Metrics::default(),
        })
    }

    /// Counts in `metrics`.
    #[must_use]
    pub fn with_metrics(mut self, metrics: Metrics) -> Self {
        self.operations.count_in(metrics.clone());
        Self { metrics, ..self }
    }

    /// Shares image leases with the image GC.
    #[must_use]
    pub fn with_image_leases(mut self, image_leases: ImageLeases) -> Self {
        self.operations.go_by(image_leases);
        self
    }

    /// Guards learn of kills for memory from `events`.
    #[must_use]
    pub fn with_memory_events(self, events: Arc<dyn MemoryEvents>) -> Self {
        Self { kills: self.kills.of(events), ..self }
    }

    /// Learns of ends from `exits`, before Podman reports them.
    #[must_use]
    pub fn with_exits(self, exits: Arc<dyn ProcessExits>) -> Self {
        Self { exits: self.exits.of(exits), ..self }
    }

    /// Limits how many processes are watched for their exit.
    #[must_use]
    pub fn with_exits_at_most(self, most: usize) -> Self {
        Self { exits: self.exits.at_most(most), ..self }
    }

    /// The snapshot of the host, replaced after each pass.
    pub fn snapshot(&self) -> watch::Receiver<Option<Arc<HostSnapshot>>> {
        self.snapshot.subscribe()
    }

    /// Rises while the loop makes progress: at least once every few seconds.
    pub fn beats(&self) -> watch::Receiver<u64> {
        self.beats.subscribe()
    }

    /// The routes, for display.
    pub fn routes(&self) -> Routes<X> {
        self.routes.clone()
    }

    /// Runs until `stop`. Containers and routes stay as they are.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut edge = self.keep_edge();
        let mut told = Instant::now();
        while !stop.is_cancelled() {
            let begun = Instant::now();
            let next = self.pass().await;
            self.metrics.passed(begun.elapsed());
            if told.elapsed() >= CHECKED {
                told = Instant::now();
                self.tell_checked();
            }
            if self.rest(next, &stop, &mut told).await.is_none() {
                break;
            }
            if edge.is_finished() {
                // It ends only by a panic; visitors of new domains must not suffer from that.
                edge = self.keep_edge();
            }
        }
    }

    /// The tasks that drive Caddy, and read for guards, beside the loop.
    fn keep_edge(&self) -> tokio_util::task::AbortOnDropHandle<()> {
        let (routes, errors, kills) =
            (self.routes.clone(), self.errors.clone(), self.kills.clone());
        tokio_util::task::AbortOnDropHandle::new(tokio::spawn(async move {
            tokio::join!(routes.run(), errors.run(), kills.run());
        }))
    }

    fn beat(&self) {
        self.beats.send_modify(|beats| *beats = beats.wrapping_add(1));
    }

    fn tell_checked(&self) {
        let checked = self.probes.checked();
        if !checked.is_empty() {
            self.status.tell(Frame::Checked(checked));
        }
    }

    /// Waits for a reason for the next pass. `None`: to stop.
    async fn rest(
        &mut self,
        next: Option<Instant>,
        stop: &CancellationToken,
        told: &mut Instant,
    ) -> Option<()> {
        let due = [next, self.event_liveness.due()].into_iter().flatten();
        let until = due.fold(Instant::now() + RELIST, Instant::min);
        loop {
            self.beat();
            let inputs = &mut self.inputs;
            tokio::select! {
                // In a fixed order, not by chance, so that a run can be repeated.
                biased;
                () = stop.cancelled() => return None,
                () = self.wake.notified() => return Some(()),
                Ok(()) = inputs.document.changed() => return Some(()),
                Ok(()) = inputs.alarm.changed() => return Some(()),
                Ok(()) = inputs.facts.changed() => return Some(()),
                Ok(()) = inputs.events.healthy.changed() => {
                    self.relist.doubt_all();
                    return Some(());
                }
                Ok(()) = inputs.events.hints.changed() => {
                    self.hinted = true;
                    tokio::select! {
                        biased;
                        () = self.wake.notified() => {}
                        () = tokio::time::sleep(GATHER) => {}
                    }
                    return Some(());
                }
                () = tokio::time::sleep_until(until) => return Some(()),
                // Shows that the loop is alive; nothing is observed.
                () = tokio::time::sleep(HEARTBEAT) => {
                    if told.elapsed() >= CHECKED {
                        *told = Instant::now();
                        self.tell_checked();
                    }
                }
            }
        }
    }
}
