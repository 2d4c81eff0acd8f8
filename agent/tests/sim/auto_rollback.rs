//! What must be true of auto rollback: what it rolls back deserved it, was reported once, and stays
//! rolled back; and a bad revision that it watches undisturbed is rolled back.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use buddo_agent::model::container::Identity;
use buddo_shared::host_wire::manifest::RunState;
use buddo_shared::host_wire::report::{DeploymentStatus, Phase};
use buddo_shared::model::id::{DeploymentId, Revision};
use tokio::time::Instant;

use crate::agent::Agent;
use crate::converged::is_one_container;
use crate::podman::short;
use crate::run::Run;
use crate::story::app::App;
use crate::world::State;

/// A revision of a deployment.
pub(crate) type Key = (DeploymentId, Revision);

/// As every simulated probe has it.
const START_DEADLINE: Duration = Duration::from_secs(5);
/// In peace, what is bad soon is rolled back within this: three rounds of going live, turning
/// sick and being replaced.
const JUDGED: Duration = Duration::from_secs(80);
/// Nothing is judged for this long after a failed call to Podman: its deadline, and half a minute.
/// Restarts meanwhile come ever more slowly.
const TROUBLE: Duration = Duration::from_secs(40);
/// This many apps in trouble at once may have one cause.
const MANY: usize = 3;
/// Ends within this time count as simultaneous; includes the time in which the agent learns of
/// them.
const MOMENT: Duration = Duration::from_secs(15);

/// What happened to a revision's containers that was not the app's fault, but that auto
/// rollback cannot tell from one.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Toll {
    /// Ends that look like its own, or replacements.
    pub(crate) ends: u32,
    /// Of these, kills.
    pub(crate) kills: u32,
    /// How long it ran without answering.
    pub(crate) sick: Duration,
}

impl Toll {
    /// Whether the rules of `rollback_watch.rs` convict by it.
    fn convicts(self) -> bool {
        self.ends >= 3 || self.kills >= 2 || self.sick >= START_DEADLINE
    }
}

/// What is known of auto rollbacks.
#[derive(Debug, Default)]
pub(crate) struct AutoRollbacks {
    tolls: BTreeMap<Key, Toll>,
    /// Rolled back according to the agent, and to be reported.
    pending: BTreeSet<Key>,
    /// Rolled back according to the agent, and not to be forgotten.
    decided: BTreeSet<Key>,
    /// In the coordinator's audit log.
    audited: BTreeMap<Key, Revision>,
    /// Podman may have been in trouble until then.
    trouble_until: Option<Instant>,
    /// What went down recently.
    down: BTreeMap<DeploymentId, Instant>,
    /// When the agent's snapshot was made.
    shown_at: Option<Instant>,
    /// The wall clock was wrong at some time.
    pub(crate) clock_jumped: bool,
    /// What was decided may not have reached the disk.
    pub(crate) disk_failed: bool,
}

impl AutoRollbacks {
    /// The agent lost its database.
    pub(crate) fn forget(&mut self) {
        self.pending.clear();
        self.decided.clear();
    }

    /// A container ended, and not by an operation. Many at once are the host's trouble; as many by
    /// chance are taken for that, too.
    pub(crate) fn ended(&mut self, id: DeploymentId, now: Instant) {
        self.down.retain(|_, at| now.duration_since(*at) <= MOMENT);
        self.down.insert(id, now);
        if self.down.len() >= MANY {
            self.trouble(now);
        }
    }

    /// Podman is in trouble until then.
    pub(crate) fn trouble(&mut self, until: Instant) {
        self.trouble_until = self.trouble_until.max(Some(until + TROUBLE));
    }

    /// Another document comes: what was rolled back just now may never be reported.
    pub(crate) fn superseded(&mut self, id: DeploymentId) {
        self.pending.retain(|(pending, _)| *pending != id);
    }

    /// How many revisions were rolled back.
    pub(crate) fn count(&self) -> u64 {
        self.audited.len() as u64
    }

    /// A revision that was rolled back and not reported.
    pub(crate) fn unreported(&self) -> Option<String> {
        let (id, revision) = self.pending.first()?;
        Some(format!("the rollback of {} r{revision} is not reported", short(&id.to_string())))
    }
}

impl State {
    /// Something that is no fault of its own happens to a container.
    pub(crate) fn bear(&mut self, identity: Option<Identity>, add: impl FnOnce(&mut Toll)) {
        let Some(Identity { workload, revision, .. }) = identity else { return };
        add(self.auto_rollbacks.tolls.entry((workload.deployment, revision)).or_default());
    }

    /// A probe was not answered in time because the host was starved.
    pub(crate) fn starve(&mut self, identity: Identity) {
        let (deployment, revision) = (identity.workload.deployment, identity.revision);
        self.excuse(deployment, "its host starves");
        self.hurt.insert((deployment, revision));
        self.bear(Some(identity), |toll| toll.ends = toll.ends.max(3));
    }

    /// A report that a revision was given up: it must have deserved it.
    pub(crate) fn judge_report(&mut self, status: &DeploymentStatus) {
        let contents = self.contents(status.id, status.revision);
        let key = |content: &Revision| (status.id, *content);
        let public = contents.first().map(key);
        let Some((app, registry)) = public.and_then(|key| self.apps.get(&key).copied()) else {
            return;
        };
        if status.phase != Phase::Failed {
            return;
        }
        let (id, revision) = (short(&status.id.to_string()), status.revision);
        let rolled_back_to = status.rolled_back_to.is_some();
        let tolls: Vec<Toll> = contents
            .iter()
            .filter_map(|c| self.auto_rollbacks.tolls.get(&key(c)).copied())
            .collect();
        let failure = &status.failure;
        if rolled_back_to && !app.turns_bad() && !tolls.iter().any(|toll| toll.convicts()) {
            self.violate(format!(
                "{id} r{revision} is good and is rolled back: {failure:?} {tolls:?}"
            ));
        }
        let bad = !app.starts() || !registry.gives() || app.turns_bad();
        if !rolled_back_to && !bad && !self.is_hurt(status.id, status.revision) {
            self.violate(format!("{id} r{revision} is good and is given up: {failure:?}"));
        }
    }

