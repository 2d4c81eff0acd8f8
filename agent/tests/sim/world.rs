//! Everything that outlives the agent: the machine, its parts, and the true state.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use buddo_agent::model::container::Container;
use buddo_agent::model::workload::{Identity, WorkloadId};
use buddo_agent::ports::Named;
use buddo_shared::model::id::{DeploymentId, Revision};
use buddo_shared::model::workload::ServiceName;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use crate::auto_rollback::AutoRollbacks;
use crate::caddy::Edge;
use crate::clock::true_time;
use crate::coordinator::Books;
use crate::faults::Swarm;
use crate::invariants::Trust;
use crate::plan_alone::Record;
use crate::podman::Engine;
use crate::story::app::{App, Registry};
use crate::story::rng::Rng;

/// From SIGTERM back to the last request that was sent: the drain time of every simulation.
pub(crate) const DRAIN: Duration = Duration::from_secs(1);
/// From SIGTERM to SIGKILL.
pub(crate) const GRACE: Duration = Duration::from_secs(2);
/// How many actions a failing seed shows.
const SHOWN: usize = 60;

/// The feed that the current agent reads.
#[derive(Debug)]
pub(crate) struct Feed {
    /// Hints.
    pub(crate) hints: watch::Sender<u64>,
    /// What hints are about.
    pub(crate) named: Arc<Named>,
    /// Lines.
    pub(crate) lines: watch::Sender<u64>,
    /// Whether the stream is open.
    pub(crate) healthy: watch::Sender<bool>,
}

/// Everything, behind one lock that is never held over an await.
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub(crate) struct State {
    /// Chance.
    pub(crate) rng: Rng,
    /// What goes wrong in calls.
    pub(crate) swarm: Swarm,
    /// The current agent; calls of earlier ones have no effect and no answer.
    pub(crate) life: u32,
    /// Whether it lives.
    pub(crate) alive: bool,
    killed: Arc<Notify>,
    /// After this many calls it is killed; and whether the last one has its effect.
    pub(crate) calls_left: Option<(u64, bool)>,
    /// Calls of all lives.
    pub(crate) calls: u64,
    /// Podman.
    pub(crate) engine: Engine,
    /// Caddy, resolver and table.
    pub(crate) edge: Edge,
    /// What the coordinator knows.
    pub(crate) books: Books,
    /// What every app does, until it [recovers](Self::recovered).
    pub(crate) apps: BTreeMap<(DeploymentId, Revision), (App, Registry)>,
    /// All apps that turn bad after they have answered are good from now on.
    pub(crate) recovered: bool,
    /// What is known of auto rollbacks.
    pub(crate) auto_rollbacks: AutoRollbacks,
    /// Who may be expected to answer.
    pub(crate) trust: BTreeMap<DeploymentId, Trust>,
    /// Revisions that met a fault during their rollout: they may have been given up for it.
    pub(crate) hurt: BTreeSet<(DeploymentId, Revision)>,
    /// Operations of an earlier agent may still be carried out until then.
    pub(crate) late_until: Option<Instant>,
    /// The event feed.
    pub(crate) feed: Option<Feed>,
    /// The stream is open but silent.
    pub(crate) deaf: bool,
    /// No probe is answered in time until then.
    pub(crate) starved_until: Option<Instant>,
    /// When second containers beside sick ones were made, and by which agent.
    pub(crate) seconds: VecDeque<(u32, Instant)>,
    /// No room on the disk.
    pub(crate) disk_full: bool,
    /// Writes to the database.
    pub(crate) commits: u64,
    /// The database was lost, and no document was accepted since.
    pub(crate) amnesia: bool,
    /// A database was lost at some time.
    pub(crate) ever_lost: bool,
    /// How wrong the wall clock is, in seconds.
    pub(crate) clock_offset: i64,
    /// What the agent saw, where it is recorded.
    pub(crate) records: Option<Vec<Record>>,
    /// What went wrong first.
    pub(crate) violation: Option<String>,
    begun: Instant,
    trace: Option<VecDeque<String>>,
    digest: u64,
}

/// A simulated machine. Clones of the `Arc` give its parts access to it.
pub(crate) struct World {
    state: Mutex<State>,
    /// Notified when the agent was killed.
    pub(crate) killed: Arc<Notify>,
    /// Monotonic time zero.
    pub(crate) begun: Instant,
}

