//! One seed, one run: operators and faults for a while, then a quiet phase, then every promise is
//! due.
//!
//! ```text
//!   seed ─► swarm ─► [operator | fault | restart of the agent]* ─► peace ─► converged? ─► idle?
//!                       │ after each effect: invariants                        └► new revisions,
//!                       ▼                                                         then nothing
//!                   violation ─► the last actions, and the command that shows them again
//! ```

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::Instant;

use crate::agent::Agent;
use crate::converged::what_is_missing;
use crate::coordinator::{Connection, Keys, serve};
use crate::disk::Database;
use crate::faults::{Fault, Swarm};
use crate::plan_alone::{Apps, Record};
use crate::story::rng::Rng;
use crate::world::{State, World};

/// How long convergence may take once faults have ended: the longest waits of the agent's own rules
/// (a crash's back-off, a stuck container, a registry's patience) plus a margin.
const PATIENCE: Duration = Duration::from_mins(8);
/// How long an idle host is watched.
const IDLE: Duration = Duration::from_secs(150);

/// A run that broke a rule.
#[derive(Debug)]
pub(crate) struct Failure {
    /// Which rule.
    pub(crate) words: String,
    /// The last actions.
    pub(crate) story: Vec<String>,
}

/// What a run did.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Done {
    /// Calls of Podman.
    pub(crate) calls: u64,
    /// Lives of the agent.
    pub(crate) lives: u64,
    /// Documents.
    pub(crate) documents: u64,
    /// Revisions that were rolled back.
    pub(crate) rolled_back_to: u64,
    /// Stands for every action, where they were traced.
    pub(crate) digest: u64,
}

/// Runs `seed`, in its own runtime and on this thread alone.
pub(crate) fn run(seed: u64, keys: &Arc<Keys>, traced: bool) -> Result<Done, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let mut rng = Rng::new(seed);
        let (swarm, faults) = Swarm::draw(&mut rng);
        let world = World::new(seed, swarm, traced);
        world.with(|state| state.say(|| format!("{swarm:?} {faults:?}")));
        let mut run = Run::new(&world, keys, rng);
        // Not drawn: the other seeds stay what they were.
        run.limits_come_and_go = seed % 8 == 3;
        let outcome = run.all(&faults).await;
        let (story, digest) = world.with(|state| state.story());
        outcome.map_err(|words| Failure { words, story })?;
        Ok(world.with(|state| Done {
            calls: state.calls,
            lives: u64::from(state.life),
            documents: state.books.generation,
            rolled_back_to: state.auto_rollbacks.count(),
            digest,
        }))
    })
}

/// What the agents of `seed` saw, whatever the outcome, and what their apps do.
pub(crate) fn record(seed: u64, keys: &Arc<Keys>) -> (Vec<Record>, Apps) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let mut rng = Rng::new(seed);
        let (swarm, faults) = Swarm::draw(&mut rng);
        let world = World::new(seed, swarm, false);
        world.with(|state| state.records = Some(Vec::new()));
        let _ = Run::new(&world, keys, rng).all(&faults).await;
        world.with(|state| (state.records.take().unwrap_or_default(), state.apps.clone()))
    })
}

/// A machine, its coordinator, and the current agent.
pub(crate) struct Run {
    pub(crate) world: Arc<World>,
    pub(crate) keys: Arc<Keys>,
    pub(crate) agent: Option<Agent>,
    pub(crate) database: Database,
    pub(crate) rng: Rng,
    connection: Connection,
    /// When the next life begins.
    up_at: Instant,
    /// Faults that end by themselves, and when.
    pub(crate) healings: Vec<(Instant, Fault)>,
    coordinator: tokio::task::JoinHandle<()>,
    /// Each fault switches whether the host holds what it starts to its limits.
    pub(crate) limits_come_and_go: bool,
}

impl Drop for Run {
    fn drop(&mut self) {
        self.coordinator.abort();
    }
}

