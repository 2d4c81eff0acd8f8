//! The loop: observed state → desired state → make it so. Level-triggered.
//!
//! ```text
//!   document ───┐                        ┌─► probes.keep     (which containers are probed)
//!   events ─────┤                        ├─► table.publish   (where visitors go; persisted)
//!   probes ─────┼─► wake ─► observe ─► plan ─► routes.want   (files, certificates)
//!   operations ─┤    (what is in doubt)  ├─► store.save      (persisted state; not waited for)
//!   timers ─────┤                        ├─► operations.send (steps, each in its lane)
//!   errors ─────┤                        ├─► edge            (routes; Caddy's log, while watched)
//!   kills ──────┤                        ├─► lookouts        (the kernel's counts, exits)
//!   exits,      │                        └─► status.set, snapshot
//!   limits ─────┘
//! ```
//!
//! A wake-up carries no data: at most it names what to ask about. Every pass plans for everything,
//! and asks Podman about what is in doubt, at regular intervals about all. A pass never fails: what
//! went wrong becomes part of the status. Operations run in tasks of their own and wake the loop
//! when they end.

mod edge;
pub mod event_liveness;
pub mod executor;
mod host_trouble;
mod lookouts;
mod observation;
pub mod observe;
mod old_table;
mod operations;
mod orphans;
mod pass;
mod persistence;
mod planned;
mod publish;
mod relist;
pub mod report;
mod resync;
pub mod routing;
mod secrets;
mod shortage;
mod table_publisher;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use buddo_shared::host_wire::report::Frame;
use buddo_shared::host_wire::sealed::OpeningKey;
use buddo_shared::model::id::DeploymentId;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

pub use self::edge::{Domains, Render, Rendered};

use self::edge::Edge;
use self::executor::Executor;
use self::host_trouble::HostTrouble;
use self::lookouts::Lookouts;
use self::observation::{Change, Observation, RELIST};
use self::operations::Operations;
use self::orphans::OrphanSweep;
use self::persistence::Persistence;
use self::report::Status;
use self::routing::Routes;
use self::secrets::SecretsWatch;
use self::shortage::Shortage;
use self::table_publisher::TablePublisher;
use crate::adapters::probe::board::Probes;
use crate::adapters::store::{Store, StoreError};
use crate::config::{Drain, Network};
use crate::host::disk::ImageLeases;
use crate::model::document::Document;
use crate::model::host_facts::HostFacts;
use crate::model::live_table::LiveTable;
use crate::model::snapshot::HostSnapshot;
use crate::model::workload::WorkloadId;
use crate::plan::state::WorkloadState;
use crate::ports::{EventFeed, World};
use crate::process::metrics::Metrics;

/// Events of one change arrive together; one pass serves them all.
const GATHER: Duration = Duration::from_millis(25);
/// How often the loop shows that it is alive, even with nothing to do.
const HEARTBEAT: Duration = Duration::from_secs(5);
/// How often the last probes of serving containers are reported.
const CHECKED: Duration = Duration::from_secs(30);

/// What the loop listens to.
pub struct Inputs {
    /// The document in force.
    pub document: watch::Receiver<Option<Arc<Document>>>,
    /// Why a document was refused.
    pub alarm: watch::Receiver<Option<String>>,
    pub facts: watch::Receiver<HostFacts>,
}

/// What does not change while the agent runs.
pub struct Settings {
    pub network: Network,
    /// How old containers are drained.
    pub drain: Drain,
    /// How route files are written.
    pub render: Render,
    /// Whether this host belongs to a coordinator.
    pub joined: bool,
    pub key: Option<Arc<OpeningKey>>,
    /// The last published live table, if it could be read.
    pub previous: Option<LiveTable>,
    /// How many processes may be watched for their exit: each takes a file descriptor.
    pub watched_exits: usize,
}

/// What the loop shares with other parts of the agent.
pub struct Shared {
    pub store: Store,
    /// Where reports go.
    pub status: Status,
    /// Keeps images from the image GC while operations work with them.
    pub image_leases: ImageLeases,
    pub metrics: Metrics,
}

/// The loop and all its state.
pub struct Reconciler<W: World> {
    world: W,
    inputs: Inputs,
    settings: Settings,
    states: BTreeMap<WorkloadId, WorkloadState>,
    /// What an earlier agent reported: it may be gone, and nobody was told.
    untold: BTreeSet<DeploymentId>,
    observation: Observation,
    host_trouble: HostTrouble,
    secrets: SecretsWatch,
    orphans: OrphanSweep,
    shortage: Shortage,
    operations: Operations<W::Containers>,
    probes: Probes<W::Prober, W::Clock>,
    lookouts: Lookouts,
    table: TablePublisher<W::LiveTable>,
    edge: Edge<W::Proxy>,
    persistence: Persistence,
    status: Status,
    snapshot: watch::Sender<Option<Arc<HostSnapshot>>>,
    beats: watch::Sender<u64>,
    wake: Arc<Notify>,
    metrics: Metrics,
}

