//! What the agent remembers of one deployment between passes. Plain data and pure transitions;
//! the [`Persisted`] part is kept in the database, the rest is learned anew after a restart.

use std::collections::{BTreeMap, BTreeSet};

use buddo_shared::id::Revision;
use buddo_shared::image::Digest;
use buddo_shared::manifest::DeploymentSpec;
use buddo_shared::report::Failure;
use tokio::time::Instant;

use crate::model::address::Index;
use crate::model::container::{ExitInfo, Identity, Slot};
use crate::model::live_table::Target;
use crate::model::retries;
use crate::model::step::{Lane, Step, container_owner};
use crate::plan::messages;
use crate::plan::rollback_watch::{FailureHistory, RollbackWatch};
use crate::ports::ContainersError;

/// Trouble with a registry or Podman is waited out for this long, then the revision is given up.
const TROUBLE_PATIENCE: std::time::Duration = std::time::Duration::from_mins(5);
/// How often Podman may refuse the same create or start before the revision is given up.
const MAX_REFUSALS: u32 = 3;

/// A container that answers visitors, by what its labels say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Serving {
    pub revision: Revision,
    pub slot: Slot,
}

impl Serving {
    /// Whether it is that container, of the same deployment.
    pub fn is(self, identity: Identity) -> bool {
        (self.revision, self.slot) == (identity.revision, identity.slot)
    }
}

/// What must survive the agent.
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct Persisted {
    pub index: Option<Index>,
    pub live: Option<Serving>,
    /// What tags were resolved to.
    pub digests: BTreeMap<Revision, Digest>,
    /// Revisions that were given up; they are not tried again.
    pub failures: BTreeMap<Revision, Failure>,
    /// Revisions that served once: these are never given up but by their guard, only tried again.
    pub proven: BTreeSet<Revision>,
    /// The guard over the wanted revision, or what became of it.
    pub vigil: Option<RollbackWatch>,
}

/// All that is remembered of one deployment.
#[derive(Debug, Clone, Default)]
pub struct DeploymentState {
    /// The part that survives the agent.
    pub persisted: Persisted,
    /// The way of the desired revision to serving, while it is on it.
    pub attempt: Option<Attempt>,
    /// Restarts of what serves.
    pub crash: Crash,
    /// How often what serves went down lately, as it is told.
    pub restarts: Restarts,
    /// What the guard saw.
    pub evidence: FailureHistory,
    /// Containers that shall go → since when they are not needed.
    pub retiring: BTreeMap<String, Instant>,
    /// Containers in use that stand aside → since when.
    pub paused: BTreeMap<String, Instant>,
    /// Containers that are being stopped → since when they are seen to.
    pub stopping: BTreeMap<String, Instant>,
    /// Removing failed: not again before this, and how often it failed.
    pub cleanup: Option<(Instant, u32)>,
    /// How often a container could not be stopped.
    pub stops_failed: BTreeMap<String, u32>,
    /// Slots with containers that run and that Podman does not know any more, and a revision of each.
    pub lost: BTreeMap<Slot, Revision>,
    /// Revisions whose environment lies in Podman's secrets.
    pub secrets: BTreeMap<Revision, Stock>,
    /// Storing what serves' environment again failed: not before this, and how often it failed.
    pub restock: Option<(Instant, u32)>,
    /// Where visitors shall go.
    pub target: Option<Target>,
    /// Since when the table in force sends them there; `None`: it does not yet.
    pub in_force: Option<Instant>,
}

