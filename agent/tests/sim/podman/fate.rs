//! The outcome of one call: carried out, refused, late, twice, never, or not answered.

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use buddo_agent::ports::ContainersError;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, timeout};

use super::{Life, short};
use crate::world::{State, World};

/// The outcome of one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Fine,
    Refused,
    Away,
    AnswerLost,
    NeverDone,
    DoneLate(Duration),
    KilledBefore,
    KilledAfter,
}

impl State {
    fn fate(&mut self, life: u32, about: &str, deadline: Duration) -> Option<(Fate, Duration)> {
        if !self.alive || self.life != life {
            return None;
        }
        self.calls += 1;
        self.engine.lists += u64::from(about == "list");
        self.engine.looks += u64::from(about == "list" || about.starts_with("inspect "));
        if let Some((left, last_has_effect)) = &mut self.calls_left {
            *left = left.saturating_sub(1);
            if *left == 0 {
                let after = *last_has_effect;
                self.calls_left = None;
                let fate = if after { Fate::KilledAfter } else { Fate::KilledBefore };
                return Some((fate, Duration::from_millis(1)));
            }
        }
        let (swarm, rng) = (self.swarm, &mut self.rng);
        let latency = rng.ms(1, swarm.slow.max(1));
        let fate = if self.engine.away_until.is_some_and(|until| Instant::now() < until) {
            Fate::Away
        } else if rng.per_mille(swarm.kill_before) {
            Fate::KilledBefore
        } else if rng.per_mille(swarm.kill_after) {
            Fate::KilledAfter
        } else if rng.per_mille(swarm.lose_answer) {
            Fate::AnswerLost
        } else if rng.per_mille(swarm.hang) {
            if rng.per_mille(500) {
                Fate::NeverDone
            } else {
                let after = deadline.mul_f64(rng.unit() * 1.5);
                self.late_until = self.late_until.max(Some(Instant::now() + after));
                Fate::DoneLate(after)
            }
        } else if rng.per_mille(swarm.refuse) {
            Fate::Refused
        } else if rng.per_mille(swarm.away) {
            Fate::Away
        } else {
            Fate::Fine
        };
        if fate != Fate::Fine {
            self.hurt_all();
            self.auto_rollbacks.trouble(Instant::now());
            self.say(|| format!("  {about}: {fate:?}"));
        }
        Some((fate, latency))
    }
}

pub(super) fn refused(operation: &'static str, message: &str) -> ContainersError {
    ContainersError::Refused { operation, status: 500, message: message.to_owned() }
}

pub(super) fn unavailable(operation: &'static str) -> ContainersError {
    ContainersError::Unavailable { operation, source: "no answer".into() }
}

impl Life {
    pub(super) async fn call<T: Send + 'static>(
        &self,
        operation: &'static str,
        name: &str,
        deadline: Duration,
        effect: impl FnOnce(&mut State, &Arc<World>, bool) -> Result<T, ContainersError>
        + Send
        + 'static,
    ) -> Result<T, ContainersError> {
        let about = if name.is_empty() {
            operation.to_owned()
        } else {
            format!("{operation} {}", short(name))
        };
        let drawn = self.world.with(|state| state.fate(self.number, &about, deadline));
        let Some((fate, latency)) = drawn else { return pending().await };
        match fate {
            Fate::KilledBefore => {
                self.world.act(State::kill);
                return pending().await;
            }
            Fate::Away => {
                sleep(Duration::from_millis(1)).await;
                return self.back(Err(unavailable(operation))).await;
            }
            Fate::Refused => {
                sleep(latency).await;
                return self.back(Err(refused(operation, "it does not want to"))).await;
            }
            _ => {}
        }
        let (answer, answered) = oneshot::channel();
        let world = Arc::clone(&self.world);
        let issued = Instant::now();
        tokio::spawn(async move {
            sleep(latency / 2).await;
            match fate {
                Fate::NeverDone => return sleep(deadline * 2).await,
                Fate::DoneLate(after) => sleep(after).await,
                _ => {}
            }
            while let Some(until) = world.with(|state| state.engine.hung_until) {
                tokio::time::sleep_until(until).await;
                world.with(|state| {
                    state.engine.hung_until =
                        state.engine.hung_until.filter(|until| *until > Instant::now());
                });
            }
            // A late call meets a world that its sender did not know.
            let late = issued.elapsed() > latency + Duration::from_millis(5);
            let result = world.act(|state| {
                state.say(|| format!("  {about}{}", if late { " (late)" } else { "" }));
                let result = effect(state, &world, late);
                if fate == Fate::KilledAfter {
                    state.kill();
                }
                result
            });
            sleep(latency / 2).await;
            if fate != Fate::AnswerLost {
                let _ = answer.send(result);
            }
        });
        let result = match timeout(deadline, answered).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) | Err(_) => Err(unavailable(operation)),
        };
        self.back(result).await
    }

    /// An answer reaches only a living agent.
    pub(super) async fn back<T>(&self, result: T) -> T {
        if self.world.is_alive(self.number) { result } else { pending().await }
    }
}
