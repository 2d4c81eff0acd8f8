//! The state of one workload between passes. Plain data and pure transitions; the [`Persisted`]
//! part is kept in the database, the rest is observed again after a restart.

use std::collections::{BTreeMap, BTreeSet};

use buddo_shared::host_wire::report::Failure;
use buddo_shared::model::id::Revision;
use buddo_shared::model::image::Digest;
use tokio::time::Instant;

use crate::model::container::ExitInfo;
use crate::model::live_table::Target;
use crate::model::persisted::{Persisted, RollbackWatch, Serving};
use crate::model::retries;
use crate::model::spec::WorkloadSpec;
use crate::model::step::{Lane, Step};
use crate::model::workload::{Slot, container_owner};
use crate::plan::messages;
use crate::plan::restarts::{LastExit, Restarts};
use crate::plan::rollback_watch::FailureHistory;
use crate::ports::ContainersError;

/// Trouble with a registry or Podman is retried for this long, then the revision is given up.
const TROUBLE_PATIENCE: std::time::Duration = std::time::Duration::from_mins(5);
/// How often Podman may refuse the same create or start before the revision is given up.
const MAX_REFUSALS: u32 = 3;

/// The whole state of one workload. There is one for each container of the host: what is rarely
/// there is boxed.
#[derive(Debug, Clone, Default)]
pub struct WorkloadState {
    /// The part that survives an agent restart.
    pub persisted: Persisted,
    /// The rollout of the desired revision, while it is under way.
    pub attempt: Option<Box<Attempt>>,
    /// Restarts of what serves.
    pub crash: Crash,
    /// What this agent started again: it gets visitors only once it is known to be held to its
    /// limits. What served already when the agent came is not taken from its visitors.
    pub restarted: Option<Serving>,
    /// How often what serves went down recently, for reports.
    pub restarts: Restarts,
    /// How it last did.
    pub last_exit: Option<LastExit>,
    /// What was seen of it while auto rollback watches; `None`: nothing.
    pub failure_history: Option<Box<FailureHistory>>,
    /// Containers to be removed → since when they are not needed.
    pub retiring: BTreeMap<String, Instant>,
    /// Containers in use that make room → since when.
    pub paused: BTreeMap<String, Instant>,
    /// Containers being stopped → since when the stop is carried out.
    pub stopping: BTreeMap<String, Instant>,
    /// Removing failed: not again before this, and how often it failed.
    pub cleanup: Option<(Instant, u32)>,
    /// How often a container could not be stopped.
    pub stops_failed: BTreeMap<String, u32>,
    /// Slots with orphans (running containers that Podman no longer knows), and a revision of each.
    pub orphans: BTreeMap<Slot, Revision>,
    /// Revisions whose environment is in Podman's secrets.
    pub secrets: BTreeMap<Revision, Stock>,
    /// Restoring the environment of what serves failed: not before this, and how often it failed.
    pub restock: Option<(Instant, u32)>,
    /// The target that visitors should be sent to.
    pub target: Option<Target>,
    /// Since when the table in force sends them there; `None`: it does not yet.
    pub in_force: Option<Instant>,
}

/// The rollout of one revision.
#[derive(Debug, Clone, Default)]
pub struct Attempt {
    /// The revision; `None` only before the first plan.
    pub revision: Option<Revision>,
    /// When its container was started, or first seen running.
    pub started: Option<Instant>,
    /// How often its container ended before it answered.
    pub exits: u32,
    /// How it last ended.
    pub last_exit: Option<ExitInfo>,
    /// How often Podman refused.
    pub refusals: u32,
    /// Trouble that may pass.
    pub trouble: Option<RolloutTrouble>,
    /// Nothing is tried before this.
    pub not_before: Option<Instant>,
    /// How often it was restarted from the beginning.
    pub rounds: u32,
    /// Something that is not a Podman container holds the candidate's address.
    pub address_held: bool,
    /// Why it cannot succeed.
    pub verdict: Option<Failure>,
    /// The image is present: a `recreate` may stop the old container now.
    pub image_ready: bool,
    /// Podman went away while starting the container, which may run without port forwarding.
    pub torn: bool,
    /// How often its container was removed to be recreated.
    pub removed: u32,
    /// The host does not hold its containers to their limits.
    pub unlimited: Option<Unlimited>,
}