impl Run {
    /// Nothing runs yet.
    pub(crate) fn new(world: &Arc<World>, keys: &Arc<Keys>, rng: Rng) -> Self {
        let connection: Connection = Arc::new(Mutex::new(None));
        let coordinator = serve(Arc::clone(world), Arc::clone(keys), Arc::clone(&connection));
        Self {
            world: Arc::clone(world),
            keys: Arc::clone(keys),
            agent: None,
            database: Database::in_memory(),
            rng,
            connection,
            up_at: Instant::now(),
            healings: Vec::new(),
            coordinator: tokio::spawn(coordinator),
            limits_come_and_go: false,
        }
    }

    async fn all(&mut self, faults: &[Fault]) -> Result<(), String> {
        let operations = 2 + self.rng.below(5);
        let mut left: Vec<Option<Fault>> = (0..operations).map(|_| None).collect();
        for fault in faults {
            let times = 1 + self.rng.below(2);
            left.extend((0..times).map(|_| Some(*fault)));
        }
        self.operate();
        while !left.is_empty() {
            let pause = match self.rng.below(3) {
                0 => self.rng.ms(0, 400),
                1 => self.rng.ms(400, 3_000),
                _ => self.rng.ms(3_000, 9_000),
            };
            self.pass(pause).await?;
            let index = usize::try_from(self.rng.below(left.len() as u64)).unwrap_or_default();
            match left.swap_remove(index) {
                None => self.operate(),
                Some(fault) => self.befall(fault),
            }
        }
        let rest = self.rng.ms(0, 8_000);
        self.pass(rest).await?;
        self.peace();
        self.watch_rollbacks().await?;
        self.recover();
        self.converge(false).await?;
        // It takes the longest virtual time by far.
        if self.rng.below(4) == 0 {
            self.end_windows().await?;
            self.idle().await?;
        }
        match self.rng.below(4) {
            0 => {
                self.renew_all();
                self.converge(true).await?;
            }
            1 => {
                self.world.act(|state| state.books.documents.wanted.clear());
                self.sign();
                self.converge(true).await?;
            }
            _ => {}
        }
        Ok(())
    }

    /// Lets this much time pass, with visitors at random moments, and the agent supervised by
    /// systemd.
    pub(crate) async fn pass(&mut self, time: Duration) -> Result<(), String> {
        let end = Instant::now() + time;
        loop {
            self.tend().await;
            let now = Instant::now();
            let violation = self.world.act(|state| state.violation.clone());
            if let Some(violation) = violation {
                return Err(violation);
            }
            if now >= end {
                return Ok(());
            }
            self.world.visit();
            let visitor = self.rng.ms(200, 2_000);
            let heals = self.healings.iter().map(|(at, _)| *at).min();
            let next = [Some(end), heals, self.agent.is_none().then_some(self.up_at.max(now))];
            let next = next.into_iter().flatten().fold(now + visitor, Instant::min);
            let killed = Arc::clone(&self.world.killed);
            tokio::select! {
                biased;
                () = killed.notified() => {}
                () = tokio::time::sleep_until(next) => {}
            }
        }
    }

    /// What systemd does, and faults that end by themselves.
    async fn tend(&mut self) {
        let now = Instant::now();
        let due: Vec<Fault> =
            self.healings.iter().filter(|(at, _)| *at <= now).map(|(_, fault)| *fault).collect();
        self.healings.retain(|(at, _)| *at > now);
        for fault in due {
            self.heal(fault);
        }
        if self.agent.is_some() && !self.world.with(|state| state.alive) {
            self.bury();
            let wait =
                if self.rng.per_mille(700) { self.rng.ms(0, 300) } else { self.rng.ms(0, 15_000) };
            self.up_at = now + wait;
        }
        if self.agent.is_none() && self.up_at <= now {
            self.start().await;
        }
    }

    /// Cleans up after a killed agent.
    pub(crate) fn bury(&mut self) {
        self.agent = None;
        *self.connection.lock().expect("not poisoned") = None;
    }