impl<W: World> Reconciler<W> {
    /// Restores the loop from the database.
    pub async fn restore(
        world: W,
        inputs: Inputs,
        events: EventFeed,
        settings: Settings,
        shared: Shared,
    ) -> Result<Self, StoreError> {
        let Shared { store, status, image_leases, metrics } = shared;
        let saved = store.workloads().await?;
        let states = saved
            .iter()
            .map(|(id, persisted)| (*id, WorkloadState::restore(persisted.clone())))
            .collect();
        // It was not reported yet that these are gone, if they are.
        let reported = store.reported().await?;
        let untold = reported.keys().filter_map(|subject| subject.parse().ok()).collect();
        let (now, wake) = (Instant::now(), Arc::new(Notify::new()));
        let jitter = || Arc::clone(world.jitter());
        let executor =
            Executor::new(Arc::clone(world.containers()), settings.key.clone(), image_leases);
        Ok(Self {
            operations: Operations::new(
                executor,
                metrics.clone(),
                Arc::clone(&wake),
                events.lines.clone(),
            ),
            probes: Probes::new(
                Arc::clone(world.prober()),
                Arc::clone(world.clock()),
                jitter(),
                Arc::clone(&wake),
            ),
            observation: Observation::begin(events, now),
            host_trouble: HostTrouble::begin(now),
            secrets: SecretsWatch::begin(now),
            orphans: OrphanSweep::begin(now),
            shortage: Shortage::default(),
            lookouts: Lookouts::new(&world, settings.watched_exits, &wake, metrics.clone()),
            table: TablePublisher::new(Arc::clone(world.live_table()), settings.previous.clone()),
            edge: Edge::new(world.proxy(), Arc::clone(&settings.render), jitter(), &wake),
            persistence: Persistence::new(store, saved, Arc::clone(&wake), jitter()),
            world,
            inputs,
            settings,
            states,
            untold,
            status,
            snapshot: watch::Sender::new(None),
            beats: watch::Sender::new(0),
            wake,
            metrics,
        })
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
    pub fn routes(&self) -> Routes<W::Proxy> {
        self.edge.routes()
    }

    /// Runs until `stop`. Containers and routes stay as they are.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut beside = self.drive_beside();
        let mut reported_at = Instant::now();
        while !stop.is_cancelled() {
            let begun = Instant::now();
            let next = self.pass().await;
            self.metrics.passed(begun.elapsed());
            if reported_at.elapsed() >= CHECKED {
                reported_at = Instant::now();
                self.report_checked();
            }
            if self.rest(next, &stop, &mut reported_at).await.is_none() {
                break;
            }
            if beside.is_finished() {
                // It ends only by a panic; visitors of new domains must not suffer from that.
                beside = self.drive_beside();
            }
        }
    }

    /// What drives Caddy and reads for auto rollback, beside the loop.
    fn drive_beside(&self) -> AbortOnDropHandle<()> {
        let (edge, lookouts) = (self.edge.drive(), self.lookouts.drive());
        AbortOnDropHandle::new(tokio::spawn(async move {
            tokio::join!(edge, lookouts);
        }))
    }

    fn beat(&self) {
        self.beats.send_modify(|beats| *beats = beats.wrapping_add(1));
    }

    fn report_checked(&self) {
        let checked = self.probes.checked();
        if !checked.is_empty() {
            self.status.send(Frame::Checked(checked));
        }
    }

    /// Waits for a reason for the next pass. `None`: to stop.
    async fn rest(
        &mut self,
        next: Option<Instant>,
        stop: &CancellationToken,
        reported_at: &mut Instant,
    ) -> Option<()> {
        let due = [next, self.observation.stream_due()].into_iter().flatten();
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
                change = self.observation.changed() => {
                    if change == Change::Hint {
                        tokio::select! {
                            biased;
                            () = self.wake.notified() => {}
                            () = tokio::time::sleep(GATHER) => {}
                        }
                    }
                    return Some(());
                }
                () = tokio::time::sleep_until(until) => return Some(()),
                // Shows that the loop is alive; nothing is observed.
                () = tokio::time::sleep(HEARTBEAT) => {
                    if reported_at.elapsed() >= CHECKED {
                        *reported_at = Instant::now();
                        self.report_checked();
                    }
                }
            }
        }
    }
}
