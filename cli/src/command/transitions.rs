//! The way of a deployment's status while someone watches. Pure.

use buddo_shared::api::deploy::{Status, StatusAnswer};

/// How it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The new version answers visitors.
    Live,
    /// Something answers visitors and something is wrong: whether it is the new version with a
    /// warning, or the old one because the new one failed, the status alone does not tell.
    Serves {
        /// What is wrong, in one line.
        cause: String,
        /// What to do, one line each.
        fix: Vec<String>,
    },
    /// The new version did not become live.
    Failed {
        /// Why, in one line.
        cause: String,
        /// What to do, one line each.
        fix: Vec<String>,
    },
}

/// The statuses seen so far, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Path(Vec<Status>);

impl Path {
    /// Begins with the status that the API answered with.
    pub(super) fn new(first: Status) -> Self {
        Self(vec![first])
    }

    /// Takes a status and returns those that it adds: none if it is the last one. From `pending`
    /// there is no way to `running` but through `deploying`, so a pass too quick to be seen is
    /// shown all the same.
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

/// Between two statuses.
pub(super) const ARROW: &str = " → ";

/// Cause and what to do, as the API sends them: one line each.
pub(super) fn lines(text: &str) -> (String, Vec<String>) {
    let mut lines = text.lines().map(str::to_owned);
    (lines.next().unwrap_or_default(), lines.collect())
}

/// Whether the deploy has ended, and how.
pub(super) fn outcome(answer: &StatusAnswer) -> Option<Outcome> {
    let last_error = answer.last_error.as_deref().filter(|text| !text.is_empty());
    let failed = |otherwise: &str| {
        let (cause, fix) = lines(last_error.unwrap_or(otherwise));
        Some(Outcome::Failed { cause, fix })
    };
    match answer.status {
        Status::Pending | Status::Deploying => None,
        Status::Running => Some(last_error.map_or(Outcome::Live, |text| {
            let (cause, fix) = lines(text);
            Outcome::Serves { cause, fix }
        })),
        Status::Stopped => failed("it was stopped"),
        Status::Destroyed => failed("it was destroyed"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: Status, last_error: Option<&str>) -> StatusAnswer {
        StatusAnswer {
            id: String::new(),
            status,
            subdomain: String::new(),
            health_status: None,
            last_health_check: None,
            last_error: last_error.map(str::to_owned),
            warning: None,
            restarts: 0,
            progress: None,
        }
    }

    #[test]
    fn the_published_line() {
        let mut path = Path::new(Status::Pending);
        assert_eq!(path.advance(Status::Pending), []);
        assert_eq!(path.advance(Status::Running), [Status::Deploying, Status::Running]);
        assert_eq!(path.to_string(), "pending → deploying → running");
        let mut path = Path::new(Status::Deploying);
        path.advance(Status::Stopped);
        assert_eq!(path.to_string(), "deploying → stopped");
    }

    #[test]
    fn each_end_is_known() {
        assert_eq!(outcome(&answer(Status::Pending, None)), None);
        assert_eq!(outcome(&answer(Status::Deploying, None)), None);
        assert_eq!(outcome(&answer(Status::Running, None)), Some(Outcome::Live));
        let why = Some("no such image\npush it");
        let failed =
            Outcome::Failed { cause: "no such image".to_owned(), fix: vec!["push it".to_owned()] };
        let serves =
            Outcome::Serves { cause: "no such image".to_owned(), fix: vec!["push it".to_owned()] };
        assert_eq!(outcome(&answer(Status::Running, why)), Some(serves));
        assert_eq!(outcome(&answer(Status::Stopped, why)), Some(failed));
        let destroyed = Outcome::Failed { cause: "it was destroyed".to_owned(), fix: vec![] };
        assert_eq!(outcome(&answer(Status::Destroyed, None)), Some(destroyed));
    }
}
