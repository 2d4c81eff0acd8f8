//! The probing tasks: one per watched container, and the board that shows their results.
//!
//! A task writes its outcomes to the board and wakes the reconciler only when a level changed, or
//! what does not serve yet answers again. A host with a thousand apps spends most of its idle time
//! here, so a sleeping task is kept small, and those due at about the same time are woken together.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddrV4;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use buddo_runtime::clock::Clock;
use buddo_shared::host_wire::report::Checked;
use buddo_shared::model::probe::Probe;
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use crate::model::health::{Level, ProbeOutcome, Tracker, Trackers};
use crate::model::retries::Jitter;
use crate::model::workload::WorkloadId;
use crate::ports::Prober;

/// Steady containers are probed on the ticks of one shared clock: each wake-up of the process costs
/// about as much as the probe itself.
const TICK: Duration = Duration::from_millis(250);

/// A container to be probed, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    pub workload: WorkloadId,
    /// Whether it is of its deployment's public service, whose checks are reported.
    pub public: bool,
    /// Whether requests go to it. Until then it is probed often, because it may take over only while
    /// it answers.
    pub serves: bool,
    pub name: String,
    /// Where it is published.
    pub address: SocketAddrV4,
    /// How it is probed.
    pub probe: Probe,
}

impl Target {
    /// Whether a task that probes `other` does what one for this would do.
    fn is_probed_like(&self, other: &Self) -> bool {
        let Self { workload, public: _, serves: _, name, address, probe } = self;
        (workload, name, address, probe)
            == (&other.workload, &other.name, &other.address, &other.probe)
    }
}

struct Entry {
    /// As its task has it, but for the next two, which can change under way.
    target: Arc<Target>,
    public: bool,
    serves: bool,
    tracker: Tracker,
    /// Tells a task for an earlier container of the same name that it is obsolete.
    round: u64,
    task: AbortHandle,
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[derive(Default)]
struct Board {
    entries: BTreeMap<String, Entry>,
    rounds: u64,
}

/// All probing on the host. Clones share all state.
pub struct Probes<P, K>(Arc<Inner<P, K>>);

struct Inner<P, K> {
    prober: Arc<P>,
    clock: Arc<K>,
    jitter: Jitter,
    wake: Arc<Notify>,
    board: Mutex<Board>,
    begun: Instant,
}

impl<P, K> Clone for Probes<P, K> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<P: Prober, K: Clock> Probes<P, K> {
    /// No probes yet; `wake` is notified when a level changes, or what does not serve yet answers
    /// again.
    pub fn new(prober: Arc<P>, clock: Arc<K>, jitter: Jitter, wake: Arc<Notify>) -> Self {
        let (board, begun) = (Mutex::default(), Instant::now());
        Self(Arc::new(Inner { prober, clock, jitter, wake, board, begun }))
    }

    fn board(&self) -> MutexGuard<'_, Board> {
        // Every writer leaves the board consistent, so a panic elsewhere does not corrupt it.
        self.0.board.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Probes a container from now on, forgetting what was known under its name.
    pub fn begin(&self, target: Target, level: Level) {
        let target = Arc::new(target);
        let mut board = self.board();
        board.rounds += 1;
        let round = board.rounds;
        let task = tokio::spawn(self.clone().run(Arc::clone(&target), round)).abort_handle();
        let (tracker, public, serves) = (Tracker::new(level), target.public, target.serves);
        let name = target.name.clone();
        board.entries.insert(name, Entry { target, public, serves, tracker, round, task });
    }

    /// Probes exactly these: starts what is missing at its level, stops what is not wanted.
    /// Containers that are just being started (`busy`) are left alone: the list behind `wanted` may
    /// be older. All others that are not wanted are forgotten, even next to such ones: a container
    /// that ended and runs again must prove again that it answers.
    pub fn keep(&self, wanted: Vec<(Target, Level)>, busy: &BTreeSet<String>) {
        let names: BTreeSet<&str> = wanted.iter().map(|(target, _)| target.name.as_str()).collect();
        self.board().entries.retain(|name, _| names.contains(name.as_str()) || busy.contains(name));
        for (target, level) in wanted {
            let mut board = self.board();
            match board.entries.get_mut(&target.name) {
                Some(entry) if entry.target.is_probed_like(&target) => {
                    (entry.public, entry.serves) = (target.public, target.serves);
                }
                // The same container is probed in another way from now on.
                Some(_) if busy.contains(&target.name) => {}
                Some(_) | None => {
                    drop(board);
                    self.begin(target, level);
                }
            }
        }
    }

    /// What is known of every probed container.
    pub fn snapshot(&self) -> Trackers {
        let board = self.board();
        board.entries.iter().map(|(name, entry)| (name.clone(), entry.tracker.clone())).collect()
    }