    /// Starts an agent; one that fails or is killed at its start is started again later.
    pub(crate) async fn start(&mut self) {
        let killed = Arc::clone(&self.world.killed);
        let started = tokio::select! {
            biased;
            () = killed.notified() => Err("killed".to_owned()),
            started = Agent::start(&self.world, &self.keys, &self.database) => started,
        };
        match started {
            Ok(agent) => {
                *self.connection.lock().expect("not poisoned") = Some(agent.line.clone());
                self.agent = Some(agent);
            }
            Err(words) => {
                self.world.with(|state| {
                    state.say(|| format!("the agent does not start: {words}"));
                    state.kill();
                });
                self.up_at = Instant::now() + Duration::from_secs(1);
            }
        }
    }

    /// Signs what is wanted.
    pub(crate) fn sign(&mut self) {
        let elapsed = self.world.begun.elapsed();
        let keys = Arc::clone(&self.keys);
        self.world.act(|state| state.sign(&keys, elapsed));
    }

    /// Waits until everything is as the document says. `strict`: no fault excuses a failure.
    pub(crate) async fn converge(&mut self, strict: bool) -> Result<(), String> {
        let end = Instant::now() + PATIENCE;
        loop {
            let missing = self.world.with(|state| what_is_missing(state, strict));
            let Some(missing) = missing else { return Ok(()) };
            if Instant::now() >= end {
                let shown = self.agent.as_ref().map(Agent::shown);
                return Err(format!("not converged after {PATIENCE:?}: {missing}\n{shown:#?}"));
            }
            self.pass(Duration::from_millis(700)).await?;
        }
    }

    /// An idle host only lists, at each relist.
    pub(crate) async fn idle(&mut self) -> Result<(), String> {
        let seen = |state: &State| {
            let edge = &state.edge;
            (state.engine.looks, state.calls, state.commits, edge.publishes, edge.reloads)
        };
        // What was just reported is acknowledged, a new event stream may be opening, and what the
        // last pass made superfluous is forgotten in the next one, at the next list. So is Podman's
        // second look at secrets made, half a minute after the agent began.
        let late = self.world.with(|state| state.late_until).unwrap_or_else(Instant::now);
        self.pass(late.duration_since(Instant::now()) + Duration::from_secs(95)).await?;
        // The count of restarts returns to zero after ten minutes without one, which is reported.
        for _ in 0..11 {
            let shown = self.agent.as_ref().and_then(|agent| agent.snapshot.borrow().clone());
            let mut shown = shown.iter().flat_map(|host| &host.deployments);
            if !shown.any(|deployment| deployment.status.restarts > 0) {
                break;
            }
            self.pass(Duration::from_mins(1)).await?;
        }
        // What the host lacked is told of for five minutes.
        for _ in 0..6 {
            let shown = self.agent.as_ref().and_then(|agent| agent.snapshot.borrow().clone());
            if shown.is_none_or(|shown| shown.host.lacks.is_none()) {
                break;
            }
            self.pass(Duration::from_mins(1)).await?;
        }
        let before = self.world.with(|state| seen(state));
        self.pass(IDLE).await?;
        let after = self.world.with(|state| seen(state));
        let (lists, calls) = (after.0 - before.0, after.1 - before.1);
        // Jitter makes a relist come up to a fifth earlier. Once an event was missed the agent
        // lists each four seconds until one comes.
        let shown = self.agent.as_ref().and_then(|agent| agent.snapshot.borrow().clone());
        let deaf =
            shown.is_some_and(|p| p.host.warnings.iter().any(|w| w.contains("events do not")));
        let most = if deaf { IDLE.as_secs() / 3 } else { IDLE.as_secs() / 48 + 1 };
        let quiet = calls <= lists && (after.2, after.3, after.4) == (before.2, before.3, before.4);
        if lists > most || !quiet {
            return Err(format!(
                "not idle: {before:?} → {after:?} (lists, calls, commits, tables, reloads)"
            ));
        }
        Ok(())
    }
}
