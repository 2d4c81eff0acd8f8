//! The faults around the agent, and their ends.

use std::collections::BTreeMap;
use std::sync::Arc;

use buddo_agent::model::container::{ContainerState, Identity, KILLED};
use tokio::time::Instant;

use crate::caddy::File;
use crate::clock::{BEGIN, YEAR};
use crate::disk::Database;
use crate::faults::{Fault, Swarm};
use crate::podman::Boxed;
use crate::run::Run;
use crate::story::app::App;
use crate::world::State;

impl Run {
    fn heals_in(&mut self, fault: Fault, low: u64, high: u64) -> Instant {
        let at = Instant::now() + self.rng.ms(low, high);
        self.healings.push((at, fault));
        at
    }

    fn any_container(&mut self) -> Option<(String, Boxed)> {
        let running: Vec<_> = self.world.with(|state| {
            let all = state.engine.containers.iter();
            let ours =
                all.filter(|(_, c)| c.identity.is_some() && c.state == ContainerState::Running);
            ours.map(|(name, c)| (name.clone(), c.clone())).collect()
        });
        self.rng.pick(&running)
    }

    /// Something goes wrong.
    pub(crate) fn befall(&mut self, fault: Fault) {
        let limits_come_and_go = self.limits_come_and_go;
        self.world.with(|state| {
            state.say(|| format!("fault: {fault:?}"));
            state.engine.unlimited ^= limits_come_and_go;
        });
        let world = Arc::clone(&self.world);
        match fault {
            Fault::Kill => world.act(State::kill),
            Fault::LoseDatabase => {
                self.database = Database::in_memory();
                world.act(|state| {
                    state.kill();
                    state.amnesia = true;
                    state.ever_lost = true;
                    state.auto_rollbacks.forget();
                    state.books.acked = 0;
                });
            }
            Fault::Reboot => world.act(|state| {
                state.kill();
                state.excuse_all("the host reboots");
                state.hurt_all();
                for container in state.engine.containers.values_mut() {
                    container.state = ContainerState::Created;
                    container.stuck = false;
                    container.hurt = true;
                }
                state.engine.orphans.clear();
                state.edge.left.clear();
            }),
            Fault::Crash | Fault::KillContainer => {
                let code = if fault == Fault::Crash { 1 } else { KILLED };
                if let Some((name, _)) = self.any_container() {
                    world.act(|state| {
                        let found = state.engine.containers.get(&name);
                        let identity = found.and_then(|c| c.identity);
                        state.bear(identity, |toll| {
                            toll.ends += 1;
                            toll.kills += u32::from(code == KILLED);
                        });
                        state.end(&world, &name, code);
                    });
                }
            }
            Fault::Sicken => {
                let lasts = self.rng.ms(100, 40_000);
                if let Some((name, found)) = self.any_container() {
                    world.act(|state| {
                        state.bear(found.identity, |toll| {
                            toll.ends += 1;
                            toll.sick += lasts;
                        });
                        state.sicken(&name, Instant::now() + lasts);
                    });
                }
            }
            Fault::Stick => {
                if let Some((name, found)) = self.any_container() {
                    world.act(|state| {
                        state.blame(found.identity);
                        state.bear(found.identity, |toll| toll.ends += 1);
                        if let Some(container) = state.engine.containers.get_mut(&name) {
                            container.state = ContainerState::Stopping;
                            container.stuck = true;
                            container.hurt = true;
                        }
                        state.event(&world, &name);
                    });
                }
            }
            _ => self.befall_service(fault),
        }
    }

