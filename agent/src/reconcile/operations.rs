//! Operations under way: what runs, its outcome, and when it is withdrawn.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddrV4;
use std::sync::{Arc, Mutex, PoisonError};

use buddo_runtime::clock::Clock;
use buddo_shared::host_wire::manifest::RunState;
use buddo_shared::host_wire::report::{Frame, Progress};
use buddo_shared::model::id::Revision;
use buddo_shared::model::probe::Probe;
use tokio::sync::{Notify, Semaphore, mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::adapters::probe::board::{Probes, Target};
use crate::model::health::Level;
use crate::model::spec::WorkloadSpec;
use crate::model::step::{Lane, Step};
use crate::model::workload::WorkloadId;
use crate::plan::state::StepOutcome;
use crate::plan::{Busy, phase};
use crate::ports::{Containers, Prober};
use crate::process::metrics::Metrics;
use crate::reconcile::executor::{Executor, ExecutorObserver, Operation};
use crate::reconcile::relist::Relist;
use crate::reconcile::report::Status;

/// Concurrent operations, of each kind.
const AT_ONCE: usize = 8;
/// Concurrent operations that begin with an image: a pull may be slow, and waits for the network.
const PULLS_AT_ONCE: usize = 16;

type Key = (WorkloadId, Lane);

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
        outcome: StepOutcome,
    },
    /// The operation is over.
    Over,
}

/// A step that ended.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) workload: WorkloadId,
    pub(super) lane: Lane,
    pub(super) step: Step,
    /// The revision it was for.
    pub(super) revision: Revision,
    pub(super) outcome: StepOutcome,
    /// Lines of Podman's events that had come when it began.
    pub(super) lines_before: u64,
}

/// What a workload is asked to be; `None`: gone. An operation is withdrawn when this changes. A
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
struct ConcurrencyLimits {
    serve: Arc<Semaphore>,
    roll: Arc<Semaphore>,
    image: Arc<Semaphore>,
}

impl ConcurrencyLimits {
    fn new() -> Self {
        let limit = |count| Arc::new(Semaphore::new(count));
        Self { serve: limit(AT_ONCE), roll: limit(AT_ONCE), image: limit(PULLS_AT_ONCE) }
    }

    fn of(&self, operation: &Operation) -> Arc<Semaphore> {
        Arc::clone(match operation.lane {
            Lane::Serve => &self.serve,
            Lane::Roll if operation.steps.contains(&Step::Image) => &self.image,
            Lane::Roll => &self.roll,
        })
    }
}

/// Operations under way. The channel is bounded by what runs: a few events per operation.
pub(super) struct Operations<C> {
    executor: Executor<C>,
    limits: ConcurrencyLimits,
    running: BTreeMap<Key, RunningOperation>,
    events: mpsc::UnboundedSender<(Key, Event)>,
    received: mpsc::UnboundedReceiver<(Key, Event)>,
    wake: Arc<Notify>,
    lines: watch::Receiver<u64>,
    metrics: Metrics,
}

impl<C: Containers> Operations<C> {
    /// `wake` is notified when an operation is over; `lines` counts Podman's events.
    pub(super) fn new(
        executor: Executor<C>,
        metrics: Metrics,
        wake: Arc<Notify>,
        lines: watch::Receiver<u64>,
    ) -> Self {
        let (events, received) = mpsc::unbounded_channel();
        let running = BTreeMap::new();
        let limits = ConcurrencyLimits::new();
        Self { executor, limits, running, events, received, wake, lines, metrics }
    }

    /// Starts an operation.
    pub(super) fn send<P: Prober, K: Clock>(
        &mut self,
        operation: Operation,
        asked: Asked,
        probes: &Probes<P, K>,
        status: &Status,
    ) {
        let Some(first) = operation.steps.first().cloned() else { return };
        let key = (operation.workload, operation.lane);
        let running = RunningOperation {
            asked,
            revision: operation.revision,
            permit: operation.permit.clone(),
            step: first,
            next: operation.steps.iter().skip(1).cloned().collect(),
            lines: *self.lines.borrow(),
            watches: operation.steps.iter().filter_map(watched).cloned().collect(),
        };
        self.running.insert(key, running);
        let observer = OperationObserver {
            key,
            events: self.events.clone(),
            probes: probes.clone(),
            status: status.clone(),
            lines: self.lines.clone(),
            metrics: self.metrics.clone(),
            begun: Mutex::new(Instant::now()),
        };
        let executor = self.executor.clone();
        let permits = self.limits.of(&operation);
        // Sent even when the task panics or is dropped: a lane never stays taken.
        let over = Over { key, events: self.events.clone(), wake: Arc::clone(&self.wake) };
        tokio::spawn(async move {
            let _over = over;
            let Ok(_permit) = permits.acquire().await else { return };
            // Boxed: hundreds wait after a burst of deploys, and each of these takes 5 KiB.
            Box::pin(executor.run(&operation, &observer)).await;
        });
    }