    /// An entry of the audit log.
    pub(crate) fn note_rollback(&mut self, id: DeploymentId, from: Revision, to: Revision) {
        self.say(|| format!("audit: {} r{from} → r{to}", short(&id.to_string())));
        self.auto_rollbacks.pending.remove(&(id, from));
        if self.auto_rollbacks.audited.insert((id, from), to).is_some() {
            let id = short(&id.to_string());
            self.violate(format!("{id} r{from} is rolled back twice in the audit log"));
        }
    }

    /// What the agent shows of a deployment.
    pub(crate) fn note_shown(&mut self, status: &DeploymentStatus) {
        self.auto_rollbacks.shown_at = Some(Instant::now());
        let key = (status.id, status.revision);
        match (status.phase, status.rolled_back_to) {
            (Phase::Failed, Some(_)) => {
                let news = self.auto_rollbacks.decided.insert(key);
                let mut wanted = self.books.documents.wanted.values();
                let asked = wanted.any(|desired| (desired.id, desired.revision) == key);
                if news && asked && !self.auto_rollbacks.audited.contains_key(&key) {
                    self.say(|| format!("{} r{} is rolled back", short(&key.0.to_string()), key.1));
                    self.auto_rollbacks.pending.insert(key);
                }
            }
            // The one before it failed, too; that is what is reported from now on.
            (Phase::Failed, None) => {
                self.auto_rollbacks.pending.remove(&key);
            }
            (Phase::Live, _) => {
                let lost = self.auto_rollbacks.disk_failed || self.swarm.fail_write > 0;
                if lost {
                    self.auto_rollbacks.pending.remove(&key);
                    self.auto_rollbacks.decided.remove(&key);
                } else if self.auto_rollbacks.decided.contains(&key) {
                    let id = short(&status.id.to_string());
                    self.violate(format!("{id} r{} was rolled back, and is live", key.1));
                }
            }
            _ => {}
        }
    }
}

impl Run {
    /// Faults have ended, but apps still turn bad: there is time to roll them back, and
    /// those without an excuse must be.
    pub(crate) async fn watch_rollbacks(&mut self) -> Result<(), String> {
        let due = self.due();
        if !due.is_empty() {
            self.pass(JUDGED).await?;
        } else if self.rng.per_mille(500) {
            let some = self.rng.ms(0, 60_000);
            self.pass(some).await?;
        }
        self.world.with(|state| {
            let spared = due.iter().find(|key| !state.auto_rollbacks.decided.contains(key));
            let Some((id, revision)) = spared else { return Ok(()) };
            let app = state.app(*id, *revision).0;
            let shown = self.agent.as_ref().map(Agent::shown);
            Err(format!(
                "{} r{revision} is watched, does {app:?}, and is not rolled back\n{shown:#?}",
                short(&id.to_string())
            ))
        })
    }

    /// Revisions that are bad for sure and watched for long enough.
    fn due(&self) -> Vec<Key> {
        let shown = self.agent.as_ref().map(Agent::shown).unwrap_or_default();
        self.world.with(|state| {
            if state.auto_rollbacks.trouble_until.is_some_and(|until| until > Instant::now()) {
                return Vec::new();
            }
            let app = |key: &Key| state.app(key.0, key.1).0;
            let wanted = state.books.documents.wanted.values();
            let wanted = wanted.filter(|d| d.run == RunState::Running && is_one_container(d));
            let wanted: Vec<Key> = wanted.map(|desired| (desired.id, desired.revision)).collect();
            let bad = wanted.iter().filter(|key| app(key).turns_bad()).count();
            let good_before = |key: &Key| {
                let others = state.apps.iter().filter(|(other, _)| other.0 == key.0);
                others.filter(|(other, _)| *other != key).all(|(_, (app, _))| !app.turns_bad())
            };
            let watched = |key: &Key| {
                shown.get(&key.0.to_string()).is_some_and(|shown| {
                    let ago =
                        state.auto_rollbacks.shown_at.map(|at| at.elapsed()).unwrap_or_default();
                    let long = shown.watched_s.is_some_and(|s| s > (JUDGED + ago).as_secs());
                    long && shown.status.revision == key.1
                })
            };
            let seen = |key: &Key| {
                // By the log of failed requests alone: none may have failed before.
                let calm = state
                    .hurt
                    .iter()
                    .chain(state.auto_rollbacks.tolls.keys())
                    .all(|k| k.0 != key.0);
                app(key) != App::Fails
                    || (good_before(key) && calm && !state.auto_rollbacks.clock_jumped)
            };
            let due = wanted.iter().filter(|key| app(key).turns_bad_soon() && bad < MANY);
            due.filter(|key| watched(key) && seen(key)).copied().collect()
        })
    }

    /// Waits until nothing is watched: the end of a watch is persisted.
    pub(crate) async fn end_windows(&mut self) -> Result<(), String> {
        loop {
            let shown = self.agent.as_ref().map(Agent::shown).unwrap_or_default();
            let Some(longest) = shown.values().filter_map(|app| app.watched_s).max() else {
                return Ok(());
            };
            self.pass(Duration::from_secs(longest + 2)).await?;
        }
    }
}
