//! Which environments are in Podman's secrets: listed when the agent starts, again when no call of
//! the previous agent can still take effect, and whenever Podman refuses something that may need
//! them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use buddo_runtime::backoff::Failures;
use buddo_shared::host_wire::report::Failure;
use buddo_shared::model::id::Revision;
use tokio::time::Instant;

use crate::model::retries::{self, Jitter};
use crate::model::step::Step;
use crate::model::workload::{WorkloadId, secret_owner};
use crate::plan::messages;
use crate::plan::state::{StepOutcome, WorkloadState};
use crate::ports::{Containers, ContainersError};

/// An unanswered call, or one sent by the previous agent, may still be carried out for this long.
const LATE: Duration = Duration::from_secs(30);
/// How often files set aside are looked for, so that the warning ends once they are gone.
const ASIDE: Duration = Duration::from_mins(10);

/// When to look, and what was seen.
#[derive(Debug)]
pub(super) struct SecretsWatch {
    /// After this, no late call can take effect.
    quiet: Instant,
    list: Option<Instant>,
    /// When to repair them if needed, and list them.
    mend: Option<Instant>,
    pub(super) known: bool,
    trouble: Option<Failure>,
    aside: Vec<PathBuf>,
    failures: Failures,
}

impl SecretsWatch {
    pub(super) fn begin(now: Instant) -> Self {
        Self {
            quiet: now + LATE,
            list: Some(now),
            mend: Some(now + LATE),
            known: false,
            trouble: None,
            aside: Vec::new(),
            failures: Failures::default(),
        }
    }

    /// Records the outcome of a step. A failed write of secrets may have been cut short. Podman's
    /// wording for refusals because of secrets differs between versions, so each refusal of a step
    /// that reads them is a reason to look.
    pub(super) fn record(&mut self, step: &Step, outcome: &StepOutcome, now: Instant) {
        let StepOutcome::Failed(error) = outcome else { return };
        match step {
            Step::PutSecrets | Step::RemoveSecrets(_) => {
                self.mend = Some(now);
                // It may still be carried out.
                self.quiet = now + LATE;
            }
            Step::Start(_) if matches!(error, ContainersError::Refused { .. }) => {
                self.mend = Some(now);
            }
            _ => {}
        }
    }

    fn mended(&mut self, aside: Vec<PathBuf>, now: Instant) {
        let quiet = (now < self.quiet).then_some(self.quiet);
        self.mend = quiet.or_else(|| (!aside.is_empty()).then(|| now + ASIDE));
        self.aside = aside;
    }

    /// When to retry a failed look; other looks wait for a pass.
    pub(super) fn again(&self) -> Option<Instant> {
        self.list.filter(|_| self.trouble.is_some())
    }

    /// A warning for the administrator.
    pub(super) fn warning(&self) -> Option<String> {
        let trouble = self.trouble.as_ref();
        let trouble = trouble.map(|trouble| format!("{}; {}", trouble.cause, trouble.fix));
        trouble.or_else(|| (!self.aside.is_empty()).then(|| messages::secrets_torn(&self.aside)))
    }

    /// Looks at Podman's secrets if that is due; returns whether it was. An error: Podman is away.
    /// A refusal or a failed repair is reported, and does not keep apps from what needs no secret.
    pub(super) async fn look<C: Containers>(
        &mut self,
        containers: &C,
        states: &mut BTreeMap<WorkloadId, WorkloadState>,
        jitter: &Jitter,
    ) -> Result<bool, ContainersError> {
        let now = Instant::now();
        let due = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        if !due(self.list) && !due(self.mend) {
            return Ok(false);
        }
        let mut listed = containers.secrets().await;
        let refused = matches!(listed, Err(ContainersError::Refused { .. }));
        let mut unmended = None;
        if refused || due(self.mend) {
            match containers.mend_secrets().await {
                Ok(mended) => {
                    if mended.changed {
                        listed = containers.secrets().await;
                    }
                    self.mended(mended.aside, now);
                }
                Err(error) => unmended = Some(messages::secrets_unmended(&error)),
            }
        }
        let trouble = match listed {
            Ok(names) => {
                learn(states, &names);
                self.known = true;
                None
            }
            Err(ContainersError::Refused { message, .. }) => {
                Some(messages::secrets_refused(&message))
            }
            Err(error) => return Err(error),
        };
        self.trouble = unmended.or(trouble);
        self.list = None;
        if let Some(Failure { cause, .. }) = &self.trouble {
            tracing::warn!(cause, "Podman's secrets are in trouble");
            self.list = Some(self.failures.next(retries::HOST, jitter()));
            self.mend = self.list;
        } else {
            self.failures.end();
        }
        Ok(true)
    }
}