/// Containers that the host did not hold to their limits: made again for as long as that takes, and
/// never counted against the app.
#[derive(Debug, Clone)]
pub struct Unlimited {
    pub failure: Failure,
    /// How many were removed for it.
    removed: u32,
}

/// Trouble that may pass by itself.
#[derive(Debug, Clone)]
pub struct RolloutTrouble {
    since: Instant,
    tries: u32,
    /// The host lacks a resource: retried for as long as that takes.
    of_host: bool,
    pub failure: Failure,
}

/// Restarts of the container that serves.
#[derive(Debug, Clone, Default)]
pub struct Crash {
    /// It is known to be down, and has not been started since.
    pub down: bool,
    /// This agent started it or saw it run: its end counts.
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
    /// What the host lacks to start it, and how often that was found.
    pub lacks: Option<Box<(Failure, u32)>>,
    /// Podman went away while starting it: it may run without port forwarding.
    pub torn: bool,
}

/// How much of a revision's environment is in Podman's secrets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stock {
    /// Maybe only part of it.
    Part,
    /// All of it, as far as is known.
    Whole,
}

/// The outcome of a step.
#[derive(Debug)]
pub enum StepOutcome {
    /// The image is present, and this is the digest of its tag.
    Image(Digest),
    Ended(ExitInfo),
    /// Done; nothing more to report.
    Done,
    /// Done, because Podman knows no such container. It may still be running.
    Absent,
    /// It was not done.
    Failed(ContainersError),
    /// The revision's sealed environment or credentials cannot be read.
    Unreadable(Failure),
}

impl StepOutcome {
    /// A stable word for what went wrong, if something did.
    pub fn failure_code(&self) -> Option<String> {
        match self {
            Self::Failed(error) => Some(messages::code(error)),
            Self::Unreadable(failure) => Some(failure.code.clone()),
            Self::Image(_) | Self::Ended(_) | Self::Done | Self::Absent => None,
        }
    }
}

impl WorkloadState {
    /// Restores the state of a workload from the database.
    pub fn restore(persisted: Persisted) -> Self {
        Self { persisted, ..Self::default() }
    }