/// The way of one revision to serving.
#[derive(Debug, Clone, Default)]
pub struct Attempt {
    /// Which revision; `None` only before the first plan.
    pub revision: Option<Revision>,
    /// When its container was started, or first seen running.
    pub started: Option<Instant>,
    /// How often its container ended before it answered.
    pub exits: u32,
    /// How it ended last.
    pub ending: Option<ExitInfo>,
    /// How often Podman refused.
    pub refusals: u32,
    /// Trouble that may pass.
    pub trouble: Option<Trouble>,
    /// Nothing is tried before this.
    pub not_before: Option<Instant>,
    /// How often it was begun from the start again.
    pub rounds: u32,
    /// Something that is no container of Podman's holds the candidate's address.
    pub address_held: bool,
    /// It cannot succeed, for this reason.
    pub verdict: Option<Failure>,
    /// The image is here: a `recreate` may stop the old container now.
    pub image_ready: bool,
    /// Podman went away while it started the container, which may run without a way to it.
    pub torn: bool,
    /// How often its container was removed, to be made anew.
    pub removed: u32,
}

/// Trouble that may pass by itself.
#[derive(Debug, Clone)]
pub struct Trouble {
    since: Instant,
    tries: u32,
    /// The host lacks what it takes: it is waited out however long that takes.
    of_host: bool,
    pub failure: Failure,
}

/// Restarts of the container that serves.
#[derive(Debug, Clone, Default)]
pub struct Crash {
    /// It is known to be down, and not started since.
    pub down: bool,
    /// It was seen to run, or was started, by this agent: its end is news.
    pub ran: bool,
    /// Crashes in a row; forgotten after ten healthy minutes.
    pub count: u32,
    /// Not started again before this.
    pub not_before: Option<Instant>,
    /// Healthy since, after a crash.
    pub healthy_since: Option<Instant>,
    /// Started again, and no probe answered since.
    pub silent_since: Option<Instant>,
    /// Podman refused to start it so often.
    pub refusals: u32,
    /// What the host lacks to start it, and how often it was found to.
    pub lacks: Option<(Failure, u32)>,
    /// Podman went away while it started it: it may run without a way to it.
    pub torn: bool,
}

/// How often what serves went down: told until it has not for ten minutes. Apart from [`Crash`],
/// which says when it is started again and begins afresh with each container.
#[derive(Debug, Clone, Copy, Default)]
pub struct Restarts {
    revision: Option<Revision>,
    count: u32,
    last: Option<Instant>,
}

impl Restarts {
    /// So long after the last one they are told.
    pub const LATELY: std::time::Duration = std::time::Duration::from_mins(10);

    /// What serves went down, or a fresh container had to take its place.
    pub fn seen(&mut self, revision: Revision, now: Instant) {
        let count = self.lately(revision, now).saturating_add(1);
        *self = Self { revision: Some(revision), count, last: Some(now) };
    }

    /// How often this revision did lately.
    pub fn lately(&self, revision: Revision, now: Instant) -> u32 {
        let recent = self.forgotten_at(now).is_some() && self.revision == Some(revision);
        if recent { self.count } else { 0 }
    }

    /// When they are told no more; `None`: they are not told now.
    pub fn forgotten_at(&self, now: Instant) -> Option<Instant> {
        self.last.map(|last| last + Self::LATELY).filter(|at| *at > now)
    }
}

/// How much of a revision's environment lies in Podman's secrets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stock {
    /// It may be some of it.
    Part,
    /// All of it, as far as is known.
    Whole,
}

/// What became of a step.
#[derive(Debug)]
pub enum StepOutcome {
    /// The image is here, and this is what its tag means.
    Image(Digest),
    Ended(ExitInfo),
    /// Done; nothing more to say.
    Done,
    /// Done, for Podman knows no such container. It may run all the same.
    Absent,
    /// It was not done.
    Failed(ContainersError),
    /// The revision's sealed environment or credentials cannot be read.
    Unreadable(Failure),
}

impl DeploymentState {
    /// Begins the memory of a deployment from what the database holds.
    pub fn restore(persisted: Persisted) -> Self {
        Self { persisted, ..Self::default() }
    }

