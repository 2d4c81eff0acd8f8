//! The rules, checked after each effect: what a visitor would get at this instant.

use std::time::Duration;

use buddo_agent::model::container::{ContainerState, Identity};
use buddo_agent::model::live_table::Target;
use buddo_agent::model::snapshot::HostSnapshot;
use buddo_agent::model::workload::WorkloadId;
use buddo_agent::plan::permits;
use buddo_shared::host_wire::manifest::{DeploymentSpec, RunState, Strategy};
use buddo_shared::host_wire::report::Phase;
use buddo_shared::model::id::DeploymentId;
use buddo_shared::model::workload::ServiceName;
use tokio::time::Instant;

use crate::podman::{Boxed, short};
use crate::world::{DRAIN, State};

/// How long Caddy holds a request.
pub(crate) const TRY_DURATION: Duration = Duration::from_secs(10);
/// After a fault, nothing is expected of the affected app for this long.
const CALM: Duration = Duration::from_secs(2);
const MINUTE: Duration = Duration::from_mins(1);

/// Whether an app may be expected to answer: it did, and only the agent could have changed that
/// since.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Trust {
    settled: bool,
    /// For how long visitors were held by a working agent.
    held: Duration,
    /// When they were last seen held by one.
    held_at: Option<Instant>,
    calm_from: Option<Instant>,
}

impl Trust {
    /// Visitors are no longer held.
    fn answered(&mut self) {
        (self.held, self.held_at) = (Duration::ZERO, None);
    }

    /// Visitors are held. While the agent is dead nothing can end that.
    fn held(&mut self, alive: bool, now: Instant) -> Duration {
        if let Some(at) = std::mem::take(&mut self.held_at) {
            self.held += now.duration_since(at);
        }
        self.held_at = alive.then_some(now);
        self.held
    }
}

impl State {
    /// Nothing is expected of the app until visitors are answered by it again.
    pub(crate) fn excuse(&mut self, id: DeploymentId, why: &str) {
        let trust = self.trust.entry(id).or_default();
        trust.answered();
        trust.calm_from = Some(Instant::now() + CALM);
        if std::mem::take(&mut trust.settled) {
            self.say(|| format!("nothing is expected of {} now: {why}", short(&id.to_string())));
        }
    }

    /// As [`excuse`](Self::excuse), for all apps.
    pub(crate) fn excuse_all(&mut self, why: &str) {
        let ids: Vec<_> = self.books.documents.wanted.values().map(|desired| desired.id).collect();
        for id in ids {
            self.excuse(id, why);
        }
    }

    /// What a visitor of each app would get right now.
    pub(crate) fn look(&mut self) {
        let now = Instant::now();
        let running = self.books.documents.wanted.values().filter(|d| d.run == RunState::Running);
        let apps: Vec<_> = running
            .map(|d| {
                let recreates = d.services.public().strategy == Strategy::Recreate;
                (d.id, d.subdomain.to_string(), recreates)
            })
            .collect();
        for (id, subdomain, recreates) in apps {
            let target = self.edge.table.apps.get(&subdomain).cloned();
            let mut trust = self.trust.get(&id).copied().unwrap_or_default();
            match &target {
                Some(Target::Live { addresses }) => {
                    let all = self.engine.containers.iter();
                    let there: Vec<(String, Boxed)> = all
                        .filter(|(_, c)| {
                            addresses.contains(c.address.ip()) && c.state == ContainerState::Running
                        })
                        .map(|(name, c)| (name.clone(), c.clone()))
                        .collect();
                    let (answering, silent): (Vec<_>, Vec<_>) =
                        there.into_iter().partition(|(_, c)| c.answers(now));
                    for (name, c) in &answering {
                        // What an earlier agent started may have served before anybody looked; an
                        // older table that cannot be replaced may name what crashed and came back.
                        let fresh = c.started_by == Some(self.life) && c.exposed_by.is_none();
                        // One of a revision that no document describes cannot be made again.
                        let described = c.identity.is_some_and(|i| self.describes(i));
                        let sure = described && self.books.is_wanted_for_sure(id);
                        if c.unlimited && fresh && sure && !self.edge.unwritten {
                            self.violate(format!("{} gets visitors, without limits", short(name)));
                        }
                        let own = c.identity.map(|i| i.workload);
                        let mine = own.is_some_and(|w| w.deployment == id);
                        if !mine && trust.settled {
                            self.violate(format!("{subdomain} shows another app"));
                        }
                        if own.is_some_and(|w| w.service != ServiceName::APP) {
                            self.violate(format!(
                                "{} gets visitors and is not public",
                                short(name)
                            ));
                        }
                        let calm = trust.calm_from.is_none_or(|from| from <= now);
                        trust.settled |= mine && calm && self.books.is_wanted_for_sure(id);
                        trust.answered();
                    }
                    for (name, c) in &silent {
                        // The next life assumes that it answers, until its first probe.
                        let older = c.exposed_by.is_some_and(|life| life != self.life);
                        let excused = !trust.settled && (self.edge.unwritten || older);
                        if !excused && c.sick_until.is_none_or(|until| until <= now) {
                            let name = short(name);
                            self.violate(format!("{name} gets visitors and never answered"));
                        }
                    }
                    // Caddy tries another replica, if there is one.
                    let sick = |c: &Boxed| {
                        c.sick_unwritten
                            // It turned sick by itself, maybe while the table could not be written.
                            || (c.sick_until.is_some() && self.turns_bad(c))
                    };
                    let excused = silent.iter().any(|(_, c)| sick(c));
                    if answering.is_empty() && !excused && trust.settled {
                        self.violate(format!(
                            "{subdomain} is sent to {addresses:?}, where nothing answers"
                        ));
                    }
                }
                Some(Target::Hold) if trust.settled => {
                    let held = trust.held(self.alive, now);
                    if held > TRY_DURATION && !recreates {
                        self.violate(format!("{subdomain} is held for more than {TRY_DURATION:?}"));
                    }
                }
                other if trust.settled => {
                    self.violate(format!("{subdomain} was answered and now meets {other:?}"));
                }
                _ => {}
            }
            self.trust.insert(id, trust);
        }
    }