    /// Something goes wrong with Podman, Caddy, a disk, a clock or the network.
    fn befall_service(&mut self, fault: Fault) {
        let world = Arc::clone(&self.world);
        match fault {
            Fault::LoseContainers => {
                let survive = self.rng.per_mille(500);
                world.act(|state| {
                    state.excuse_all("Podman lost all containers");
                    state.hurt_all();
                    let (ours, others): (BTreeMap<_, _>, _) =
                        std::mem::take(&mut state.engine.containers)
                            .into_iter()
                            .partition(|(_, c)| c.identity.is_some());
                    state.engine.containers = others;
                    let running = |c: &Boxed| c.state == ContainerState::Running;
                    let lost = ours.into_iter().filter(|(_, c)| running(c) && survive);
                    state.engine.orphans.extend(lost.map(|(name, c)| (name, Some(c.address))));
                    state.edge.left.clear();
                });
            }
            Fault::TearSecrets => world.with(|state| state.engine.tears = true),
            Fault::HangPodman => {
                let until = self.heals_in(fault, 500, 40_000);
                world.act(|state| {
                    state.hurt_all();
                    state.auto_rollbacks.trouble(until);
                    state.engine.hung_until = Some(until);
                });
            }
            Fault::RestartPodman => {
                let until = self.heals_in(fault, 100, 8_000);
                world.act(|state| {
                    state.hurt_all();
                    state.auto_rollbacks.trouble(until);
                    state.engine.away_until = Some(until);
                    if let Some(feed) = &state.feed {
                        feed.healthy.send_replace(false);
                    }
                });
            }
            Fault::HangEvents => world.with(|state| state.deaf = true),
            Fault::Foreign => world.act(|state| {
                let container = Boxed {
                    identity: None,
                    address: "127.0.0.1:5432".parse().expect("valid"),
                    state: ContainerState::Running,
                    starts: 1,
                    answers: None,
                    sick_until: None,
                    hurt: false,
                    stuck: false,
                    oom: false,
                    exposed_by: None,
                    sick_unwritten: false,
                    reads: Vec::new(),
                    made: u64::MAX,
                    started_by: None,
                    unlimited: false,
                };
                state.engine.containers.insert("postgres".to_owned(), container);
                state.engine.secrets.insert("postgres-password".to_owned(), "x".to_owned());
            }),
            Fault::StopCaddy => {
                let until = self.heals_in(fault, 500, 20_000);
                world.act(|state| state.edge.away_until = Some(until));
            }
            Fault::TearTable => {
                let file = if self.rng.per_mille(500) { File::Torn } else { File::Missing };
                world.act(|state| {
                    state.edge.file = file;
                    state.edge.stamp += 1;
                });
            }
            Fault::FillDisk => {
                self.heals_in(fault, 500, 20_000);
                world.act(|state| {
                    state.disk_full = true;
                    state.auto_rollbacks.disk_failed = true;
                });
            }
            Fault::Jump => {
                let offset = self.rng.pick(&[YEAR, -YEAR, -BEGIN, 0]).unwrap_or_default();
                world.act(|state| {
                    state.clock_offset = offset;
                    state.auto_rollbacks.clock_jumped = true;
                });
            }
            Fault::Starve => {
                let until = self.heals_in(fault, 5_000, 60_000);
                world.act(|state| state.starved_until = Some(until));
            }
            Fault::Partition => {
                let until = self.heals_in(fault, 1_000, 30_000);
                world.act(|state| state.books.away_until = Some(until));
            }
            _ => unreachable!("befall knows the others"),
        }
    }

    pub(crate) fn heal(&mut self, fault: Fault) {
        let world = Arc::clone(&self.world);
        world.act(|state| {
            state.say(|| format!("over: {fault:?}"));
            match fault {
                Fault::FillDisk => state.disk_full = false,
                Fault::RestartPodman => {
                    if let Some(feed) = &state.feed {
                        feed.healthy.send_replace(true);
                        feed.hints.send_modify(|hints| *hints += 1);
                    }
                }
                _ => {}
            }
        });
    }

    /// Ends all faults except apps that turn bad by themselves.
    pub(crate) fn peace(&mut self) {
        let faults: Vec<Fault> = self.healings.drain(..).map(|(_, fault)| fault).collect();
        for fault in faults {
            self.heal(fault);
        }
        self.world.act(|state| {
            state.say(|| "peace".to_owned());
            let now = Instant::now();
            state.swarm = Swarm::none();
            state.clock_offset = 0;
            (state.deaf, state.engine.tears, state.engine.unlimited) = (false, false, false);
            state.calls_left = None;
            (state.engine.hung_until, state.engine.away_until) = (None, None);
            state.starved_until = None;
            (state.edge.away_until, state.books.away_until) = (None, None);
            state.cure(now, |app| !app.turns_bad());
        });
        self.sign();
    }

    /// Makes apps that turned bad good from now on.
    pub(crate) fn recover(&mut self) {
        self.world.act(|state| {
            state.say(|| "apps recover".to_owned());
            state.recovered = true;
            state.cure(Instant::now(), |_| true);
        });
    }
}

impl State {
    /// Makes running containers of this kind of app that do not answer answer again.
    fn cure(&mut self, now: Instant, kind: impl Fn(App) -> bool) {
        let sick = |state: &Self, identity: Option<Identity>| {
            identity.is_none_or(|i| kind(state.app_of(i)))
        };
        let names: Vec<String> = self
            .engine
            .containers
            .iter()
            .filter(|(_, c)| c.sick_until.is_some_and(|until| until > now))
            .filter(|(_, c)| sick(self, c.identity))
            .map(|(name, _)| name.clone())
            .collect();
        for name in names {
            if let Some(container) = self.engine.containers.get_mut(&name) {
                container.sick_until = Some(now);
            }
        }
    }
}
