//! What the host was found to lack when it was to create or start a container, or to hold one to its
//! limits. Meanwhile the host reports it, and should get no new apps.

use std::time::Duration;

use buddo_shared::host_wire::report::Failure;
use tokio::time::Instant;

use crate::model::step::Step;
use crate::plan::state::StepOutcome;
use crate::ports::ContainersError;

/// A shortage counts as past this long after the last refusal: what was refused is retried sooner,
/// if it is still wanted.
const PAST: Duration = Duration::from_mins(5);

/// What is lacking, as far as the last creates and starts, and what runs, showed.
#[derive(Debug, Default)]
pub(super) struct Shortage {
    create: Option<(Instant, Failure)>,
    start: Option<(Instant, Failure)>,
    limits: Option<(Instant, Failure)>,
}

impl Shortage {
    /// Records the outcome of a step. What is refused to one app is refused to the next one, too; a
    /// success shows that the host has it again. A create proves nothing about starts: there may be
    /// no lock for another container while existing ones can be started.
    pub(super) fn record(&mut self, step: &Step, outcome: &StepOutcome, now: Instant) {
        let last = match step {
            Step::Create(_) => &mut self.create,
            Step::Start(_) => &mut self.start,
            _ => return,
        };
        match outcome {
            StepOutcome::Failed(ContainersError::Full(failure)) => {
                if last.is_none() {
                    let cause = &failure.cause;
                    tracing::warn!(cause, "this host should get no new apps for now");
                }
                *last = Some((now, failure.clone()));
            }
            StepOutcome::Done => *last = None,
            _ => {}
        }
    }

    /// Records that something runs without the limits that were ordered for it, if it does. What was
    /// just removed for that is still told of for a while.
    pub(super) fn look_at_limits(&mut self, unlimited: Option<Failure>, now: Instant) {
        if let Some(failure) = unlimited {
            self.limits = Some((now, failure));
        }
    }

    /// What is lacking now.
    pub(super) fn lacks(&self, now: Instant) -> Option<&Failure> {
        self.all().find(|(at, _)| now.duration_since(*at) < PAST).map(|(_, failure)| failure)
    }

    fn all(&self) -> impl Iterator<Item = &(Instant, Failure)> {
        [&self.limits, &self.create, &self.start].into_iter().flatten()
    }

    /// When to look again if nothing happens.
    pub(super) fn due(&self, now: Instant) -> Option<Instant> {
        self.all().map(|(at, _)| *at + PAST).filter(|past| *past > now).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::container::Slot;

    fn full(code: &str) -> StepOutcome {
        let failure = Failure { code: code.to_owned(), cause: code.to_owned(), fix: String::new() };
        StepOutcome::Failed(ContainersError::Full(failure))
    }

    #[test]
    fn fm_56_a_shortage_lasts_until_a_success_or_a_timeout() {
        let (create, start) = (Step::Create(Slot::A), Step::Start("a".to_owned()));
        let begun = Instant::now();
        let mut shortage = Shortage::default();
        let code = |shortage: &Shortage, at| shortage.lacks(at).map(|failure| failure.code.clone());
        // An app's own fault says nothing about the host, and a full disk for an image is reported
        // elsewhere.
        shortage.record(
            &start,
            &StepOutcome::Failed(ContainersError::NotFound("a".to_owned())),
            begun,
        );
        shortage.record(&Step::Image, &full("disk_full"), begun);
        assert_eq!(code(&shortage, begun), None);
        shortage.record(&start, &full("keys"), begun);
        assert_eq!(code(&shortage, begun).as_deref(), Some("keys"));
        // Another app's create proves nothing about starts, its start does.
        shortage.record(&create, &StepOutcome::Done, begun);
        assert_eq!(code(&shortage, begun).as_deref(), Some("keys"));
        shortage.record(&start, &StepOutcome::Done, begun);
        assert_eq!(code(&shortage, begun), None);
        shortage.record(&create, &full("locks"), begun);
        shortage.record(&start, &StepOutcome::Done, begun);
        assert_eq!(code(&shortage, begun).as_deref(), Some("locks"));
        assert_eq!(shortage.due(begun), Some(begun + PAST));
        assert_eq!(code(&shortage, begun + PAST), None);
        assert_eq!(shortage.due(begun + PAST), None);
    }
}
