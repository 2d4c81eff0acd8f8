//! Operations under way: what runs, its outcome, and when it is withdrawn.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddrV4;
use std::sync::{Arc, Mutex, PoisonError};

use buddo_runtime::clock::Clock;
use buddo_shared::id::{DeploymentId, Revision};
use buddo_shared::manifest::RunState;
use buddo_shared::probe::Probe;
use buddo_shared::report::{Frame, Phase, Progress};
use tokio::sync::{Notify, Semaphore, mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::adapters::probe::board::{Probes, Target};
use crate::host::disk::ImageLeases;
use crate::host::metrics::Metrics;
use crate::model::health::Level;
use crate::model::step::{Lane, Step};
use crate::plan::Busy;
use crate::plan::state::StepOutcome;
use crate::ports::{Containers, Prober};
use crate::reconcile::executor::{Executor, ExecutorObserver, Operation};
use crate::reconcile::relist::Relist;
use crate::reconcile::report::Status;

/// Concurrent operations, of each kind.
const AT_ONCE: usize = 8;
/// Concurrent operations that begin with an image: a pull may be slow, and waits for the network.
const PULLS_AT_ONCE: usize = 16;

type Key = (DeploymentId, Lane);

/// An event of an operation.
#[derive(Debug)]
enum Event {
    /// A step begins; Podman's events had this many lines.
    Begins {
        step: Step,
        lines: u64,
    },
    Ended {
        step: Step,
        revision: Revision,
        happened: StepOutcome,
    },
    /// The operation is over.
    Over,
}

/// A step that ended.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) deployment: DeploymentId,
    pub(super) lane: Lane,
    pub(super) step: Step,
    /// The revision it was for.
    pub(super) revision: Revision,
    pub(super) happened: StepOutcome,
    /// Lines of Podman's events that had come when it began.
    pub(super) lines_before: u64,
}

/// What a deployment is asked to be; `None`: gone. An operation is withdrawn when this changes. A
/// revision is immutable, so its number is enough; it has none where the desired one was given up
/// and what serves is kept.
pub(super) type Asked = Option<(Option<Revision>, RunState)>;

struct RunningOperation {
    asked: Asked,
    revision: Revision,
    permit: CancellationToken,
    step: Step,
    /// The steps after it.
    next: Vec<Step>,
    /// Lines of Podman's events that had come when the step began.
    lines: u64,
    /// Containers that the operation asked to be probed.
    watches: Vec<String>,
}

/// Limits on operations, so that a host's Podman is not flooded. Slow work of one kind does not
/// hold up another: neither a restart of a crashed app nor a stop waits for a pull.
#[derive(Clone)]
struct Places {
    serve: Arc<Semaphore>,
    roll: Arc<Semaphore>,
    image: Arc<Semaphore>,
}

impl Places {
    fn new() -> Self {
        let places = |count| Arc::new(Semaphore::new(count));
        Self { serve: places(AT_ONCE), roll: places(AT_ONCE), image: places(PULLS_AT_ONCE) }
    }

    fn of(&self, order: &Operation) -> Arc<Semaphore> {
        Arc::clone(match order.lane {
            Lane::Serve => &self.serve,
            Lane::Roll if order.steps.contains(&Step::Image) => &self.image,
            Lane::Roll => &self.roll,
        })
    }
}

/// Operations under way. The channel is bounded by what runs: a few events per operation.
pub(super) struct Operations<C> {
    executor: Executor<C>,
    places: Places,
    flights: BTreeMap<Key, RunningOperation>,
    news: mpsc::UnboundedSender<(Key, Event)>,
    heard: mpsc::UnboundedReceiver<(Key, Event)>,
    wake: Arc<Notify>,
    lines: watch::Receiver<u64>,
    metrics: Metrics,
}

impl<C: Containers> Operations<C> {
    /// `wake` is notified when an operation is over; `lines` counts Podman's events.
    pub(super) fn new(
        executor: Executor<C>,
        wake: Arc<Notify>,
        lines: watch::Receiver<u64>,
    ) -> Self {
        let (news, heard) = mpsc::unbounded_channel();
        let flights = BTreeMap::new();
        let (places, metrics) = (Places::new(), Metrics::default());
        Self { executor, places, flights, news, heard, wake, lines, metrics }
    }

    /// Counts steps in `metrics` from now on.
    pub(super) fn count_in(&mut self, metrics: Metrics) {
        self.metrics = metrics;
    }

    /// From now on, protects images from the image GC by leases.
    pub(super) fn go_by(&mut self, image_leases: ImageLeases) {
        self.executor = self.executor.clone().with_image_leases(image_leases);
    }

    /// Starts an operation.
    pub(super) fn send<P: Prober, K: Clock>(
        &mut self,
        order: Operation,
        asked: Asked,
        probes: &Probes<P, K>,
        status: &Status,
    ) {
        let Some(first) = order.steps.first().cloned() else { return };
        let key = (order.deployment, order.lane);
        let flight = RunningOperation {
            asked,
            revision: order.revision,
            permit: order.permit.clone(),
            step: first,
            next: order.steps.iter().skip(1).cloned().collect(),
            lines: *self.lines.borrow(),
            watches: order.steps.iter().filter_map(watched).cloned().collect(),
        };
        self.flights.insert(key, flight);
        let observer = OperationObserver {
            key,
            news: self.news.clone(),
            probes: probes.clone(),
            status: status.clone(),
            lines: self.lines.clone(),
            metrics: self.metrics.clone(),
            begun: Mutex::new(Instant::now()),
        };
        let executor = self.executor.clone();
        let places = self.places.of(&order);
        // Sent even when the task panics or is dropped: a lane never stays taken.
        let over = Over { key, news: self.news.clone(), wake: Arc::clone(&self.wake) };
        tokio::spawn(async move {
            let _over = over;
            let Ok(_place) = places.acquire().await else { return };
            executor.run(&order, &observer).await;
        });
    }