    fn turns_bad(&self, container: &Boxed) -> bool {
        container.identity.is_some_and(|i| self.app_of(i).turns_bad())
    }

    /// Whether the newest revision left this container's service as it was, and no document that
    /// the agent may still follow wants anything else of it.
    fn is_unchanged(&self, identity: Identity) -> bool {
        let WorkloadId { deployment, service, replica } = identity.workload;
        let books = &self.books;
        let wants = |desired: &&DeploymentSpec| {
            let spec = desired.services.get(service);
            desired.id == deployment
                && desired.run == RunState::Running
                && spec.is_some_and(|spec| {
                    spec.revision == identity.revision && replica.get() < spec.replicas
                })
        };
        let Some(newest) = books.documents.wanted.values().find(wants) else { return false };
        let held =
            books.held.iter().any(|d| wants(&d)) && books.held_before.iter().any(|d| wants(&d));
        let fallback = newest.auto_rollback.as_ref().and_then(|g| g.fallback.services.get(service));
        let certain = books.acked == books.generation
            && self.swarm.lose_acknowledgement == 0
            && !self.amnesia
            && !self.hurt.contains(&(deployment, identity.revision));
        certain
            && held
            && identity.revision < newest.revision
            && fallback.is_none_or(|before| before.revision == identity.revision)
    }

    /// A container gets SIGTERM.
    pub(crate) fn leaves(&mut self, name: &str, container: &Boxed, late: bool) {
        let Some(identity) = container.identity else { return };
        if late {
            self.excuse(identity.workload.deployment, "an order came late");
            return;
        }
        let now = Instant::now();
        let is_well = container.answers(now) && !container.hurt && !container.unlimited;
        if is_well && self.is_unchanged(identity) {
            self.violate(format!("{} is stopped though its service did not change", short(name)));
        }
        if self.edge.points_to(*container.address.ip()) {
            self.violate(format!("{} is stopped while it gets visitors", short(name)));
        }
        let left = self.edge.left.get(name).map(|left| now.duration_since(*left));
        if let Some(left) = left.filter(|left| *left < DRAIN) {
            let name = short(name);
            self.violate(format!(
                "{name} is stopped {left:?} after its last visitor, not {DRAIN:?}"
            ));
        }
    }

    /// The agent creates a container. Beside one of the same revision that runs and is reached, it
    /// exists because that one is sick: those must be few in any minute.
    pub(crate) fn makes(&mut self, life: u32, identity: Identity) {
        let other = Identity { slot: identity.slot.other(), ..identity };
        let beside = self.engine.containers.iter().any(|(name, c)| {
            let runs = c.state == ContainerState::Running;
            c.identity == Some(other) && runs && !self.engine.unforwarded.contains(name)
        });
        if !beside {
            return;
        }
        let now = Instant::now();
        self.seconds.retain(|(by, at)| *by == life && now.duration_since(*at) < MINUTE);
        self.seconds.push_back((life, now));
        let (count, most) = (self.seconds.len(), permits::PER_MINUTE as usize);
        if count > most {
            self.violate(format!("{count} second containers in a minute, more than {most}"));
        }
    }

    /// A container was started.
    pub(crate) fn started(&mut self, name: &str, address: std::net::SocketAddrV4) {
        self.edge.left.remove(name);
        let identity = self.engine.containers.get(name).and_then(|c| c.identity);
        if self.edge.unwritten && self.edge.points_to(*address.ip()) {
            // Better than nothing at all: that it waits could not be published.
            let Some(identity) = identity else { return };
            self.excuse(identity.workload.deployment, "it is started under an older table");
        } else if self.edge.points_to(*address.ip()) {
            self.violate(format!("{} is started while it gets visitors", short(name)));
        }
    }

    /// Checks what the agent reports about itself.
    pub(crate) fn check(&mut self, snapshot: &HostSnapshot) {
        for app in &snapshot.deployments {
            self.note_shown(&app.status);
            if app.status.phase != Phase::Live {
                continue;
            }
            let Some(subdomain) = &app.subdomain else { continue };
            let Some(Target::Live { addresses }) = self.edge.table.apps.get(subdomain) else {
                let says = self.edge.table.apps.get(subdomain).cloned();
                self.violate(format!("{subdomain} is said to be live, the table says {says:?}"));
                continue;
            };
            // One that was removed is noticed at the next list.
            let mut there =
                self.engine.containers.values().filter(|c| addresses.contains(c.address.ip()));
            let serving = app.status.serving;
            let content = serving.and_then(|r| self.contents(app.status.id, r).first().copied());
            let right = |c: &Boxed| {
                c.identity.is_some_and(|i| [serving, content].contains(&Some(i.revision)))
            };
            if !there.clone().any(right) && there.next().is_some() {
                let revision = app.status.serving;
                self.violate(format!(
                    "{subdomain} is said to be served by {revision:?}, and is by another"
                ));
            }
        }
    }
}