    /// Takes in what became of `step`, for `revision`, at `now`.
    pub fn record(
        &mut self,
        lane: Lane,
        step: &Step,
        revision: Revision,
        happened: StepOutcome,
        now: Instant,
        jitter: f64,
    ) {
        match happened {
            StepOutcome::Failed(error) => {
                self.record_failure(lane, step, revision, error, now, jitter);
            }
            StepOutcome::Unreadable(_) if lane == Lane::Serve => {
                self.restock = Some(failed_again(self.restock, now, jitter));
            }
            StepOutcome::Unreadable(failure) => {
                if let Some(attempt) = self.attempt_on(revision) {
                    attempt.verdict = Some(failure);
                }
            }
            StepOutcome::Image(digest) => {
                self.persisted.digests.insert(revision, digest);
                if let Some(attempt) = self.attempt_on(revision) {
                    // Of what comes after the image it proves nothing.
                    attempt.trouble.take_if(|trouble| !trouble.is_of_start());
                    attempt.image_ready = true;
                }
            }
            StepOutcome::Ended(ending) if lane == Lane::Serve => self.evidence.learned(&ending),
            StepOutcome::Ended(ending) => {
                if let Some(attempt) = self.attempt_on(revision) {
                    attempt.exits += 1;
                    attempt.ending = Some(ending);
                }
            }
            StepOutcome::Done | StepOutcome::Absent => self.record_done(lane, step, revision, now),
        }
    }

    fn record_done(&mut self, lane: Lane, step: &Step, revision: Revision, now: Instant) {
        match step {
            Step::RemoveSecrets(revision) => {
                self.secrets.remove(revision);
                self.cleanup = None;
            }
            Step::Start(_) if lane == Lane::Serve => {
                self.crash.down = false;
                self.crash.ran = true;
                self.crash.refusals = 0;
                self.crash.lacks = None;
                self.crash.torn = false;
            }
            Step::Start(_) => {
                if let Some(attempt) = self.attempt_on(revision) {
                    attempt.started.get_or_insert(now);
                    attempt.refusals = 0;
                    attempt.torn = false;
                    attempt.trouble = None;
                }
            }
            Step::Remove(name) => {
                self.retiring.remove(name);
                self.cleanup = None;
                let of = container_owner(name).map(|identity| identity.revision);
                if let Some(attempt) = of.and_then(|revision| self.attempt_on(revision)) {
                    attempt.removed += 1;
                }
            }
            // A fresh container has its whole start deadline.
            Step::Create(_) => {
                if let Some(attempt) = self.attempt_on(revision) {
                    attempt.started = None;
                    attempt.torn = false;
                }
            }
            Step::PutSecrets => {
                self.secrets.insert(revision, Stock::Whole);
                self.restock = None;
            }
            Step::EndLost(slot) => {
                self.lost.remove(slot);
                self.cleanup = None;
            }
            Step::Image
            | Step::Watch(_)
            | Step::InspectExit(_)
            | Step::Stop(_)
            | Step::FreeAddress(_) => {}
        }
    }