    /// The names of those that do not answer, as far as known: they may have ended.
    pub fn unanswered(&self) -> Vec<String> {
        let board = self.board();
        let silent = |entry: &Entry| match entry.tracker.level() {
            Level::Starting | Level::Unhealthy => true,
            Level::Assumed | Level::Healthy => !entry.serves && !entry.tracker.is_steady(),
        };
        let silent = board.entries.iter().filter(|(_, entry)| silent(entry));
        silent.map(|(name, _)| name.clone()).collect()
    }

    /// When the deployments whose public service is healthy were last probed: any of its replicas.
    pub fn checked(&self) -> Vec<Checked> {
        let board = self.board();
        let mut newest = BTreeMap::new();
        let healthy = |entry: &&Entry| entry.tracker.level() == Level::Healthy;
        for entry in board.entries.values().filter(healthy).filter(|entry| entry.public) {
            let Some(at) = entry.tracker.checked_at else { continue };
            let known = newest.entry(entry.target.workload.deployment).or_insert(at);
            *known = at.max(*known);
        }
        newest.into_iter().map(|(id, at)| Checked { id, at }).collect()
    }

    async fn run(self, target: Arc<Target>, round: u64) {
        loop {
            // Boxed: what a probe needs is only held while it runs.
            let outcome = Box::pin(self.0.prober.probe(target.address, &target.probe)).await;
            let Some(next) = self.record(&target, round, outcome) else { return };
            tokio::time::sleep_until(next).await;
        }
    }

    /// Records an outcome; returns when to probe again. `None`: never.
    fn record(&self, target: &Target, round: u64, outcome: ProbeOutcome) -> Option<Instant> {
        let mut board = self.board();
        let entry = board.entries.get_mut(&target.name).filter(|entry| entry.round == round)?;
        let (before, serves) = (entry.tracker.is_steady(), entry.serves);
        let is_new = entry.tracker.record(&target.probe, outcome, self.0.clock.now());
        if is_new || !serves && !before && entry.tracker.is_steady() {
            self.0.wake.notify_one();
        }
        let delay = entry.tracker.next_delay(&target.probe, serves, (self.0.jitter)());
        let due = Instant::now() + delay;
        // Quickly confirm a first failure, and quickly serve whoever waits for a start.
        Some(if serves && entry.tracker.is_steady() { self.tick_after(due) } else { due })
    }