    /// Records the outcome of `step`, for `revision`, at `now`.
    pub fn record(
        &mut self,
        lane: Lane,
        step: &Step,
        revision: Revision,
        outcome: StepOutcome,
        now: Instant,
        jitter: f64,
    ) {
        match outcome {
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
                    // This proves nothing about the steps after the image.
                    attempt.trouble.take_if(|trouble| !trouble.is_of_start());
                    attempt.image_ready = true;
                }
            }
            StepOutcome::Ended(exit) if lane == Lane::Serve => {
                self.failure_history().learned(&exit);
                if let Some(last) = &mut self.last_exit {
                    last.learned(&exit);
                }
            }
            StepOutcome::Ended(exit) => {
                if let Some(attempt) = self.attempt_on(revision) {
                    attempt.exits += 1;
                    attempt.last_exit = Some(exit);
                }
            }
            StepOutcome::Done | StepOutcome::Absent => {
                self.record_done(lane, step, revision, now, jitter);
            }
        }
    }

    fn record_done(
        &mut self,
        lane: Lane,
        step: &Step,
        revision: Revision,
        now: Instant,
        jitter: f64,
    ) {
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
                    attempt.container_removed(now, jitter);
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
            Step::EndOrphans(slot) => {
                self.orphans.remove(slot);
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
                let tries = self.crash.lacks.take().map_or(0, |lacks| lacks.1);
                self.crash.not_before = Some(now + retries::SHORTAGE.delay(tries, jitter));
                self.crash.lacks = Some(Box::new((failure, tries.saturating_add(1))));
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
            // A pull that fails for lack of space costs the host much, and is given up in the end.
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
            // Most likely an orphan: the other slot may be free.
            ContainersError::Refused { message, .. } if messages::is_address_held(&message) => {
                attempt.address_held = true;
                attempt.trouble(messages::refused(&message), now, jitter);
            }
            // That container can never start, and no app is at fault: recreate it.
            ContainersError::Refused { message, .. } if messages::is_storage_lost(&message) => {
                attempt.torn = true;
                attempt.trouble(messages::storage_lost(&message), now, jitter);
            }
            // The host is at fault, not the environment.
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

    /// Podman's secrets hold the environments of exactly these revisions. A write whose outcome is
    /// unknown may still take effect later.
    pub fn holds_secrets_of(&mut self, listed: &BTreeSet<Revision>) {
        self.secrets.retain(|r, stock| *stock == Stock::Part || listed.contains(r));
        for revision in listed {
            self.secrets.entry(*revision).or_insert(Stock::Whole);
        }
    }

    /// The next table sends visitors to `target`.
    pub fn send_to(&mut self, target: Option<&Target>) {
        if self.target.as_ref() != target {
            self.target = target.cloned();
            self.in_force = None;
        }
    }

    /// A table was written: what `pass` decided is in force from `now` on, and containers it
    /// retired were sent visitors until then.
    pub fn published(&mut self, pass: Instant, now: Instant) {
        self.in_force.get_or_insert(now);
        let leaving = self.retiring.values_mut().chain(self.paused.values_mut());
        leaving.filter(|since| **since == pass).for_each(|since| *since = now);
    }

    /// Since when the stop of this container is carried out.
    pub fn stopping_since(&self, name: &str, now: Instant) -> Instant {
        self.stopping.get(name).copied().unwrap_or(now)
    }

    /// Retiring containers are still sent visitors.
    pub fn restart_drains(&mut self) {
        self.retiring.clear();
        self.paused.clear();
    }

    /// After a failed stop or removal, when the next may be tried.
    pub fn cooling(&self, now: Instant) -> Option<Instant> {
        self.cleanup.map(|(not_before, _)| not_before).filter(|at| *at > now)
    }

    fn attempt_on(&mut self, revision: Revision) -> Option<&mut Attempt> {
        self.attempt.as_deref_mut().filter(|attempt| attempt.revision == Some(revision))
    }

    /// What was seen of it, begun if nothing was.
    pub fn failure_history(&mut self) -> &mut FailureHistory {
        self.failure_history.get_or_insert_default()
    }

    /// The attempt at `revision`, begun if there is none.
    pub fn attempt_at(&mut self, revision: Revision) -> &mut Attempt {
        let attempt = self.attempt.get_or_insert_default();
        if attempt.revision != Some(revision) {
            **attempt = Attempt { revision: Some(revision), ..Attempt::default() };
        }
        attempt
    }

    /// When the failure of what serves, or of the rollout, is retried.
    pub fn waits_until(&self, now: Instant) -> Option<Instant> {
        let crash = self.crash.not_before.filter(|_| self.crash.down);
        let attempt = self.attempt.as_ref().and_then(|attempt| attempt.not_before);
        [crash, attempt].into_iter().flatten().filter(|at| *at > now).min()
    }

    /// Whether auto rollback watches this revision.
    pub fn watches(&self, revision: Revision) -> bool {
        matches!(self.persisted.rollback_watch, Some(RollbackWatch::Watching { revision: r, .. }) if r == revision)
    }

    /// Whether auto rollback gave this revision up, for its own sake or with its deployment.
    pub fn was_rolled_back(&self, revision: Revision) -> bool {
        self.was_rolled_back_by_itself(revision) || self.was_rolled_back_too(revision)
    }

    /// Whether auto rollback gave this revision up for what it did.
    pub fn was_rolled_back_by_itself(&self, revision: Revision) -> bool {
        self.persisted.rollback_watch == Some(RollbackWatch::RolledBack { revision })
    }

    /// Whether this revision goes back only because another workload of its deployment failed.
    pub fn was_rolled_back_too(&self, revision: Revision) -> bool {
        matches!(
            self.persisted.rollback_watch,
            Some(RollbackWatch::RolledBackToo { revision: r, .. }) if r == revision
        )
    }

    /// watching → rolled back.
    pub fn roll_back(&mut self, revision: Revision, failure: Failure) {
        self.give_up(revision, failure, RollbackWatch::RolledBack { revision });
    }

    /// any → rolled back, because another workload of its deployment was given up.
    pub fn roll_back_too(&mut self, desired: &WorkloadSpec, failure: Failure) {
        let (revision, deployment) = (desired.revision(), desired.deployment().revision);
        self.give_up(revision, failure, RollbackWatch::RolledBackToo { revision, deployment });
    }

    fn give_up(&mut self, revision: Revision, failure: Failure, outcome: RollbackWatch) {
        self.persisted.failures.insert(revision, failure);
        self.persisted.rollback_watch = Some(outcome);
        self.failure_history = None;
        self.attempt = None;
    }

    /// Ends any watch.
    pub fn end_watch(&mut self) {
        self.persisted.rollback_watch = None;
        self.failure_history = None;
    }

    /// Forgets revisions that neither serve, nor are wanted, nor can be rolled back to.
    pub fn prune(&mut self, desired: &WorkloadSpec) {
        let live = self.persisted.live.map(|live| live.revision);
        let fallback = desired.fallback().map(|fallback| fallback.revision);
        let keep = |revision: &Revision| {
            *revision == desired.revision() || [live, fallback].contains(&Some(*revision))
        };
        if let Some(RollbackWatch::RolledBackToo { revision, deployment }) =
            self.persisted.rollback_watch
            && deployment != desired.deployment().revision
        {
            self.persisted.failures.remove(&revision);
            self.end_watch();
        }
        if !self.watches(desired.revision()) && !self.was_rolled_back(desired.revision()) {
            self.end_watch();
        }
        self.persisted.digests.retain(|revision, _| keep(revision));
        self.persisted.failures.retain(|revision, _| keep(revision));
        self.persisted.proven.retain(keep);
    }
}

/// Another failure after `before`: when to retry.
fn failed_again(before: Option<(Instant, u32)>, now: Instant, jitter: f64) -> (Instant, u32) {
    let tries = before.map_or(0, |(_, tries)| tries);
    (now + retries::TROUBLE.delay(tries, jitter), tries.saturating_add(1))
}

impl RolloutTrouble {
    /// Whether it came after the image was present.
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
        self.trouble = Some(RolloutTrouble { since, tries, of_host: false, failure });
    }

    /// The host refuses what any app needs: retried, and never counted against this app.
    fn shortage(&mut self, failure: Failure, now: Instant, jitter: f64) {
        let before = self.trouble.as_ref().filter(|trouble| trouble.of_host);
        let (since, tries) = before.map_or((now, 0), |t| (t.since, t.tries.saturating_add(1)));
        self.not_before = Some(now + retries::SHORTAGE.delay(tries, jitter));
        self.trouble = Some(RolloutTrouble { since, tries, of_host: true, failure });
        // What made room for it (`recreate`) serves again meanwhile.
        self.image_ready = false;
    }

    /// Its container is not held to its limits.
    pub fn is_unlimited(&mut self, failure: Failure) {
        let removed = self.unlimited.take().map_or(0, |before| before.removed);
        self.unlimited = Some(Unlimited { failure, removed });
    }

    /// Its container was removed, to be made again: the one without limits not at once, because
    /// another one would hardly fare better, and its neighbours would suffer once more.
    fn container_removed(&mut self, now: Instant, jitter: f64) {
        let Some(unlimited) = &mut self.unlimited else {
            self.removed += 1;
            return;
        };
        self.not_before = Some(now + retries::SHORTAGE.delay(unlimited.removed, jitter));
        unlimited.removed = unlimited.removed.saturating_add(1);
        // What made room for it (`recreate`) serves again meanwhile.
        self.image_ready = false;
    }

    /// Starts again from the beginning after a wait: for revisions that are never given up.
    pub fn next_round(&mut self, now: Instant, jitter: f64) {
        *self = Self {
            revision: self.revision,
            rounds: self.rounds.saturating_add(1),
            not_before: Some(now + retries::CRASH.delay(self.rounds, jitter)),
            last_exit: self.last_exit.take(),
            ..Self::default()
        };
    }
}