    fn record_failure(
        &mut self,
        lane: Lane,
        step: &Step,
        revision: Revision,
        error: ContainersError,
        now: Instant,
        jitter: f64,
    ) {
        if let Step::Stop(name) = step {
            *self.stops_failed.entry(name.clone()).or_default() += 1;
        }
        if step.takes_away() {
            self.cleanup = Some(failed_again(self.cleanup, now, jitter));
            return;
        }
        if *step == Step::PutSecrets {
            self.secrets.insert(revision, Stock::Part);
            if lane == Lane::Serve {
                self.restock = Some(failed_again(self.restock, now, jitter));
                return;
            }
        }
        let torn =
            matches!(step, Step::Start(_)) && matches!(error, ContainersError::Unavailable { .. });
        if lane == Lane::Serve {
            self.crash.torn |= torn;
            if let ContainersError::Full(failure) = error {
                // A new container would lack the same, and nothing would be left to start.
                let tries = self.crash.lacks.take().map_or(0, |(_, tries)| tries);
                self.crash.not_before = Some(now + retries::SHORTAGE.delay(tries, jitter));
                self.crash.lacks = Some((failure, tries.saturating_add(1)));
                return;
            }
            self.crash.lacks = None;
            self.crash.refusals += 1;
            self.crash.not_before =
                Some(now + retries::CRASH.delay(self.crash.refusals - 1, jitter));
            return;
        }
        let Some(attempt) = self.attempt_on(revision) else { return };
        match error {
            ContainersError::Image(failure) => attempt.verdict = Some(failure),
            // A pull that fails for that costs the host much, and is given up in the end.
            ContainersError::Full(failure) if *step != Step::Image => {
                attempt.shortage(failure, now, jitter);
            }
            ContainersError::Registry(failure) | ContainersError::Full(failure) => {
                attempt.trouble(failure, now, jitter);
            }
            error @ ContainersError::Unavailable { .. } => {
                attempt.torn |= torn;
                attempt.trouble(messages::unanswered(&error), now, jitter);
            }
            ContainersError::NotFound(what) => {
                attempt.image_ready = false;
                attempt.trouble(messages::vanished(&what), now, jitter);
            }
            // A process that Podman has lost, most likely: the other slot may be free.
            ContainersError::Refused { message, .. } if messages::is_address_held(&message) => {
                attempt.address_held = true;
                attempt.trouble(messages::refused(&message), now, jitter);
            }
            // Nothing starts that one, and no app is at fault for it: it is made again.
            ContainersError::Refused { message, .. } if messages::is_storage_lost(&message) => {
                attempt.torn = true;
                attempt.trouble(messages::storage_lost(&message), now, jitter);
            }
            // No environment is at fault for that, but the host.
            ContainersError::Refused { message, .. } if *step == Step::PutSecrets => {
                attempt.trouble(messages::secrets_refused(&message), now, jitter);
            }
            ContainersError::Refused { message, .. } => {
                attempt.refusals += 1;
                if attempt.refusals >= MAX_REFUSALS {
                    attempt.verdict = Some(messages::refused(&message));
                } else {
                    attempt.trouble(messages::refused(&message), now, jitter);
                }
            }
        }
    }

    /// Podman's secrets hold environments of these revisions, and of no others. What could not be
    /// stored for certain may come late.
    pub fn holds_secrets_of(&mut self, listed: &BTreeSet<Revision>) {
        self.secrets.retain(|r, stock| *stock == Stock::Part || listed.contains(r));
        for revision in listed {
            self.secrets.entry(*revision).or_insert(Stock::Whole);
        }
    }

    /// Visitors shall go to `target` from the next table on.
    pub fn send_to(&mut self, target: Option<&Target>) {
        if self.target.as_ref() != target {
            self.target = target.cloned();
            self.in_force = None;
        }
    }

    /// A table was written: what `pass` decided is in force from `now` on, and what it found to
    /// leave was sent visitors until then.
    pub fn published(&mut self, pass: Instant, now: Instant) {
        self.in_force.get_or_insert(now);
        let leaving = self.retiring.values_mut().chain(self.paused.values_mut());
        leaving.filter(|since| **since == pass).for_each(|since| *since = now);
    }

    /// Since when a container that is being stopped is seen to.
    pub fn stopping_since(&self, name: &str, now: Instant) -> Instant {
        self.stopping.get(name).copied().unwrap_or(now)
    }

    /// What leaves is still sent visitors.
    pub fn drains_anew(&mut self) {
        self.retiring.clear();
        self.paused.clear();
    }

    /// Until when nothing is stopped or removed again, after that failed.
    pub fn cooling(&self, now: Instant) -> Option<Instant> {
        self.cleanup.map(|(not_before, _)| not_before).filter(|at| *at > now)
    }

    fn attempt_on(&mut self, revision: Revision) -> Option<&mut Attempt> {
        self.attempt.as_mut().filter(|attempt| attempt.revision == Some(revision))
    }

    /// The attempt at `revision`, begun if there is none.
    pub fn attempt_at(&mut self, revision: Revision) -> &mut Attempt {
        let attempt = self.attempt.get_or_insert_default();
        if attempt.revision != Some(revision) {
            *attempt = Attempt { revision: Some(revision), ..Attempt::default() };
        }
        attempt
    }

