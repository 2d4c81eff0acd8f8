//! What is known of the host's containers, and what Podman is asked about next.

use std::collections::HashSet;
use std::time::Duration;

use buddo_runtime::backoff::Failures;
use buddo_shared::host_wire::report::Failure;
use tokio::time::Instant;

use super::event_liveness::EventLiveness;
use super::observe::{Observed, observe};
use super::operations::Ended;
use super::relist::{Relist, Scope};
use crate::model::container::Process;
use crate::model::retries::{self, Jitter};
use crate::plan::messages;
use crate::plan::state::StepOutcome;
use crate::ports::{Containers, ContainersError, EventFeed};

/// How often all containers are listed while events arrive.
pub(super) const RELIST: Duration = Duration::from_mins(1);
/// How often while they do not.
const RELIST_BLIND: Duration = Duration::from_secs(4);

/// What changed about Podman's events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    /// The stream was opened or closed.
    Stream,
    /// Something happened to a container.
    Hint,
}

pub(super) struct Observation {
    events: EventFeed,
    liveness: EventLiveness,
    relist: Relist,
    observed: Observed,
    /// There were hints since the last pass.
    hinted: bool,
    /// Lists that failed in a row.
    failures: Failures,
    /// Why Podman cannot be asked, or what is wrong with it.
    trouble: Option<Failure>,
}

impl Observation {
    pub(super) fn begin(events: EventFeed, now: Instant) -> Self {
        Self {
            events,
            liveness: EventLiveness::default(),
            relist: Relist::begin(now),
            observed: Observed::default(),
            hinted: false,
            failures: Failures::default(),
            trouble: None,
        }
    }

    /// Waits for news from Podman's events.
    pub(super) async fn changed(&mut self) -> Change {
        let change = tokio::select! {
            // In a fixed order, not by chance, so that a run can be repeated.
            biased;
            Ok(()) = self.events.healthy.changed() => Change::Stream,
            Ok(()) = self.events.hints.changed() => Change::Hint,
            else => std::future::pending().await,
        };
        match change {
            Change::Stream => self.relist.doubt_all(),
            Change::Hint => self.hinted = true,
        }
        change
    }

    /// Takes in how many lines of events have come.
    pub(super) fn hear_events(&mut self) {
        self.liveness.hear(*self.events.lines.borrow());
    }

    /// What operations changed, or may have, is in doubt.
    pub(super) fn relist(&mut self) -> &mut Relist {
        &mut self.relist
    }

    /// Records how a step ended.
    pub(super) fn record(&mut self, ended: &Ended, now: Instant) {
        if let StepOutcome::Failed(error) = &ended.outcome
            && (messages::is_damage(error) || matches!(error, ContainersError::Unavailable { .. }))
        {
            self.trouble = Some(messages::podman_trouble(error, self.trouble.take()));
            self.relist.unanswered(now);
        }
        if ended.step.is_event() && matches!(ended.outcome, StepOutcome::Done) {
            self.liveness.expect(ended.lines_before, now);
        }
    }

    /// Asks for a new event stream if this one is open and silent.
    pub(super) fn check_stream(&mut self, now: Instant) {
        if self.liveness.overdue(now) {
            tracing::warn!("Podman's event stream stalled; reopening it");
            self.events.renew.notify_one();
            self.relist.doubt_all();
        }
    }