fn learn(states: &mut BTreeMap<WorkloadId, WorkloadState>, names: &[String]) {
    let mut listed: BTreeMap<WorkloadId, BTreeSet<Revision>> = BTreeMap::new();
    for (id, revision) in names.iter().filter_map(|name| secret_owner(name)) {
        listed.entry(id).or_default().insert(revision);
        states.entry(id).or_default();
    }
    for (id, state) in states {
        state.holds_secrets_of(&listed.remove(id).unwrap_or_default());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(error: ContainersError) -> StepOutcome {
        StepOutcome::Failed(error)
    }

    fn away() -> ContainersError {
        ContainersError::Unavailable { operation: "a test", source: "no answer".into() }
    }

    fn refused() -> ContainersError {
        let message = "unexpected end of JSON input".to_owned();
        ContainersError::Refused { operation: "a test", status: 500, message }
    }

    /// A call that was not answered may have been cut short, and may take effect late.
    #[test]
    fn a_failed_secret_write_schedules_two_checks() {
        let begun = Instant::now();
        let now = begun + Duration::from_hours(1);
        for step in [Step::PutSecrets, Step::RemoveSecrets(Revision::FIRST)] {
            let mut watch = SecretsWatch::begin(begun);
            watch.mended(Vec::new(), now);
            assert_eq!(watch.mend, None);
            watch.record(&step, &failed(away()), now);
            assert_eq!(watch.mend, Some(now));
            watch.mended(Vec::new(), now);
            assert_eq!(watch.mend, Some(now + LATE));
            watch.mended(Vec::new(), now + LATE);
            assert_eq!(watch.mend, None);
        }
    }

    #[test]
    fn only_a_refused_start_triggers_a_check() {
        let now = Instant::now();
        let start = Step::Start("a".to_owned());
        for (step, outcome, expected) in [
            (&start, failed(refused()), true),
            (&start, failed(away()), false),
            (&start, StepOutcome::Done, false),
            (&Step::Stop("a".to_owned()), failed(refused()), false),
        ] {
            let mut watch = SecretsWatch { mend: None, ..SecretsWatch::begin(now) };
            watch.record(step, &outcome, now);
            assert_eq!(watch.mend.is_some(), expected, "{step} {outcome:?}");
        }
    }

    #[test]
    fn files_set_aside_are_rechecked_and_reported() {
        let now = Instant::now();
        let mut watch = SecretsWatch::begin(now);
        let later = now + LATE;
        watch.mended(vec![PathBuf::from("/s/secrets.json.torn")], later);
        assert_eq!(watch.mend, Some(later + ASIDE));
        assert!(watch.warning().unwrap().contains("/s/secrets.json.torn"));
        assert_eq!(watch.again(), None, "no pass is made for it alone");
        watch.mended(Vec::new(), later + ASIDE);
        assert_eq!((watch.warning(), watch.mend), (None, None));
    }

    #[test]
    fn a_failed_repair_is_retried() {
        let now = Instant::now();
        let mut watch = SecretsWatch { list: Some(now), ..SecretsWatch::begin(now) };
        let error = std::io::Error::from(std::io::ErrorKind::StorageFull);
        watch.trouble = Some(messages::secrets_unmended(&error));
        assert_eq!(watch.again(), Some(now));
    }
}