    /// Until when a failure is waited out, of what serves or of what is brought in.
    pub fn waits_until(&self, now: Instant) -> Option<Instant> {
        let crash = self.crash.not_before.filter(|_| self.crash.down);
        let attempt = self.attempt.as_ref().and_then(|attempt| attempt.not_before);
        [crash, attempt].into_iter().flatten().filter(|at| *at > now).min()
    }

    /// Whether a guard watches this revision.
    pub fn guards(&self, revision: Revision) -> bool {
        matches!(self.persisted.vigil, Some(RollbackWatch::Watching { revision: r, .. }) if r == revision)
    }

    /// Whether the guard gave this revision up.
    pub fn was_put_back(&self, revision: Revision) -> bool {
        self.persisted.vigil == Some(RollbackWatch::PutBack { revision })
    }

    /// The guard gives up what it watched.
    pub fn put_back(&mut self, revision: Revision, failure: Failure) {
        self.persisted.failures.insert(revision, failure);
        self.persisted.vigil = Some(RollbackWatch::PutBack { revision });
        self.evidence = FailureHistory::default();
        self.attempt = None;
    }

    /// Nothing is watched any more.
    pub fn end_vigil(&mut self) {
        self.persisted.vigil = None;
        self.evidence = FailureHistory::default();
    }

    /// Forgets revisions that neither serve, nor are wanted, nor can be put back.
    pub fn prune(&mut self, desired: &DeploymentSpec) {
        let live = self.persisted.live.map(|live| live.revision);
        let fallback = desired.guard.as_ref().map(|guard| guard.fallback.revision);
        let keep = |revision: &Revision| {
            *revision == desired.revision || [live, fallback].contains(&Some(*revision))
        };
        if !self.guards(desired.revision) && !self.was_put_back(desired.revision) {
            self.end_vigil();
        }
        self.persisted.digests.retain(|revision, _| keep(revision));
        self.persisted.failures.retain(|revision, _| keep(revision));
        self.persisted.proven.retain(keep);
    }
}

/// Something failed once more that failed so often before: when it is tried again.
fn failed_again(before: Option<(Instant, u32)>, now: Instant, jitter: f64) -> (Instant, u32) {
    let tries = before.map_or(0, |(_, tries)| tries);
    (now + retries::TROUBLE.delay(tries, jitter), tries.saturating_add(1))
}

impl Trouble {
    /// Whether it came after the image was there.
    fn is_of_start(&self) -> bool {
        self.of_host || messages::is_of_start(&self.failure)
    }
}

impl Attempt {
    fn trouble(&mut self, failure: Failure, now: Instant, jitter: f64) {
        let before = self.trouble.as_ref().filter(|trouble| !trouble.of_host);
        let (since, tries) = before.map_or((now, 0), |t| (t.since, t.tries + 1));
        if now.duration_since(since) >= TROUBLE_PATIENCE {
            self.verdict = Some(failure.clone());
        }
        self.not_before = Some(now + retries::TROUBLE.delay(tries, jitter));
        self.trouble = Some(Trouble { since, tries, of_host: false, failure });
    }

    /// The host refuses what any app needs: that is waited out, and never counts against this one.
    fn shortage(&mut self, failure: Failure, now: Instant, jitter: f64) {
        let before = self.trouble.as_ref().filter(|trouble| trouble.of_host);
        let (since, tries) = before.map_or((now, 0), |t| (t.since, t.tries.saturating_add(1)));
        self.not_before = Some(now + retries::SHORTAGE.delay(tries, jitter));
        self.trouble = Some(Trouble { since, tries, of_host: true, failure });
        // What made room for it (`recreate`) serves again meanwhile.
        self.image_ready = false;
    }

    /// Begins from the start after a wait: for revisions that are never given up.
    pub fn next_round(&mut self, now: Instant, jitter: f64) {
        *self = Self {
            revision: self.revision,
            rounds: self.rounds.saturating_add(1),
            not_before: Some(now + retries::CRASH.delay(self.rounds, jitter)),
            ending: self.ending.take(),
            ..Self::default()
        };
    }
}
