//! Visitors, and what Caddy logs of those that it could not serve.

use std::sync::Arc;
use std::time::Duration;

use buddo_agent::model::failed_requests::FailedRequests;
use buddo_agent::model::live_table::Target;
use buddo_shared::host_wire::manifest::RunState;
use tokio::time::{Instant, sleep};

use crate::clock::true_time;
use crate::invariants::TRY_DURATION;
use crate::story::app::App;
use crate::world::{State, World};

/// How a visitor is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    Fine,
    /// A server error of the app.
    Error,
    /// Nothing: Caddy tries again.
    Nothing,
}

impl World {
    /// One visitor comes to each app.
    pub(crate) fn visit(self: &Arc<Self>) {
        let elapsed = self.begun.elapsed();
        let turned_away: Vec<String> = self.with(|state| {
            let wanted = state.books.documents.wanted.values();
            let names: Vec<String> = wanted
                .filter(|desired| desired.run == RunState::Running)
                .map(|desired| desired.subdomain.to_string())
                .collect();
            let began = true_time(elapsed, state.clock_offset);
            for name in &names {
                if state.answer(name) == Answer::Error {
                    state.log_error(name, began);
                }
            }
            names.into_iter().filter(|name| state.answer(name) == Answer::Nothing).collect()
        });
        if turned_away.is_empty() {
            return;
        }
        let world = Arc::clone(self);
        tokio::spawn(async move {
            sleep(TRY_DURATION).await;
            world.with(|state| {
                let began = true_time(elapsed, state.clock_offset);
                for name in turned_away {
                    if state.answer(&name) == Answer::Nothing {
                        state.log_error(&name, began);
                    }
                }
            });
        });
    }
}

impl State {
    fn answer(&self, subdomain: &str) -> Answer {
        let now = Instant::now();
        let addresses = match self.edge.table.apps.get(subdomain) {
            Some(Target::Live { addresses }) => addresses,
            Some(Target::Hold) => return Answer::Nothing,
            Some(Target::Stopped | Target::Suspended) | None => return Answer::Fine,
        };
        let mut containers = self.engine.containers.values();
        let there = containers.find(|c| addresses.contains(c.address.ip()) && c.answers(now));
        match there.map(|c| c.identity.map(|i| self.app_of(i))) {
            None => Answer::Nothing,
            Some(Some(App::Fails)) => Answer::Error,
            Some(_) => Answer::Fine,
        }
    }

    fn log_error(&mut self, subdomain: &str, began: jiff::Timestamp) {
        let log = &mut self.edge.errors;
        log.known_since.get_or_insert(true_time(Duration::ZERO, 0));
        log.add(format!("{subdomain}.apps.example"), began);
        log.forget(began);
    }

    /// Caddy's log.
    pub(crate) fn failed_requests(&self) -> FailedRequests {
        let known_since = self.edge.errors.known_since.or(Some(true_time(Duration::ZERO, 0)));
        FailedRequests { known_since, ..self.edge.errors.clone() }
    }
}