    /// The events since the last call. Finished flights are removed. What they changed, or may
    /// have, is in doubt.
    pub(super) fn drain(&mut self, relist: &mut Relist) -> Vec<Ended> {
        let mut ended = Vec::new();
        while let Ok((key, event)) = self.heard.try_recv() {
            match event {
                Event::Begins { step, lines } => {
                    if let Some(flight) = self.flights.get_mut(&key) {
                        if let Some(at) = flight.next.iter().position(|next| *next == step) {
                            flight.next.drain(..=at);
                        }
                        (flight.step, flight.lines) = (step, lines);
                    }
                }
                Event::Ended { step, revision, happened } => {
                    let (deployment, lane) = key;
                    let lines_before = self.flights.get(&key).map_or(0, |flight| flight.lines);
                    let step = Ended { deployment, lane, step, revision, happened, lines_before };
                    ended.push(step);
                }
                Event::Over => {
                    // If its task ended within a step, nobody reported the outcome of that step.
                    if let Some(flight) = self.flights.remove(&key) {
                        let container = flight.step.container(key.0, flight.revision);
                        if let Some(name) = container {
                            relist.doubt(name);
                        }
                    }
                }
            }
        }
        for Ended { deployment, step, revision, .. } in &ended {
            if let Some(name) = step.container(*deployment, *revision) {
                relist.doubt(name);
            }
        }
        ended
    }

    /// Withdraws operations that are no longer asked for.
    pub(super) fn withdraw(&self, asked: impl Fn(DeploymentId) -> Asked) {
        for ((id, _), flight) in &self.flights {
            if asked(*id) != flight.asked {
                flight.permit.cancel();
            }
        }
    }

    /// The running operations of a deployment.
    pub(super) fn busy(&self, id: DeploymentId) -> Busy {
        let flight = |lane| self.flights.get(&(id, lane));
        let roll = flight(Lane::Roll);
        Busy {
            serve: flight(Lane::Serve).map(|flight| flight.step.clone()),
            roll: roll.map(|flight| flight.step.clone()),
            roll_next: roll.map(|flight| flight.next.clone()).unwrap_or_default(),
        }
    }

    /// Containers that operations under way have probed, now or in a moment.
    pub(super) fn watches(&self) -> BTreeSet<String> {
        self.flights.values().flat_map(|flight| flight.watches.iter().cloned()).collect()
    }
}

fn watched(step: &Step) -> Option<&String> {
    match step {
        Step::Watch(name) => Some(name),
        _ => None,
    }
}

struct Over {
    key: Key,
    news: mpsc::UnboundedSender<(Key, Event)>,
    wake: Arc<Notify>,
}

impl Drop for Over {
    fn drop(&mut self) {
        // When the agent stops, nobody listens any longer.
        let _ = self.news.send((self.key, Event::Over));
        self.wake.notify_one();
    }
}

struct OperationObserver<P, K> {
    key: Key,
    news: mpsc::UnboundedSender<(Key, Event)>,
    probes: Probes<P, K>,
    status: Status,
    lines: watch::Receiver<u64>,
    metrics: Metrics,
    /// When the current step began.
    begun: Mutex<Instant>,
}

impl<P: Prober, K: Clock> ExecutorObserver for OperationObserver<P, K> {
    fn begins(&self, order: &Operation, step: &Step) {
        let (id, revision) = (order.deployment, order.revision);
        tracing::debug!(deployment = %id, %revision, %step, "begins");
        *self.begun.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        let phase = match step {
            Step::Image => Some(Phase::Pulling),
            Step::Create(_) | Step::Start(_) => Some(Phase::Starting),
            Step::Watch(_) => Some(Phase::Probing),
            Step::Stop(_) if order.lane == Lane::Roll && order.desired.is_none() => {
                Some(Phase::Stopping)
            }
            _ => None,
        };
        if let Some(phase) = phase {
            self.progress(Progress { id, revision, phase, percent: None });
        }
        let begins = Event::Begins { step: step.clone(), lines: *self.lines.borrow() };
        let _ = self.news.send((self.key, begins));
    }

    fn ended(&self, order: &Operation, step: &Step, happened: StepOutcome) {
        let (id, revision) = (order.deployment, order.revision);
        if let StepOutcome::Failed(error) = &happened {
            let error = error as &dyn std::error::Error;
            tracing::warn!(deployment = %id, %revision, %step, error, "failed");
        } else {
            tracing::debug!(deployment = %id, %revision, %step, "done");
        }
        let begun = *self.begun.lock().unwrap_or_else(PoisonError::into_inner);
        self.metrics.stepped(step, &happened, begun.elapsed());
        let event = Event::Ended { step: step.clone(), revision, happened };
        let _ = self.news.send((self.key, event));
    }

    fn progress(&self, progress: Progress) {
        self.status.tell(Frame::Progress(progress));
    }

    fn watch(&self, order: &Operation, name: &str, address: SocketAddrV4, probe: &Probe) {
        let target = Target {
            deployment: order.deployment,
            name: name.to_owned(),
            address,
            probe: probe.clone(),
        };
        self.probes.begin(target, Level::Starting);
    }
}
