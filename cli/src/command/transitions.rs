//! A deployment's status transitions while someone watches. Pure.

use buddo_shared::api::deploy::{Failure, Status, StatusAnswer};

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The new version answers visitors.
    Live {
        /// What is wrong nevertheless.
        warning: Option<Failure>,
    },
    /// The new version did not become live; the previous one may still be serving.
    Failed {
        /// Why, in one line.
        cause: String,
        /// What to do, in one line, if known.
        fix: Option<String>,
    },
}

/// The statuses seen so far, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Path(Vec<Status>);

impl Path {
    /// Starts with the status that the API returned.
    pub(super) fn new(first: Status) -> Self {
        Self(vec![first])
    }

    /// Takes a status and returns those it adds: none if it is the last one. From `pending`
    /// `running` is reached only through `deploying`, so a transition too quick to be seen is
    /// still shown.
    pub(super) fn advance(&mut self, next: Status) -> Vec<Status> {
        let last = self.0.last().copied();
        let added = match (last, next) {
            (Some(last), next) if last == next => Vec::new(),
            (Some(Status::Pending), Status::Running) => vec![Status::Deploying, Status::Running],
            _ => vec![next],
        };
        self.0.extend(&added);
        added
    }
}

impl std::fmt::Display for Path {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (index, status) in self.0.iter().enumerate() {
            let arrow = if index == 0 { "" } else { ARROW };
            write!(f, "{arrow}{status}")?;
        }
        Ok(())
    }
}

pub(super) const ARROW: &str = " → ";

/// Whether the deploy has ended, and how.
pub(super) fn outcome(answer: &StatusAnswer) -> Option<Outcome> {
    let failed = |failure: &Failure| Outcome::Failed {
        cause: failure.cause.clone(),
        fix: Some(failure.fix.clone()).filter(|fix| !fix.is_empty()),
    };
    let ended = |cause: &str| {
        let why = answer.failure.as_ref().or(answer.waiting.as_ref());
        why.map_or_else(|| Outcome::Failed { cause: cause.to_owned(), fix: None }, failed)
    };
    match (answer.status, &answer.failure) {
        (Status::Pending | Status::Deploying, _) => None,
        (Status::Running, Some(failure)) => Some(failed(failure)),
        (Status::Running, None) => Some(Outcome::Live { warning: answer.warning.clone() }),
        (Status::Stopped, _) => Some(ended("it was stopped")),
        (Status::Destroyed, _) => Some(ended("it was destroyed")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: Status, failure: Option<Failure>) -> StatusAnswer {
        StatusAnswer {
            id: String::new(),
            status,
            subdomain: String::new(),
            health_status: None,
            last_health_check: None,
            last_error: None,
            failure,
            warning: None,
            waiting: None,
            restarts: 0,
            progress: None,
        }
    }

    #[test]
    fn prints_the_documented_transitions() {
        let mut path = Path::new(Status::Pending);
        assert_eq!(path.advance(Status::Pending), []);
        assert_eq!(path.advance(Status::Running), [Status::Deploying, Status::Running]);
        assert_eq!(path.to_string(), "pending → deploying → running");
        let mut path = Path::new(Status::Deploying);
        path.advance(Status::Stopped);
        assert_eq!(path.to_string(), "deploying → stopped");
    }

    #[test]
    fn every_final_status_has_an_outcome() {
        let outcome = |status, failure| outcome(&answer(status, failure));
        assert_eq!(outcome(Status::Pending, None), None);
        assert_eq!(outcome(Status::Deploying, None), None);
        assert_eq!(outcome(Status::Running, None), Some(Outcome::Live { warning: None }));
        let why = || {
            let (code, cause, fix) = ("image_not_found", "no such image", "push it");
            Some(Failure { code: code.into(), cause: cause.into(), fix: fix.into() })
        };
        let failed =
            || Some(Outcome::Failed { cause: "no such image".into(), fix: Some("push it".into()) });
        assert_eq!(outcome(Status::Running, why()), failed());
        assert_eq!(outcome(Status::Stopped, why()), failed());
        let destroyed = Outcome::Failed { cause: "it was destroyed".to_owned(), fix: None };
        assert_eq!(outcome(Status::Destroyed, None), Some(destroyed));
    }

    #[test]
    fn a_warning_is_not_a_failure_and_a_suspension_is_explained() {
        let some = |cause: &str| {
            Some(Failure { code: "x".into(), cause: cause.into(), fix: "do it".into() })
        };
        let late = StatusAnswer { warning: some("late"), ..answer(Status::Running, None) };
        assert_eq!(outcome(&late), Some(Outcome::Live { warning: some("late") }));
        let suspended =
            StatusAnswer { waiting: some("suspended"), ..answer(Status::Stopped, None) };
        let Some(Outcome::Failed { cause, fix }) = outcome(&suspended) else { panic!() };
        assert_eq!((cause.as_str(), fix.as_deref()), ("suspended", Some("do it")));
    }
}
