//! What Podman does: to containers on request, and the events it emits.

use std::sync::Arc;
use std::time::Duration;

use buddo_agent::model::container::{ContainerSpec, ContainerState, Created, Identity, KILLED};
use buddo_agent::ports::ContainersError;
use tokio::time::{Instant, sleep};

use super::fate::{refused, unavailable};
use super::{Boxed, short};
use crate::story::app::App;
use crate::world::{GRACE, State, World};

/// Longer than any simulation.
const FOR_GOOD: Duration = Duration::from_hours(24 * 365);

impl State {
    /// Podman reports a change of a container, unless the event is lost.
    pub(crate) fn event(&mut self, world: &Arc<World>, name: &str) {
        let lost = self.rng.per_mille(self.swarm.lose_event);
        let times = 1 + u32::from(self.rng.per_mille(self.swarm.repeat_event));
        if lost || self.deaf {
            return;
        }
        for _ in 0..times {
            let delay = self.rng.ms(1, 20);
            let (world, name) = (Arc::clone(world), name.to_owned());
            tokio::spawn(async move {
                sleep(delay).await;
                world.with(|state| {
                    if let Some(feed) = state.feed.as_ref().filter(|_| !state.deaf) {
                        feed.lines.send_modify(|lines| *lines += 1);
                        feed.named.add(Some(name));
                        feed.hints.send_modify(|hints| *hints += 1);
                    }
                });
            });
        }
    }

    /// A container ends, but not because of the agent.
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
        self.event(world, name);
    }

    /// The app of a container does what it does each time, if that is still its run number `run`.
    fn turn(&mut self, world: &Arc<World>, name: &str, run: u32) {
        let found = self.engine.containers.get(name).filter(|c| c.starts == run);
        let Some(identity) = found.and_then(|c| c.identity) else { return };
        match self.app_of(identity) {
            App::Good(_) | App::Silent | App::Fails => {}
            App::Exits(_) | App::Crashes(_) => self.end(world, name, 1),
            App::Bloats(_) => {
                let noted = self.rng.per_mille(500);
                if let Some(container) = self.engine.containers.get_mut(name) {
                    container.oom = noted;
                }
                self.end(world, name, KILLED);
            }
            App::Sickens(_) => self.sicken(name, Instant::now() + FOR_GOOD),
        }
    }

    /// A container keeps running and answers only errors until then.
    pub(crate) fn sicken(&mut self, name: &str, until: Instant) {
        let unwritten = self.edge.unwritten;
        let Some(container) = self.engine.containers.get_mut(name) else { return };
        container.sick_unwritten = unwritten;
        // An app that is sick for good is not cured by another fault.
        container.sick_until = container.sick_until.max(Some(until));
        container.hurt = true;
        let identity = container.identity;
        self.blame(identity);
        self.say(|| format!("{} is sick", short(name)));
    }

    /// Trouble with a container that is not the agent's fault.
    pub(crate) fn blame(&mut self, identity: Option<Identity>) {
        let Some(Identity { workload, revision, .. }) = identity else { return };
        let deployment = workload.deployment;
        self.hurt.insert((deployment, revision));
        self.auto_rollbacks.ended(deployment, Instant::now());
        self.excuse(deployment, "a fault of its container");
    }

    pub(super) fn create(
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
                && c.identity.is_some_and(|i| i.workload != spec.identity.workload)
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
            oom: false,
            exposed_by: None,
            sick_unwritten: false,
            reads: spec.secret_env.values().cloned().collect(),
            made: self.engine.made,
            started_by: None,
            unlimited: false,
        };
        self.engine.made += 1;
        self.engine.containers.insert(spec.name.clone(), container);
        self.event(world, &spec.name);
        Ok(Created::New)
    }

    /// For the agent's life number `life`.
    pub(super) fn start(
        &mut self,
        world: &Arc<World>,
        name: &str,
        life: u32,
    ) -> Result<(), ContainersError> {
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
        if !found.reads.is_empty() {
            self.engine.whole("start a container")?;
        }
        if found.reads.iter().any(|name| !self.engine.secrets.contains_key(name)) {
            // That environment can no longer be stored.
            if found.identity.is_some_and(|identity| !self.describes(identity)) {
                self.blame(found.identity);
            }
            return Err(refused("start a container", "no such secret"));
        }
        let occupied = self.engine.containers.iter().any(|(other, c)| {
            *other != name
                && c.address == found.address
                && matches!(c.state, ContainerState::Running | ContainerState::Stopping)
        });
        if occupied || self.engine.orphans.values().any(|held| *held == Some(found.address)) {
            self.blame(found.identity);
            return Err(refused("start a container", "address already in use"));
        }
        let app = found.identity.map_or(App::Silent, |i| self.app_of(i));
        let torn = self.rng.per_mille(self.swarm.tear_start);
        let answers = match app {
            _ if torn => None,
            App::Good(after) => Some(now + after),
            App::Crashes(_) | App::Bloats(_) | App::Sickens(_) | App::Fails => {
                Some(now + Duration::from_millis(50))
            }
            App::Silent | App::Exits(_) => None,
        };
        let exposed = self.edge.unwritten && self.edge.points_to(*found.address.ip());
        let exposed_by = exposed.then_some(self.life);
        let unlimited = self.engine.unlimited;
        if unlimited && let Some(identity) = found.identity {
            // A `recreate` tries it again and again, and what served comes back in between.
            self.excuse(identity.workload.deployment, "it is started without limits");
        }
        if let Some(container) = self.engine.containers.get_mut(name) {
            container.unlimited = unlimited;
            container.started_by = Some(life);
            container.state = ContainerState::Running;
            container.exposed_by = exposed_by;
            container.starts += 1;
            container.answers = answers;
            container.sick_until = None;
            container.sick_unwritten = false;
            container.hurt = false;
            container.oom = false;
        }
        if let App::Exits(after) | App::Crashes(after) | App::Bloats(after) | App::Sickens(after) =
            app
        {
            let (world, name, run) = (Arc::clone(world), name.to_owned(), found.starts + 1);
            tokio::spawn(async move {
                sleep(after).await;
                world.act(|state| state.turn(&world, &name, run));
            });
        }
        self.started(name, found.address);
        self.event(world, name);
        self.engine.unforwarded.remove(name);
        if torn {
            self.engine.unforwarded.insert(name.to_owned());
            self.blame(found.identity);
            self.say(|| format!("  {} has no port", short(name)));
            return Err(unavailable("start"));
        }
        Ok(())
    }

    /// SIGTERM; how long the container takes to end.
    pub(super) fn begin_stop(
        &mut self,
        world: &Arc<World>,
        name: &str,
        late: bool,
    ) -> Option<Duration> {
        let found = self.engine.containers.get(name).cloned()?;
        if found.stuck && found.state == ContainerState::Stopping {
            return Some(Duration::from_hours(1));
        }
        if found.state != ContainerState::Running {
            return None;
        }
        self.leaves(name, &found, late);
        if late {
            self.bear(found.identity, |toll| toll.ends += 1);
        }
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
                    state.event(&ender, &name);
                }
            });
        });
        Some(takes)
    }

    /// Whether there was one.
    pub(super) fn remove(&mut self, world: &Arc<World>, name: &str, late: bool) -> bool {
        let Some(found) = self.engine.containers.get(name).cloned() else { return false };
        if found.identity.is_none() {
            self.violate(format!("the foreign container {name} is removed"));
        }
        if found.state == ContainerState::Running {
            self.leaves(name, &found, late);
        }
        self.engine.containers.remove(name);
        self.event(world, name);
        true
    }
}
