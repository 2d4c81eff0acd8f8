//! The states of a deployment and every legal transition, in one table.

use serde::{Deserialize, Serialize};

/// The five published states. There is no sixth: a deployment whose deploy failed is stopped, or
/// still running on its old revision.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Created, container not yet provisioned.
    Pending,
    /// Image is being pulled and started.
    Deploying,
    /// Live and passing health checks.
    Running,
    /// Stopped, by its operator or by the platform.
    Stopped,
    Destroyed,
}

impl Status {
    /// The word in the database and in refusals.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Deploying => "deploying",
            Self::Running => "running",
            Self::Stopped => "stopped",
            Self::Destroyed => "destroyed",
        }
    }

    /// Whether a deploy is in progress: neither live nor failed yet.
    pub const fn is_under_way(self) -> bool {
        matches!(self, Self::Pending | Self::Deploying)
    }
}

impl std::fmt::Display for Status {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

impl std::str::FromStr for Status {
    type Err = UnknownStatus;

    fn from_str(text: &str) -> Result<Self, UnknownStatus> {
        [Pending, Deploying, Running, Stopped, Destroyed]
            .into_iter()
            .find(|status| status.as_str() == text)
            .ok_or(UnknownStatus)
    }
}

/// A text that is not a [`Status`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is not a deployment status")]
pub struct UnknownStatus;

/// The status of one deployment. Only [`apply`](Self::apply) changes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lifecycle(Status);

impl Lifecycle {
    /// A deployment that is being created.
    pub const NEW: Self = Self(Pending);

    /// As stored; for the store only.
    pub const fn stored(status: Status) -> Self {
        Self(status)
    }

    pub const fn status(self) -> Status {
        self.0
    }

    /// Applies `event`; one that is illegal in this state changes nothing.
    pub fn apply(&mut self, event: Event) -> Result<(), IllegalMove> {
        self.0 = next(self.0, event)?;
        Ok(())
    }
}

/// What moves a deployment to another state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// Its host is bringing it up.
    Progressed,
    /// Its host reports that it answers visitors.
    Live,
    /// Its host gave up, and nothing serves.
    GaveUp,
    /// Its operator requested a restart.
    Restart,
    /// Its operator requested an earlier revision.
    Rollback,
    /// Its operator requested a stop.
    Stop,
    /// Its operator destroyed it.
    Destroy,
    /// An administrator moved it to another host.
    Move,
    /// The platform parked it because its account was suspended.
    Suspend,
    /// The platform undid that.
    Reactivate,
}

use Event::{
    Destroy, GaveUp, Live, Move, Progressed, Reactivate, Restart, Rollback, Stop, Suspend,
};
use Status::{Deploying, Destroyed, Pending, Running, Stopped};

/// The operator's events, in the order in which a refusal lists them.
const REQUESTS: [Event; 4] = [Restart, Rollback, Stop, Destroy];

/// `(from, event, to)`; anything not listed is illegal.
const MOVES: &[(Status, Event, Status)] = &[
    // A deploy proceeds. `Live` may come first: reports in between may be merged.
    (Pending, Progressed, Deploying),
    (Pending, Live, Running),
    (Deploying, Progressed, Deploying),
    (Deploying, Live, Running),
    (Running, Live, Running),
    // The serving container ended and is being restarted: that concerns only its health.
    (Running, Progressed, Running),
    // Nothing serves, and nothing will until its operator acts.
    (Pending, GaveUp, Stopped),
    (Deploying, GaveUp, Stopped),
    (Running, GaveUp, Stopped),
    // A restart supersedes a deploy in progress, for instance with a fixed image.
    (Pending, Restart, Deploying),
    (Deploying, Restart, Deploying),
    (Running, Restart, Deploying),
    (Stopped, Restart, Deploying),
    // Not while a deploy is in progress: the previous revision serves until it has ended, and which
    // revision `back` starts from is undecided.
    (Running, Rollback, Deploying),
    (Stopped, Rollback, Deploying),
    // In any state, it starts over on another host.
    (Pending, Move, Deploying),
    (Deploying, Move, Deploying),
    (Running, Move, Deploying),
    (Pending, Stop, Stopped),
    (Deploying, Stop, Stopped),
    (Running, Stop, Stopped),
    // The published pages have no state for this: stopped 'by the platform'.
    (Pending, Suspend, Stopped),
    (Deploying, Suspend, Stopped),
    (Running, Suspend, Stopped),
    // What ran is started again; callers skip what its operator had stopped.
    (Stopped, Reactivate, Deploying),
    (Pending, Destroy, Destroyed),
    (Deploying, Destroy, Destroyed),
    (Running, Destroy, Destroyed),
    (Stopped, Destroy, Destroyed),
];