impl World {
    /// A machine with nothing on it. `traced` keeps the last actions.
    pub(crate) fn new(seed: u64, swarm: Swarm, traced: bool) -> Arc<Self> {
        let killed = Arc::new(Notify::new());
        let begun = Instant::now();
        let state = State {
            rng: Rng::new(seed ^ 0xA5A5),
            swarm,
            life: 0,
            alive: false,
            killed: Arc::clone(&killed),
            calls_left: None,
            calls: 0,
            engine: Engine::default(),
            edge: Edge::default(),
            books: Books::of(swarm),
            apps: BTreeMap::new(),
            recovered: false,
            auto_rollbacks: AutoRollbacks::default(),
            trust: BTreeMap::new(),
            hurt: BTreeSet::new(),
            late_until: None,
            feed: None,
            deaf: false,
            starved_until: None,
            seconds: VecDeque::new(),
            disk_full: false,
            commits: 0,
            amnesia: false,
            ever_lost: false,
            clock_offset: 0,
            records: None,
            violation: None,
            begun,
            trace: traced.then(VecDeque::new),
            digest: 0,
        };
        Arc::new(Self { state: Mutex::new(state), killed, begun })
    }

    /// Reads or changes what visitors do not see.
    pub(crate) fn with<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Changes what visitors may see; then every rule is checked.
    pub(crate) fn act<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        self.with(|state| {
            let changed = change(state);
            state.look();
            changed
        })
    }

    /// Whether the agent number `life` lives.
    pub(crate) fn is_alive(&self, life: u32) -> bool {
        self.with(|state| state.alive && state.life == life)
    }
}

impl State {
    /// Notes an action.
    pub(crate) fn say(&mut self, words: impl FnOnce() -> String) {
        let Some(trace) = &mut self.trace else { return };
        let words = words();
        for byte in words.bytes() {
            self.digest = (self.digest ^ u64::from(byte)).wrapping_mul(0x100_0000_01B3);
        }
        let at = self.begun.elapsed();
        trace.push_back(format!("{:>9.3} s  {words}", at.as_secs_f64()));
        if trace.len() > SHOWN && std::env::var_os("SIM_TRACE").is_none() {
            trace.pop_front();
        }
    }

    /// The last actions, and a number that stands for all of them.
    pub(crate) fn story(&self) -> (Vec<String>, u64) {
        (self.trace.iter().flatten().cloned().collect(), self.digest)
    }

    /// A rule is broken. The first one counts.
    pub(crate) fn violate(&mut self, words: String) {
        self.say(|| format!("VIOLATION {words}"));
        self.violation.get_or_insert(words);
    }

    /// Keeps what the agent is shown.
    pub(crate) fn record(&mut self, containers: &[Container]) {
        if self.records.is_none() || self.books.held.is_empty() {
            return;
        }
        let at = Instant::now();
        let answers = self.engine.containers.iter().filter(|(_, c)| c.answers(at));
        let record = Record {
            at,
            wall: true_time(self.begun.elapsed(), 0),
            wanted: self.books.held.clone(),
            containers: containers.to_vec(),
            answering: answers.map(|(name, _)| name.clone()).collect(),
        };
        self.records.get_or_insert_default().push(record);
    }

    /// Ends the current agent.
    pub(crate) fn kill(&mut self) {
        if self.alive {
            self.say(|| "the agent is killed".to_owned());
            self.alive = false;
            self.feed = None;
            self.killed.notify_one();
        }
    }

    /// What the public service of an app does, by the revision that introduced its content.
    pub(crate) fn app(&self, id: DeploymentId, revision: Revision) -> (App, Registry) {
        let good = App::Good(Duration::from_millis(50));
        let (app, registry) =
            self.apps.get(&(id, revision)).copied().unwrap_or((good, Registry::Has));
        (if app.turns_bad() && self.recovered { good } else { app }, registry)
    }

    /// What a container does. Only the public service of an app is ever bad.
    pub(crate) fn app_of(&self, identity: Identity) -> App {
        let WorkloadId { deployment, service, .. } = identity.workload;
        if service == ServiceName::APP {
            return self.app(deployment, identity.revision).0;
        }
        App::Good(Duration::from_millis(50))
    }

    /// The contents of a revision of a deployment, the public one's first.
    pub(crate) fn contents(&self, id: DeploymentId, revision: Revision) -> Vec<Revision> {
        let Some(services) = self.books.documents.services(id, revision) else {
            return vec![revision];
        };
        let public = services.public().revision;
        let others = services.iter().filter(|service| !service.public);
        std::iter::once(public).chain(others.map(|service| service.revision)).collect()
    }

    /// Whether a fault met any part of a revision during its rollout.
    pub(crate) fn is_hurt(&self, id: DeploymentId, revision: Revision) -> bool {
        let contents = self.contents(id, revision);
        contents.into_iter().any(|content| self.hurt.contains(&(id, content)))
    }

    /// Faults that may make the agent give up a rollout.
    pub(crate) fn hurt_all(&mut self) {
        let wanted = self.books.documents.wanted.values();
        let contents =
            wanted.flat_map(|d| d.services.iter().map(|service| (d.id, service.revision)));
        self.hurt.extend(contents);
    }
}
