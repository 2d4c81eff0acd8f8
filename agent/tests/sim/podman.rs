//! Podman: containers, images, secrets, events, and everything that goes wrong with them.
//!
//! A request that was sent is carried out by Podman, whatever becomes of the agent that sent it:
//! so effects run in tasks of the machine, and a killed or impatient agent only misses the answer.

use std::collections::{BTreeMap, BTreeSet};
use std::future::pending;
use std::net::SocketAddrV4;
use std::sync::Arc;
use std::time::Duration;

use buddo_agent::ports::{
    Container, ContainerSpec, ContainerState, Containers, ContainersError, Created, Ending,
    Identity, ProbeOutcome, Prober,
};
use buddo_agent::step::secret_owner;
use buddo_shared::id::{DeploymentId, Revision};
use buddo_shared::image::{Digest, ImageReference};
use buddo_shared::manifest::RegistryCredentials;
use buddo_shared::probe::Probe;
use buddo_shared::report::Failure;
use buddo_shared::secret::Secret;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, timeout};

use crate::world::{App, GRACE, Registry, State, World};

/// A container as Podman has it.
#[derive(Debug, Clone)]
pub(crate) struct Boxed {
    /// What its labels say; `None` for a foreign one.
    pub(crate) identity: Option<Identity>,
    /// Where it is published.
    pub(crate) address: SocketAddrV4,
    /// Whether it runs.
    pub(crate) state: ContainerState,
    /// How often it was started.
    pub(crate) starts: u32,
    /// Since when it answers or will; `None`: never in this run.
    pub(crate) answers: Option<Instant>,
    /// Answers nothing until then.
    pub(crate) sick_until: Option<Instant>,
    /// Something else than the agent ended it or made it sick.
    pub(crate) hurt: bool,
    /// It hangs on its way out until it is removed by force.
    pub(crate) stuck: bool,
}

impl Boxed {
    /// Whether a visitor gets an answer from it.
    pub(crate) fn answers(&self, now: Instant) -> bool {
        matches!(self.state, ContainerState::Running)
            && self.answers.is_some_and(|from| from <= now)
            && self.sick_until.is_none_or(|until| until <= now)
    }
}

/// Podman's own state.
#[derive(Debug, Default)]
pub(crate) struct Engine {
    /// Containers by name.
    pub(crate) containers: BTreeMap<String, Boxed>,
    /// Secrets by name.
    pub(crate) secrets: BTreeMap<String, String>,
    /// Secrets that were stored later than their sender could know.
    pub(crate) strays: BTreeSet<String>,
    /// Images that are here.
    pub(crate) images: BTreeSet<String>,
    /// The service carries out nothing until then.
    pub(crate) hung_until: Option<Instant>,
    /// The service is away until then.
    pub(crate) away_until: Option<Instant>,
    /// How often containers were listed.
    pub(crate) lists: u64,
}

/// What becomes of one call.
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

/// The tag of a revision's own image.
pub(crate) fn tag_of((id, revision): (DeploymentId, Revision)) -> String {
    format!("{}r{revision}", id.as_uuid().as_u128())
}

/// The bytes that an image's tag means.
pub(crate) fn digest_of_tag(tag: &str) -> Digest {
    let hash = tag.bytes().fold(7_u64, |hash, byte| hash.wrapping_mul(31) ^ u64::from(byte));
    Digest::parse(&format!("sha256:{hash:064x}")).expect("64 hex digits")
}