impl Event {
    fn as_str(self) -> &'static str {
        match self {
            Progressed => "progress",
            Live => "going live",
            GaveUp => "failure",
            Restart => "restart",
            Rollback => "rollback",
            Stop => "stop",
            Destroy => "destroy",
            Move => "move",
            Suspend => "suspension",
            Reactivate => "reactivation",
        }
    }
}

/// A transition that is not in the table.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the deployment is {from}, so {event} is not possible; {}", possible(*from))]
pub struct IllegalMove {
    pub from: Status,
    pub event: &'static str,
}

/// The state after `event`.
fn next(from: Status, event: Event) -> Result<Status, IllegalMove> {
    MOVES
        .iter()
        .find(|(state, moved_by, _)| *state == from && *moved_by == event)
        .map(|(_, _, to)| *to)
        .ok_or(IllegalMove { from, event: event.as_str() })
}

/// What an operator can do in this state.
fn possible(from: Status) -> String {
    let events: Vec<&str> = REQUESTS
        .into_iter()
        .filter(|event| next(from, *event).is_ok())
        .map(Event::as_str)
        .collect();
    if events.is_empty() {
        "create a new deployment, its subdomain is free".to_owned()
    } else {
        format!("possible: {}", events.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use super::*;

    const STATES: [Status; 5] = [Pending, Deploying, Running, Stopped, Destroyed];
    const EVENTS: [Event; 10] =
        [Progressed, Live, GaveUp, Restart, Rollback, Stop, Destroy, Move, Suspend, Reactivate];

    #[test]
    fn the_transitions_match_the_snapshot() {
        let mut table = String::new();
        for from in STATES {
            for event in EVENTS {
                if let Ok(to) = next(from, event) {
                    writeln!(table, "{from} + {} = {to}", event.as_str()).unwrap();
                }
            }
        }
        insta::assert_snapshot!(table, @r"
        pending + progress = deploying
        pending + going live = running
        pending + failure = stopped
        pending + restart = deploying
        pending + stop = stopped
        pending + destroy = destroyed
        pending + move = deploying
        pending + suspension = stopped
        deploying + progress = deploying
        deploying + going live = running
        deploying + failure = stopped
        deploying + restart = deploying
        deploying + stop = stopped
        deploying + destroy = destroyed
        deploying + move = deploying
        deploying + suspension = stopped
        running + progress = running
        running + going live = running
        running + failure = stopped
        running + restart = deploying
        running + rollback = deploying
        running + stop = stopped
        running + destroy = destroyed
        running + move = deploying
        running + suspension = stopped
        stopped + restart = deploying
        stopped + rollback = deploying
        stopped + destroy = destroyed
        stopped + reactivation = deploying
        ");
    }

    #[test]
    fn every_transition_is_listed_once() {
        for (index, (from, event, _)) in MOVES.iter().enumerate() {
            let again = |(f, e, _): &(Status, Event, Status)| f == from && e == event;
            assert!(!MOVES[index + 1..].iter().any(again), "{from} {event:?}");
        }
    }

    #[test]
    fn a_refusal_lists_the_possible_actions() {
        assert_eq!(
            next(Stopped, Stop).unwrap_err().to_string(),
            "the deployment is stopped, so stop is not possible; possible: restart, rollback, \
             destroy"
        );
        assert_eq!(
            next(Destroyed, Restart).unwrap_err().to_string(),
            "the deployment is destroyed, so restart is not possible; create a new \
             deployment, its subdomain is free"
        );
    }
}