    /// The containers of the host: what is in doubt is asked for, the rest is as it was.
    pub(super) async fn look<C: Containers>(
        &mut self,
        containers: &C,
        jitter: &Jitter,
    ) -> Result<Observed, ContainersError> {
        let mut observed = std::mem::take(&mut self.observed);
        if let Scope::Named(names) = self.relist.take(observed.len(), Instant::now()) {
            match observed.refresh(containers, names).await {
                Ok(()) => return Ok(observed),
                // One container that cannot be inspected is no reason to lose sight of the others.
                Err(error) => {
                    if messages::is_damage(&error) {
                        self.trouble = Some(messages::podman_trouble(&error, None));
                    }
                    let error = &error as &dyn std::error::Error;
                    tracing::debug!(error, "a container cannot be inspected; listing all");
                }
            }
        }
        let observed = observe(containers).await?;
        for name in &observed.unknown {
            tracing::debug!(%name, "a container has only some of our labels; leaving it alone");
        }
        let period = if self.hears_events() { RELIST } else { RELIST_BLIND };
        self.relist.listed(Instant::now(), period.mul_f64(1.0 - jitter() / 5.0));
        Ok(observed)
    }

    /// Events name containers, the kernel names processes (`ended`), and what does not answer its
    /// probe may have ended.
    pub(super) fn doubt_what_was_hinted_at<'a>(
        &mut self,
        ended: impl Iterator<Item = &'a Process>,
        unanswered: impl IntoIterator<Item = String>,
    ) {
        if self.events.hints.has_changed().unwrap_or_default() {
            self.events.hints.mark_unchanged();
            self.hinted = true;
        }
        if std::mem::take(&mut self.hinted) {
            match self.events.named.take() {
                Some(names) => names.into_iter().for_each(|name| self.relist.doubt(name)),
                None => self.relist.doubt_all(),
            }
        }
        let ended: HashSet<&Process> = ended.collect();
        if !ended.is_empty() {
            let known = self.observed.workloads.values().flatten();
            for container in known.filter(|c| c.process.as_ref().is_some_and(|p| ended.contains(p)))
            {
                self.relist.doubt(&container.name);
            }
        }
        unanswered.into_iter().for_each(|name| self.relist.doubt(name));
    }

    /// Podman could not be asked. Returns when to ask again.
    pub(super) fn failed(&mut self, error: &ContainersError, jitter: &Jitter) -> Instant {
        let reason = error as &dyn std::error::Error;
        tracing::warn!(reason, "containers cannot be listed");
        self.trouble = Some(messages::podman_trouble(error, self.trouble.take()));
        let again = self.failures.next(retries::HOST, jitter());
        self.relist.failed(Instant::now(), again);
        again
    }

    /// Podman could be asked.
    pub(super) fn succeeded(&mut self) {
        self.trouble = None;
        self.failures.end();
    }

    /// What the next pass builds on.
    pub(super) fn keep(&mut self, observed: Observed) {
        self.observed = observed;
    }

    pub(super) fn trouble(&self) -> Option<&Failure> {
        self.trouble.as_ref()
    }

    /// When all are listed again.
    pub(super) fn due(&self) -> Instant {
        self.relist.due()
    }

    /// When to check the event stream.
    pub(super) fn stream_due(&self) -> Option<Instant> {
        self.liveness.due()
    }

    /// Whether Podman's events arrive.
    pub(super) fn hears_events(&self) -> bool {
        *self.events.healthy.borrow() && !self.liveness.is_deaf()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::sync::watch;

    use super::*;

    #[tokio::test]
    async fn a_stream_that_closes_and_a_hint_are_told_apart() {
        let (hints, hinted) = watch::channel(0);
        let (healthy, seen) = watch::channel(true);
        let events = EventFeed {
            hints: hinted,
            named: Arc::default(),
            lines: watch::channel(0).1,
            healthy: seen,
            renew: Arc::default(),
        };
        let mut observation = Observation::begin(events, Instant::now());
        hints.send_modify(|hint| *hint += 1);
        assert_eq!(observation.changed().await, Change::Hint);
        healthy.send_replace(false);
        assert_eq!(observation.changed().await, Change::Stream);
        assert!(!observation.hears_events());
        // A feed that is gone says nothing, and stops nobody from waiting for something else.
        drop((hints, healthy));
        let waited = tokio::time::timeout(Duration::from_millis(10), observation.changed()).await;
        assert!(waited.is_err());
    }
}