impl State {
    fn fate(&mut self, life: u32, about: &str, deadline: Duration) -> Option<(Fate, Duration)> {
        if !self.alive || self.life != life {
            return None;
        }
        self.calls += 1;
        self.engine.lists += u64::from(about == "list");
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
            self.say(|| format!("  {about}: {fate:?}"));
        }
        Some((fate, latency))
    }

    /// Podman tells of a change, if it does.
    pub(crate) fn event(&mut self, world: &Arc<World>) {
        let lost = self.rng.per_mille(self.swarm.lose_event);
        let times = 1 + u32::from(self.rng.per_mille(self.swarm.repeat_event));
        if lost || self.deaf {
            return;
        }
        for _ in 0..times {
            let delay = self.rng.ms(1, 20);
            let world = Arc::clone(world);
            tokio::spawn(async move {
                sleep(delay).await;
                world.with(|state| {
                    if let Some(feed) = state.feed.as_ref().filter(|_| !state.deaf) {
                        feed.lines.send_modify(|lines| *lines += 1);
                        feed.hints.send_modify(|hints| *hints += 1);
                    }
                });
            });
        }
    }

    /// A container ends, not by the agent's will.
    pub(crate) fn end(&mut self, world: &Arc<World>, name: &str, code: i32) {
        let Some(found) = self.engine.containers.get_mut(name) else { return };
        if found.state != ContainerState::Running {
            return;
        }
        found.state = ContainerState::Exited(code);
        found.hurt = true;
        let identity = found.identity;
        self.say(|| format!("{} ends with code {code}", short(name)));
        self.blame(identity);
        self.event(world);
    }

    /// Trouble with a container that is not the agent's fault.
    pub(crate) fn blame(&mut self, identity: Option<Identity>) {
        let Some(Identity { deployment, revision, .. }) = identity else { return };
        self.hurt.insert((deployment, revision));
        self.excuse(deployment, "a fault of its container");
    }

    fn create(
        &mut self,
        world: &Arc<World>,
        spec: &ContainerSpec,
        late: bool,
    ) -> Result<Created, ContainersError> {
        if let Some(found) = self.engine.containers.get(&spec.name) {
            let same = found.address == spec.address && found.identity == Some(spec.identity);
            if !same {
                self.violate(format!("{} exists and is another one", short(&spec.name)));
            }
            return Ok(Created::Existed);
        }
        if !self.engine.images.contains(&spec.image.to_string()) {
            return Err(ContainersError::NotFound(spec.image.to_string()));
        }
        let stored = |name: &String| self.engine.secrets.get(name);
        let expected = format!("v{}", spec.identity.revision);
        if spec.secret_env.values().any(|name| stored(name).is_none()) {
            return Err(refused("create a container", "no such secret"));
        }
        if spec.secret_env.values().any(|name| stored(name) != Some(&expected)) {
            self.violate(format!("{} gets another revision's secrets", short(&spec.name)));
        }
        let other = self.engine.containers.iter().find(|(_, c)| {
            c.address == spec.address
                && c.identity.is_some_and(|i| i.deployment != spec.identity.deployment)
        });
        if let Some((other, _)) = other.filter(|_| !late) {
            let words = format!("{} and {} share an address", short(&spec.name), short(other));
            self.violate(words);
        }
        let container = Boxed {
            identity: Some(spec.identity),
            address: spec.address,
            state: ContainerState::Created,
            starts: 0,
            answers: None,
            sick_until: None,
            hurt: false,
            stuck: false,
        };
        self.engine.containers.insert(spec.name.clone(), container);
        self.event(world);
        Ok(Created::New)
    }

    fn start(&mut self, world: &Arc<World>, name: &str) -> Result<(), ContainersError> {
        let now = Instant::now();
        let Some(found) = self.engine.containers.get(name).cloned() else {
            return Err(ContainersError::NotFound(name.to_owned()));
        };
        match found.state {
            ContainerState::Running => return Ok(()),
            ContainerState::Created | ContainerState::Exited(_) => {}
            ContainerState::Stopping | ContainerState::Broken => {
                return Err(refused("start a container", "container state improper"));
            }
        }
        let occupied = self.engine.containers.iter().any(|(other, c)| {
            *other != name
                && c.address == found.address
                && matches!(c.state, ContainerState::Running | ContainerState::Stopping)
        });
        if occupied {
            self.blame(found.identity);
            return Err(refused("start a container", "address already in use"));
        }
        let app = found.identity.map_or(App::Silent, |i| self.app(i.deployment, i.revision).0);
        let answers = match app {
            App::Good(after) => Some(now + after),
            App::Crashes(_) => Some(now + Duration::from_millis(50)),
            App::Silent | App::Exits(_) => None,
        };
        if let Some(container) = self.engine.containers.get_mut(name) {
            container.state = ContainerState::Running;
            container.starts += 1;
            container.answers = answers;
            container.sick_until = None;
            container.hurt = false;
        }
        if let App::Exits(after) | App::Crashes(after) = app {
            let (world, name, run) = (Arc::clone(world), name.to_owned(), found.starts + 1);
            tokio::spawn(async move {
                sleep(after).await;
                let same = |state: &State| {
                    state.engine.containers.get(&name).is_some_and(|c| c.starts == run)
                };
                let weary = world.with(|state| {
                    let app = found.identity.map(|i| state.app(i.deployment, i.revision).0);
                    same(state) && app.is_some_and(|a| !matches!(a, App::Good(_)))
                });
                if weary {
                    world.act(|state| state.end(&world, &name, 1));
                }
            });
        }
        self.started(name, found.address);
        self.event(world);
        Ok(())
    }

    /// SIGTERM; how long the container takes to end.
    fn begin_stop(&mut self, world: &Arc<World>, name: &str, late: bool) -> Option<Duration> {
        let found = self.engine.containers.get(name).cloned()?;
        if found.stuck && found.state == ContainerState::Stopping {
            return Some(Duration::from_hours(1));
        }
        if found.state != ContainerState::Running {
            return None;
        }
        self.leaves(name, &found, late);
        let takes = self.rng.ms(0, u64::try_from(GRACE.as_millis()).unwrap_or_default());
        if let Some(container) = self.engine.containers.get_mut(name) {
            container.state = ContainerState::Stopping;
        }
        let (ender, name, run) = (Arc::clone(world), name.to_owned(), found.starts);
        tokio::spawn(async move {
            sleep(takes).await;
            ender.act(|state| {
                let container = state.engine.containers.get_mut(&name);
                if let Some(container) = container
                    .filter(|c| c.starts == run && c.state == ContainerState::Stopping && !c.stuck)
                {
                    container.state = ContainerState::Exited(143);
                    state.event(&ender);
                }
            });
        });
        Some(takes)
    }

    fn remove(&mut self, world: &Arc<World>, name: &str, late: bool) {
        let Some(found) = self.engine.containers.get(name).cloned() else { return };
        if found.identity.is_none() {
            self.violate(format!("the foreign container {name} is removed"));
        }
        if found.state == ContainerState::Running {
            self.leaves(name, &found, late);
        }
        self.engine.containers.remove(name);
        self.event(world);
    }
}