    /// The events since the last call. Those that are over are removed. What they changed, or may
    /// have, is in doubt.
    pub(super) fn drain(&mut self, relist: &mut Relist) -> Vec<Ended> {
        let mut ended = Vec::new();
        while let Ok((key, event)) = self.received.try_recv() {
            match event {
                Event::Begins { step, lines } => {
                    if let Some(running) = self.running.get_mut(&key) {
                        if let Some(at) = running.next.iter().position(|next| *next == step) {
                            running.next.drain(..=at);
                        }
                        (running.step, running.lines) = (step, lines);
                    }
                }
                Event::Ended { step, revision, outcome } => {
                    let (workload, lane) = key;
                    let lines_before = self.running.get(&key).map_or(0, |running| running.lines);
                    let step = Ended { workload, lane, step, revision, outcome, lines_before };
                    ended.push(step);
                }
                Event::Over => {
                    // If its task ended within a step, nobody reported the outcome of that step.
                    if let Some(running) = self.running.remove(&key) {
                        let container = running.step.container(key.0, running.revision);
                        if let Some(name) = container {
                            relist.doubt(name);
                        }
                    }
                }
            }
        }
        for Ended { workload, step, revision, .. } in &ended {
            if let Some(name) = step.container(*workload, *revision) {
                relist.doubt(name);
            }
        }
        ended
    }

    /// Withdraws operations that are no longer asked for.
    pub(super) fn withdraw(&self, asked: impl Fn(WorkloadId) -> Asked) {
        for ((id, _), running) in &self.running {
            if asked(*id) != running.asked {
                running.permit.cancel();
            }
        }
    }

    /// The running operations of a workload.
    pub(super) fn busy(&self, id: WorkloadId) -> Busy {
        let running = |lane| self.running.get(&(id, lane));
        let roll = running(Lane::Roll);
        Busy {
            serve: running(Lane::Serve).map(|running| running.step.clone()),
            roll: roll.map(|running| running.step.clone()),
            roll_next: roll.map(|running| running.next.clone()).unwrap_or_default(),
        }
    }

    /// Whether another replica of the same service has its image fetched: what its tag means is not
    /// known yet.
    pub(super) fn resolves_beside(&self, id: WorkloadId) -> bool {
        let beside = |other: WorkloadId| {
            (other.deployment, other.service) == (id.deployment, id.service) && other != id
        };
        self.running.iter().any(|((other, _), running)| {
            beside(*other) && (running.step == Step::Image || running.next.contains(&Step::Image))
        })
    }

    /// Containers that operations under way have probed, now or in a moment.
    pub(super) fn watches(&self) -> BTreeSet<String> {
        self.running.values().flat_map(|running| running.watches.iter().cloned()).collect()
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
    events: mpsc::UnboundedSender<(Key, Event)>,
    wake: Arc<Notify>,
}

impl Drop for Over {
    fn drop(&mut self) {
        // When the agent stops, nobody listens any longer.
        let _ = self.events.send((self.key, Event::Over));
        self.wake.notify_one();
    }
}

struct OperationObserver<P, K> {
    key: Key,
    events: mpsc::UnboundedSender<(Key, Event)>,
    probes: Probes<P, K>,
    status: Status,
    lines: watch::Receiver<u64>,
    metrics: Metrics,
    /// When the current step began.
    begun: Mutex<Instant>,
}

impl<P, K> OperationObserver<P, K> {
    fn report_progress(&self, operation: &Operation, step: &Step, percent: Option<u8>) {
        let removed = operation.desired.is_none();
        let Some(phase) = phase::of_step(step, operation.lane, removed) else { return };
        // People know the revisions of the deployment.
        let revision = operation
            .desired
            .as_ref()
            .map_or(operation.revision, |desired| desired.deployment().revision);
        let WorkloadId { deployment: id, service, .. } = operation.workload;
        self.status.send(Frame::Progress(Progress { id, service, revision, phase, percent }));
    }
}

impl<P: Prober, K: Clock> ExecutorObserver for OperationObserver<P, K> {
    fn begins(&self, operation: &Operation, step: &Step) {
        let (id, revision) = (operation.workload, operation.revision);
        tracing::debug!(workload = %id, %revision, %step, "begins");
        *self.begun.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        self.report_progress(operation, step, None);
        let begins = Event::Begins { step: step.clone(), lines: *self.lines.borrow() };
        let _ = self.events.send((self.key, begins));
    }

    fn ended(&self, operation: &Operation, step: &Step, outcome: StepOutcome) {
        let (id, revision) = (operation.workload, operation.revision);
        if let StepOutcome::Failed(error) = &outcome {
            let error = error as &dyn std::error::Error;
            tracing::warn!(workload = %id, %revision, %step, error, "failed");
        } else {
            tracing::debug!(workload = %id, %revision, %step, "done");
        }
        let begun = *self.begun.lock().unwrap_or_else(PoisonError::into_inner);
        self.metrics.stepped(step.word(), outcome.failure_code(), begun.elapsed());
        let event = Event::Ended { step: step.clone(), revision, outcome };
        let _ = self.events.send((self.key, event));
    }

    fn progress(&self, operation: &Operation, step: &Step, percent: u8) {
        self.report_progress(operation, step, Some(percent));
    }

    fn watch(&self, operation: &Operation, name: &str, address: SocketAddrV4, probe: &Probe) {
        let target = Target {
            workload: operation.workload,
            public: operation.desired.as_ref().is_some_and(WorkloadSpec::public),
            serves: operation.lane == Lane::Serve,
            name: name.to_owned(),
            address,
            probe: probe.clone(),
        };
        self.probes.begin(target, Level::Starting);
    }
}
