//! Orphans: containers that run here but that Podman no longer knows. Looked for only when that may
//! have happened, because nothing but their processes shows it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use buddo_shared::model::id::Revision;
use tokio::time::Instant;

use crate::model::step::Step;
use crate::model::workload::{Identity, Slot, WorkloadId};
use crate::plan::state::{StepOutcome, WorkloadState};
use crate::ports::{Containers, ContainersError};

/// From a reason to look until the look. An unanswered call may still be carried out for this long,
/// and nothing is in a hurry: what is needed at once is asked for at once.
const SETTLED: Duration = Duration::from_secs(30);

/// The longest delay while reasons keep coming: a host with much trouble should be looked at.
const AT_LATEST: Duration = SETTLED.saturating_mul(2);

#[derive(Debug)]
pub(super) struct OrphanSweep {
    /// The first and the last reason since the last look.
    reasons: Option<(Instant, Instant)>,
    /// Workloads whose serving container Podman did not list.
    missing: BTreeSet<WorkloadId>,
}

impl OrphanSweep {
    /// The previous agent may have ended together with Podman.
    pub(super) fn begin(now: Instant) -> Self {
        Self { reasons: Some((now, now)), missing: BTreeSet::new() }
    }

    /// Podman may have been restarted or have lost state.
    pub(super) fn arm(&mut self, now: Instant) {
        let first = self.reasons.map_or(now, |(first, _)| first);
        self.reasons = Some((first, now));
    }

    /// When a look is due.
    pub(super) fn due(&self) -> Option<Instant> {
        self.reasons.map(|(first, last)| (last + SETTLED).min(first + AT_LATEST))
    }

    /// A look is done. What came too late for it is a reason for the next.
    fn looked(&mut self, now: Instant) {
        let late = self.reasons.filter(|(_, last)| *last + SETTLED > now);
        self.reasons = late.map(|(_, last)| (last, last));
    }

    /// Records the outcome of a step. Podman was killed while it created or started a container, or
    /// has lost one that it was to stop or remove.
    pub(super) fn record(&mut self, step: &Step, outcome: &StepOutcome, now: Instant) {
        let unanswered =
            matches!(outcome, StepOutcome::Failed(ContainersError::Unavailable { .. }));
        let absent = matches!(outcome, StepOutcome::Absent);
        if unanswered && matches!(step, Step::Create(_) | Step::Start(_)) || absent {
            self.arm(now);
        }
    }

    /// Podman does not list the serving container of these. Somebody removed it, or Podman has lost
    /// it.
    pub(super) fn misses(&mut self, missing: BTreeSet<WorkloadId>, now: Instant) {
        if !missing.is_subset(&self.missing) {
            self.arm(now);
        }
        self.missing = missing;
    }

    /// Looks for orphans if that is due; returns whether it was.
    pub(super) async fn look<C: Containers>(
        &mut self,
        containers: &C,
        states: &mut BTreeMap<WorkloadId, WorkloadState>,
    ) -> bool {
        let now = Instant::now();
        if self.due().is_none_or(|due| due > now) {
            return false;
        }
        self.looked(now);
        match containers.orphans().await {
            Ok(found) => learn(states, &found),
            Err(error) => {
                let reason = &error as &dyn std::error::Error;
                tracing::warn!(reason, "cannot look for orphaned containers");
                self.arm(now);
            }
        }
        true
    }
}

fn learn(states: &mut BTreeMap<WorkloadId, WorkloadState>, found: &[Identity]) {
    let mut orphans: BTreeMap<WorkloadId, BTreeMap<Slot, Revision>> = BTreeMap::new();
    for Identity { workload, revision, slot } in found {
        tracing::warn!(%workload, %revision, ?slot, "a running container is orphaned");
        orphans.entry(*workload).or_default().insert(*slot, *revision);
        states.entry(*workload).or_default();
    }
    for (id, state) in states {
        state.orphans = orphans.remove(id).unwrap_or_default();
    }
}

#[cfg(test)]
mod tests {
    use buddo_shared::model::id::DeploymentId;

    use super::*;

    #[test]
    fn only_suspicious_outcomes_schedule_a_sweep() {
        let begun = Instant::now();
        let now = begun + Duration::from_hours(1);
        let idle = || OrphanSweep { reasons: None, ..OrphanSweep::begin(begun) };
        let away = || ContainersError::Unavailable { operation: "a test", source: "gone".into() };
        let start = Step::Start("a".to_owned());
        for (step, outcome, expected) in [
            (&start, StepOutcome::Failed(away()), true),
            (&Step::Create(Slot::A), StepOutcome::Failed(away()), true),
            (&start, StepOutcome::Done, false),
            (&start, StepOutcome::Failed(ContainersError::NotFound("a".to_owned())), false),
            (&Step::Image, StepOutcome::Failed(away()), false),
            (&Step::Stop("a".to_owned()), StepOutcome::Absent, true),
            (&Step::Remove("a".to_owned()), StepOutcome::Absent, true),
            (&Step::Remove("a".to_owned()), StepOutcome::Done, false),
        ] {
            let mut sweep = idle();
            sweep.record(step, &outcome, now);
            assert_eq!(sweep.due(), expected.then_some(now + SETTLED), "{step} {outcome:?}");
        }
        assert_eq!(OrphanSweep::begin(begun).due(), Some(begun + SETTLED));
    }

    #[test]
    fn repeated_reasons_cannot_delay_a_sweep_and_the_last_gets_its_own() {
        let begun = Instant::now();
        let mut sweep = OrphanSweep::begin(begun);
        for reason in 1..=5 {
            sweep.arm(begun + SETTLED / 2 * reason);
        }
        assert_eq!(sweep.due(), Some(begun + AT_LATEST));
        sweep.looked(begun + AT_LATEST);
        assert_eq!(sweep.due(), Some(begun + SETTLED / 2 * 5 + SETTLED));
        sweep.looked(begun + AT_LATEST * 2);
        assert_eq!(sweep.due(), None);
    }

    #[test]
    fn a_missing_app_triggers_one_sweep() {
        let begun = Instant::now();
        let mut sweep = OrphanSweep { reasons: None, ..OrphanSweep::begin(begun) };
        let id = |n| WorkloadId::app(DeploymentId::new(uuid::Uuid::from_u128(n)));
        sweep.misses(BTreeSet::new(), begun);
        assert_eq!(sweep.due(), None);
        sweep.misses([id(1)].into(), begun);
        assert!(sweep.reasons.take().is_some());
        sweep.misses([id(1)].into(), begun);
        assert_eq!(sweep.due(), None, "it is known by now");
        sweep.misses([id(2)].into(), begun);
        assert!(sweep.reasons.take().is_some());
        sweep.misses(BTreeSet::new(), begun);
        sweep.misses([id(2)].into(), begun);
        assert!(sweep.due().is_some(), "it is missing again");
    }
}