fn refused(operation: &'static str, message: &str) -> ContainersError {
    ContainersError::Refused { operation, status: 500, message: message.to_owned() }
}

fn unavailable(operation: &'static str) -> ContainersError {
    ContainersError::Unavailable { operation, source: "no answer".into() }
}

/// A container's name without what all of them share.
pub(crate) fn short(name: &str) -> String {
    name.replace("buddo-00000000-0000-0000-0000-", "c")
}

/// One life of the agent, as Podman sees it.
pub(crate) struct Life {
    /// The machine.
    pub(crate) world: Arc<World>,
    /// Its number.
    pub(crate) number: u32,
}

impl Life {
    async fn call<T: Send + 'static>(
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
            // What comes late comes to a world that its sender did not know.
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

    /// An answer reaches only the one who lives.
    async fn back<T>(&self, result: T) -> T {
        if self.world.is_alive(self.number) { result } else { pending().await }
    }
}

const SECONDS_10: Duration = Duration::from_secs(10);

impl Containers for Life {
    async fn list(&self) -> Result<Vec<Container>, ContainersError> {
        self.call("list", "", SECONDS_10, |state, _, _| {
            let listed = state.engine.containers.iter().map(|(name, found)| Container {
                name: name.clone(),
                identity: found.identity,
                state: found.state,
                address: Some(found.address),
                process: None,
            });
            Ok(listed.collect())
        })
        .await
    }

    async fn image(&self, image: &ImageReference) -> Result<Option<Digest>, ContainersError> {
        let (text, digest) = (image.to_string(), image.digest().cloned());
        self.call("look for an image", "", SECONDS_10, move |state, _, _| {
            Ok(digest.filter(|_| state.engine.images.contains(&text)))
        })
        .await
    }

    async fn pull(
        &self,
        image: &ImageReference,
        _: Option<&RegistryCredentials>,
        progress: &(dyn Fn(u8) + Send + Sync),
    ) -> Result<Digest, ContainersError> {
        progress(0);
        let digest = image.digest().cloned();
        let digest = digest.unwrap_or_else(|| digest_of_tag(image.tag().unwrap_or_default()));
        let pinned = image.pinned(&digest).to_string();
        let meant = digest.clone();
        let words = |code: &str| Failure {
            code: code.to_owned(),
            cause: code.to_owned(),
            fix: String::new(),
        };
        let answer = self.call("pull", "", Duration::from_mins(1), move |state, _, _| {
            let key = state.apps.keys().find(|key| digest_of_tag(&tag_of(**key)) == meant).copied();
            let Some(key) = key else {
                state.engine.images.insert(pinned);
                return Ok(Ok(()));
            };
            let Some((_, registry)) = state.apps.get_mut(&key) else { return Ok(Ok(())) };
            let (now, next) = match *registry {
                Registry::Vanishes => return Ok(Ok(())),
                Registry::Lacks => {
                    (Err(ContainersError::Image(words("image_not_found"))), Registry::Lacks)
                }
                Registry::Has | Registry::Busy(0) | Registry::Stalls(0) => {
                    (Ok(Ok(())), Registry::Has)
                }
                Registry::Busy(n) => {
                    (Err(ContainersError::Registry(words("busy"))), Registry::Busy(n - 1))
                }
                Registry::Stalls(n) => (Ok(Err(())), Registry::Stalls(n - 1)),
            };
            *registry = next;
            if next != Registry::Has {
                state.hurt.insert(key);
            }
            if matches!(now, Ok(Ok(()))) {
                state.engine.images.insert(pinned);
            }
            now
        });
        if answer.await?.is_err() {
            sleep(Duration::from_secs(30)).await;
            return self.back(Err(ContainersError::Registry(words("no_progress")))).await;
        }
        progress(100);
        Ok(digest)
    }

