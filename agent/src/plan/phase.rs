//! How far a deployment is: the only place that names a [`Phase`].
//!
//! Everybody else states facts. The phase of a plan says that visitors are *sent* to what serves;
//! [`for_visitors`] says whether they get there, and [`of_step`] what a running step shows meanwhile.

use buddo_shared::host_wire::report::Phase;

use crate::model::container::ContainerState;
use crate::model::step::{Lane, Step};

/// How far the revision that is to serve has got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress<'a> {
    /// Nothing is known of it: it waits, or something else holds it up.
    Waits,
    /// It is rolled out: the step that runs, and the state of its container, if there is one.
    RollsOut { step: Option<&'a Step>, container: Option<ContainerState> },
    /// It served once, did not answer this time, and starts from the beginning.
    StartsOver,
    /// It serves.
    Serves,
    /// It served, and its container is down or was just started again.
    Restarts,
}

/// Facts about a deployment at the end of a plan.
#[derive(Debug, Clone, Copy)]
pub(super) enum Situation<'a> {
    /// It should not run.
    TakenDown { nothing_left: bool },
    /// Its desired revision was given up.
    GivenUp {
        /// Auto rollback gave it up, after it had served.
        rolled_back: bool,
        /// What served before serves, or is on its way back.
        something_serves: bool,
        /// Visitors are sent to something that answers.
        answers: bool,
    },
    /// Its desired revision should serve.
    Wanted {
        progress: Progress<'a>,
        /// Visitors are sent to something that answers.
        answers: bool,
    },
}

/// The phase of a plan.
pub(super) fn of(situation: Situation<'_>) -> Phase {
    match situation {
        Situation::TakenDown { nothing_left: false } => Phase::Stopping,
        Situation::TakenDown { nothing_left: true } => Phase::Stopped,
        // 'Failed, and nothing serves' is final: the coordinator then has the app stopped. So it is
        // not reported while what served before is on its way back.
        Situation::GivenUp { rolled_back: false, something_serves: true, answers: false } => {
            Phase::Starting
        }
        Situation::GivenUp { .. } => Phase::Failed,
        Situation::Wanted { progress: Progress::Serves, answers: true } => Phase::Live,
        Situation::Wanted { progress, .. } => of_progress(progress),
    }
}

/// The phase while visitors are not sent to the wanted revision.
fn of_progress(progress: Progress<'_>) -> Phase {
    match progress {
        Progress::RollsOut { step: Some(Step::Image), .. } => Phase::Pulling,
        Progress::RollsOut { step: Some(Step::Create(_) | Step::Start(_)), .. } => Phase::Starting,
        Progress::RollsOut { container: Some(ContainerState::Running), .. } => Phase::Probing,
        Progress::Waits | Progress::RollsOut { container: None, .. } => Phase::Accepted,
        // One that serves and does not answer was restarted and is not probed yet.
        Progress::RollsOut { container: Some(_), .. }
        | Progress::StartsOver
        | Progress::Restarts
        | Progress::Serves => Phase::Starting,
    }
}

/// The phase that is reported: live only once a visitor who comes now is answered. `ready`: the
/// edge uses the table that says so, and has the route and the certificate.
pub fn for_visitors(planned: Phase, ready: bool) -> Phase {
    if planned == Phase::Live && !ready { Phase::Routing } else { planned }
}

/// What a step shows while it runs; `None`: it is too short, or changes nothing that shows.
/// `removed`: the deployment should not exist.
pub fn of_step(step: &Step, lane: Lane, removed: bool) -> Option<Phase> {
    match step {
        Step::Image => Some(Phase::Pulling),
        Step::Create(_) | Step::Start(_) => Some(Phase::Starting),
        Step::Watch(_) => Some(Phase::Probing),
        // An old container that is stopped after a switch is not the app's own end.
        Step::Stop(_) if lane == Lane::Roll && removed => Some(Phase::Stopping),
        Step::Stop(_)
        | Step::PutSecrets
        | Step::InspectExit(_)
        | Step::Remove(_)
        | Step::EndOrphans(_)
        | Step::FreeAddress(_)
        | Step::RemoveSecrets(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::container::Slot;

    #[test]
    fn a_revision_is_live_only_while_visitors_are_sent_to_what_answers() {
        let wanted = |progress, answers| of(Situation::Wanted { progress, answers });
        assert_eq!(wanted(Progress::Serves, true), Phase::Live);
        assert_eq!(wanted(Progress::Serves, false), Phase::Starting);
        for progress in [Progress::Waits, Progress::StartsOver, Progress::Restarts] {
            assert_ne!(wanted(progress, true), Phase::Live, "another one answers: {progress:?}");
        }
        assert_eq!(for_visitors(Phase::Live, false), Phase::Routing);
        assert_eq!(for_visitors(Phase::Live, true), Phase::Live);
        assert_eq!(for_visitors(Phase::Starting, false), Phase::Starting);
    }

    #[test]
    fn a_rollout_shows_the_running_step_and_else_its_container() {
        let (image, create) = (Step::Image, Step::Create(Slot::A));
        let watch = Step::Watch("a".to_owned());
        for (step, container, expected) in [
            (None, None, Phase::Accepted),
            (Some(&image), None, Phase::Pulling),
            (Some(&create), None, Phase::Starting),
            (None, Some(ContainerState::Created), Phase::Starting),
            (Some(&watch), Some(ContainerState::Running), Phase::Probing),
            (None, Some(ContainerState::Running), Phase::Probing),
            (None, Some(ContainerState::Exited(1)), Phase::Starting),
        ] {
            let progress = Progress::RollsOut { step, container };
            let found = of(Situation::Wanted { progress, answers: false });
            assert_eq!(found, expected, "{step:?} {container:?}");
        }
    }

    /// A coordinator that reads 'failed, and nothing serves' has the app stopped.
    #[test]
    fn failed_is_not_reported_while_what_served_comes_back() {
        let given_up = |rolled_back, something_serves, answers| {
            of(Situation::GivenUp { rolled_back, something_serves, answers })
        };
        assert_eq!(given_up(false, true, false), Phase::Starting);
        assert_eq!(given_up(false, true, true), Phase::Failed);
        assert_eq!(given_up(false, false, false), Phase::Failed);
        // The coordinator knows from the report that the fallback comes back.
        assert_eq!(given_up(true, true, false), Phase::Failed);
    }

    #[test]
    fn a_stop_shows_only_where_the_app_itself_goes() {
        let stop = Step::Stop("a".to_owned());
        assert_eq!(of_step(&stop, Lane::Roll, true), Some(Phase::Stopping));
        assert_eq!(of_step(&stop, Lane::Roll, false), None);
        assert_eq!(of_step(&Step::Image, Lane::Roll, false), Some(Phase::Pulling));
        assert_eq!(of_step(&Step::PutSecrets, Lane::Serve, false), None);
    }
}