    /// The first tick that is not before `due`.
    fn tick_after(&self, due: Instant) -> Instant {
        let since = due.saturating_duration_since(self.0.begun).as_micros();
        let ticks = since.div_ceil(TICK.as_micros());
        self.0.begun + TICK.saturating_mul(u32::try_from(ticks).unwrap_or(u32::MAX))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use buddo_runtime::clock::SystemClock;
    use buddo_shared::model::id::DeploymentId;
    use futures_util::FutureExt as _;
    use uuid::Uuid;

    use super::*;

    /// When it was probed.
    #[derive(Default)]
    struct Answers(Mutex<Vec<Instant>>);

    impl Prober for Answers {
        async fn probe(&self, _: SocketAddrV4, _: &Probe) -> ProbeOutcome {
            // At least what a network probe holds while it waits.
            let held = [0_u8; 4_096];
            tokio::task::yield_now().await;
            std::hint::black_box(&held);
            self.0.lock().unwrap().push(Instant::now());
            ProbeOutcome::Healthy
        }
    }

    /// Each draw is different.
    fn probes() -> (Probes<Answers, SystemClock>, Arc<Answers>) {
        let (answers, draws) = (Arc::<Answers>::default(), AtomicU32::new(0));
        let jitter: Jitter =
            Arc::new(move || f64::from(draws.fetch_add(37, Ordering::Relaxed) % 100) / 100.0);
        let clock = Arc::new(SystemClock);
        (Probes::new(Arc::clone(&answers), clock, jitter, Arc::default()), answers)
    }

    fn target(name: &str) -> Target {
        Target {
            workload: WorkloadId::app(DeploymentId::new(Uuid::from_u128(1))),
            public: true,
            serves: true,
            name: name.to_owned(),
            address: "127.64.0.1:8000".parse().unwrap(),
            probe: Probe::default(),
        }
    }

    /// A serving container dies while a new one of the same app is started beside it: when it runs
    /// again, its earlier good probes must not send it visitors.
    #[tokio::test]
    async fn probe_state_is_kept_only_for_listed_and_starting_containers() {
        let (probes, _) = probes();
        probes.begin(target("old"), Level::Assumed);
        probes.begin(target("new"), Level::Starting);
        probes.keep(Vec::new(), &["new".to_owned()].into());
        assert_eq!(probes.snapshot().into_keys().collect::<Vec<_>>(), ["new"]);
        probes.keep(vec![(target("old"), Level::Starting)], &["new".to_owned()].into());
        assert_eq!(probes.snapshot()["old"].level(), Level::Starting);
    }

    /// Its operator sees one time for each deployment, of what visitors reach.
    #[tokio::test(start_paused = true)]
    async fn only_checks_of_the_public_service_are_reported_and_of_its_replicas_the_newest() {
        let (probes, _) = probes();
        let worker = || Target { public: false, ..target("worker") };
        probes.keep(vec![(worker(), Level::Assumed)], &BTreeSet::new());
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(probes.snapshot()["worker"].level(), Level::Healthy);
        assert_eq!(probes.checked(), []);
        for name in ["app-0", "app-1"] {
            probes.begin(target(name), Level::Starting);
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        let newest = probes.snapshot()["app-1"].checked_at.unwrap();
        let id = target("app-0").workload.deployment;
        assert_eq!(probes.checked(), [Checked { id, at: newest }]);
        // Another service became the public one: what is known of its container stays known.
        let shown = vec![(Target { public: true, ..worker() }, Level::Starting)];
        probes.keep(shown, &BTreeSet::new());
        assert_eq!(probes.checked().len(), 1);
    }

    /// There is one for each container of the host.
    #[tokio::test]
    async fn a_sleeping_probe_task_is_small() {
        let (probes, _) = probes();
        let size = size_of_val(&probes.run(Arc::new(target("a")), 1));
        assert!(size <= 320, "{size} bytes");
    }

    /// A hundred containers, each every ten seconds: at most four wake-ups a second, across their
    /// whole intervals.
    #[tokio::test(start_paused = true)]
    async fn probes_of_steady_containers_are_batched_and_spread_out() {
        let (probes, answers) = probes();
        for n in 0..100 {
            probes.begin(target(&format!("app-{n}")), Level::Assumed);
            tokio::time::sleep(Duration::from_millis(97)).await;
        }
        answers.0.lock().unwrap().clear();
        let from = Instant::now();
        tokio::time::sleep(Duration::from_secs(20)).await;
        let asked = answers.0.lock().unwrap().clone();
        assert!((180..=220).contains(&asked.len()), "{} probes", asked.len());
        let first = asked[0];
        let ticks: BTreeSet<_> =
            asked.iter().map(|at| at.duration_since(from).as_millis()).collect();
        assert!((40..=81).contains(&ticks.len()), "{} wake-ups", ticks.len());
        let apart = |at: &Instant| at.duration_since(first).as_millis() % TICK.as_millis();
        assert!(asked.iter().all(|at| matches!(apart(at), 0 | 1 | 249)), "not on the ticks");
    }

    /// Podman may not answer for a while, and the app may end meanwhile.
    #[tokio::test(start_paused = true)]
    async fn what_is_to_take_over_is_probed_often_until_it_does() {
        let (probes, answers) = probes();
        let asked = async || {
            answers.0.lock().unwrap().clear();
            tokio::time::sleep(Duration::from_secs(10)).await;
            answers.0.lock().unwrap().len()
        };
        probes.begin(Target { serves: false, ..target("a") }, Level::Starting);
        assert!((19..=21).contains(&asked().await));
        probes.keep(vec![(target("a"), Level::Starting)], &BTreeSet::new());
        assert_eq!(probes.snapshot()["a"].level(), Level::Healthy, "it stays known");
        asked().await;
        assert!(asked().await <= 2, "it serves");
    }

    /// It missed one probe, at which the reconciler may just have looked.
    #[tokio::test(start_paused = true)]
    async fn the_reconciler_hears_when_what_is_to_take_over_answers_again() {
        let wake = Arc::new(Notify::new());
        let (answers, clock) = (Arc::<Answers>::default(), Arc::new(SystemClock));
        let probes = Probes::new(answers, clock, Arc::new(|| 0.5), Arc::clone(&wake));
        let late = || ProbeOutcome::TimedOut("no answer within 1000 ms".to_owned());
        for serves in [false, true] {
            let target = Target { serves, ..target("a") };
            // Its own task does not get to run.
            probes.begin(target.clone(), Level::Starting);
            let round = probes.board().rounds;
            let mut woken = Vec::new();
            for outcome in [ProbeOutcome::Healthy, late(), ProbeOutcome::Healthy] {
                probes.record(&target, round, outcome);
                woken.push(wake.notified().now_or_never().is_some());
                let doubted = !probes.unanswered().is_empty();
                assert_eq!(doubted, !serves && woken.len() == 2, "{serves} {woken:?}");
            }
            assert_eq!(woken, [true, false, !serves]);
        }
    }

    /// Somebody waits for a starting container: it does not have to wait for a tick.
    #[tokio::test(start_paused = true)]
    async fn a_starting_container_is_probed_at_once_and_again_soon() {
        let (probes, answers) = probes();
        let probe = Probe { healthy_after: 3, ..Probe::default() };
        probes.begin(Target { probe, ..target("a") }, Level::Starting);
        tokio::time::sleep(Duration::from_millis(35)).await;
        assert_eq!(answers.0.lock().unwrap().len(), 3);
    }
}