    async fn create(&self, spec: &ContainerSpec) -> Result<Created, ContainersError> {
        let wanted = spec.clone();
        let deadline = Duration::from_secs(30);
        self.call("create", &spec.name, deadline, move |state, world, late| {
            state.create(world, &wanted, late)
        })
        .await
    }

    async fn start(&self, name: &str) -> Result<(), ContainersError> {
        let wanted = name.to_owned();
        let deadline = Duration::from_secs(30);
        self.call("start", name, deadline, move |state, world, _| state.start(world, &wanted)).await
    }

    async fn stop(&self, name: &str, grace: Duration) -> Result<(), ContainersError> {
        let wanted = name.to_owned();
        let deadline = grace + Duration::from_secs(15);
        let begun = self.call("stop", name, deadline, move |state, world, late| {
            Ok(state.begin_stop(world, &wanted, late))
        });
        let Some(takes) = begun.await? else { return Ok(()) };
        sleep(takes.min(deadline)).await;
        let result = if takes > deadline { Err(unavailable("stop")) } else { Ok(()) };
        self.back(result).await
    }

    async fn remove(&self, name: &str) -> Result<(), ContainersError> {
        let wanted = name.to_owned();
        let deadline = Duration::from_secs(30);
        self.call("remove", name, deadline, move |state, world, late| {
            state.remove(world, &wanted, late);
            Ok(())
        })
        .await
    }

    async fn ending(&self, name: &str) -> Result<Ending, ContainersError> {
        let wanted = name.to_owned();
        self.call("autopsy", name, SECONDS_10, move |state, _, _| {
            let Some(found) = state.engine.containers.get(&wanted) else {
                return Err(ContainersError::NotFound(wanted));
            };
            let exit_code = match found.state {
                ContainerState::Exited(code) => code,
                _ => 0,
            };
            Ok(Ending { exit_code, oom_killed: false, log_tail: String::new() })
        })
        .await
    }

    async fn secrets(&self) -> Result<Vec<String>, ContainersError> {
        self.call("list secrets", "", SECONDS_10, |state, _, _| {
            Ok(state.engine.secrets.keys().cloned().collect())
        })
        .await
    }

    async fn put_secret(&self, name: &str, value: &Secret) -> Result<(), ContainersError> {
        let (wanted, value) = (name.to_owned(), value.expose().to_owned());
        self.call("put the secret", name, SECONDS_10, move |state, _, late| {
            if late {
                // The agent may have tidied up meanwhile; its next life finds such a one.
                state.engine.strays.insert(wanted.clone());
            }
            state.engine.secrets.entry(wanted).or_insert(value);
            Ok(())
        })
        .await
    }

    async fn remove_secret(&self, name: &str) -> Result<(), ContainersError> {
        let wanted = name.to_owned();
        self.call("remove the secret", name, SECONDS_10, move |state, _, late| {
            let used = secret_owner(&wanted).is_some_and(|(id, revision)| {
                let mut all = state.engine.containers.values().filter_map(|c| c.identity);
                all.any(|i| i.deployment == id && i.revision == revision)
            });
            if used && !late {
                state.violate(format!("{} is removed and in use", short(&wanted)));
            }
            state.engine.secrets.remove(&wanted);
            Ok(())
        })
        .await
    }
}

impl Prober for Life {
    async fn probe(&self, address: SocketAddrV4, probe: &Probe) -> ProbeOutcome {
        let latency = self.world.with(|state| state.rng.ms(1, 4));
        sleep(latency).await;
        if !self.world.is_alive(self.number) {
            return pending().await;
        }
        let accepted = self.world.with(|state| {
            let running = |c: &&Boxed| c.address == address && c.state == ContainerState::Running;
            state.engine.containers.values().find(running).map(|c| c.answers(Instant::now()))
        });
        match accepted {
            Some(true) => ProbeOutcome::Healthy,
            Some(false) => {
                sleep(Duration::from_millis(u64::from(probe.timeout_ms))).await;
                self.back(ProbeOutcome::Unhealthy("no answer".to_owned())).await
            }
            None => ProbeOutcome::Unhealthy("connection refused".to_owned()),
        }
    }
}
