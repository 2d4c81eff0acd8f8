//! What a coordinator's database holds about one host: what is wanted, what was, and what the
//! host's reports change. As `coordinator/src/service/hosts/reports` and `domain/history` do it.

use std::collections::BTreeMap;

use buddo_shared::host_wire::manifest::{
    AutoRollback, DeploymentSpec, Fallback, RunState, ServiceSpec, Services, Strategy,
};
use buddo_shared::host_wire::report::{DeploymentStatus, Phase};
use buddo_shared::model::id::{DeploymentId, Revision};
use buddo_shared::model::image::Digest;
use buddo_shared::model::name::HostName;
use buddo_shared::model::workload::ServiceName;
use uuid::Uuid;

use super::act::Act;

/// Makes the entry of an app (by its number) for deployment `n`, a revision, and the revision
/// whose image it has.
pub(crate) type Make<'a> = &'a dyn Fn(u64, u64, u32, u32) -> DeploymentSpec;

/// The deployment number `n`.
pub(crate) fn deployment(n: u64) -> DeploymentId {
    DeploymentId::new(Uuid::from_u128(u128::from(n)))
}

/// The number of a deployment.
pub(crate) fn number(id: DeploymentId) -> u64 {
    u64::try_from(id.as_uuid().as_u128()).unwrap_or_default()
}

/// What is known of a revision for good.
#[derive(Debug, Clone)]
struct Past {
    entry: DeploymentSpec,
    image: Revision,
    live: bool,
    given_up: bool,
}

/// The content of a service, by the revision that introduced it.
type Content = (DeploymentId, ServiceName, Revision);

/// The result of an act.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Acted {
    /// There is a new revision, with the image of that one.
    Fresh(DeploymentId, Revision, Revision),
    /// It should serve, or not.
    Run(DeploymentId, RunState),
    /// It has a name of its own.
    Named,
    /// It should be gone.
    Gone(DeploymentId),
}

/// The result of a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Taken {
    /// The document changes.
    pub(crate) changes: bool,
    /// An entry of the audit log: the host rolled the second back to the first.
    pub(crate) rolled_back_to: Option<(Revision, Revision)>,
}

/// The coordinator's books of one host.
#[derive(Debug, Clone, Default)]
pub(crate) struct Documents {
    /// What operators want: app → its entry.
    pub(crate) wanted: BTreeMap<u64, DeploymentSpec>,
    /// For how many seconds new revisions are watched; 0: never.
    pub(crate) rollback_window_s: u32,
    /// Host reports are not applied, as while the coordinator is away for long.
    pub(crate) deaf: bool,
    past: BTreeMap<DeploymentId, BTreeMap<Revision, Past>>,
    digests: BTreeMap<Content, Digest>,
    numbers: u64,
}

impl Documents {
    /// Nothing is wanted yet.
    pub(crate) fn new(rollback_window_s: u32, deaf: bool) -> Self {
        Self { rollback_window_s, deaf, ..Self::default() }
    }

    /// An operator does something to an app.
    pub(crate) fn act(&mut self, app: u64, act: Act, make: Make<'_>) -> Acted {
        let Some(old) = self.wanted.get(&app).cloned() else {
            self.numbers += 1;
            return self.enter(app, make(app, self.numbers, 1, 1), Revision::FIRST);
        };
        let n = number(old.id);
        let next = self.newest(&old).get() + 1;
        match act {
            Act::Deploy { recreate } => {
                let strategy = if recreate { Strategy::Recreate } else { strategy(&old) };
                let fresh = make(app, n, next, next);
                let services = with_strategy(&fresh.services, strategy);
                let fresh =
                    DeploymentSpec { run: old.run, services, domains: old.domains, ..fresh };
                self.enter(app, fresh, Revision::new(next))
            }
            Act::Part { public } => {
                let fresh = make(app, n, next, next);
                let services = edited(&with_strategy(&fresh.services, strategy(&old)), |service| {
                    let before = old.services.get(service.name);
                    if let Some(before) = before.filter(|_| service.public != public) {
                        *service = before.clone();
                    }
                });
                let fresh =
                    DeploymentSpec { run: old.run, services, domains: old.domains, ..fresh };
                self.enter(app, fresh, Revision::new(next))
            }
            Act::Restart => {
                let past = self.past.get(&old.id).and_then(|past| past.get(&old.revision));
                let image = past.map_or(old.revision, |past| past.image);
                let fresh = make(app, n, next, image.get());
                let services = edited(&with_strategy(&fresh.services, strategy(&old)), |service| {
                    let Some(before) = old.services.get(service.name) else { return };
                    let known = self.digests.get(&(old.id, service.name, before.revision));
                    service.digest = known.cloned().or_else(|| before.digest.clone());
                    service.image = before.image.clone();
                });
                self.enter(app, DeploymentSpec { services, domains: old.domains, ..fresh }, image)
            }
            Act::Run(run) => {
                self.wanted.insert(app, DeploymentSpec { run, ..old.clone() });
                Acted::Run(old.id, run)
            }
            Act::Name => {
                let name = format!("www-{next}.app-{app}.example.org");
                let domains = HostName::parse(&name).into_iter().collect();
                self.wanted.insert(app, DeploymentSpec { domains, ..old });
                Acted::Named
            }
            Act::Destroy => {
                self.wanted.remove(&app);
                Acted::Gone(old.id)
            }
        }
    }

    /// This is wanted from now on, with the image of that revision.
    pub(crate) fn enter(&mut self, app: u64, entry: DeploymentSpec, image: Revision) -> Acted {
        let (id, revision) = (entry.id, entry.revision);
        for service in &entry.services {
            let content = (id, service.name, service.revision);
            self.digests.extend(service.digest.clone().map(|digest| (content, digest)));
        }
        let past = Past { entry: entry.clone(), image, live: false, given_up: false };
        self.past.entry(id).or_default().insert(revision, past);
        self.numbers = self.numbers.max(number(id));
        self.wanted.insert(app, entry);
        Acted::Fresh(id, revision, image)
    }

    /// What a revision of a deployment consists of.
    #[allow(dead_code, reason = "asked by the simulation alone")]
    pub(crate) fn services(&self, id: DeploymentId, revision: Revision) -> Option<&Services> {
        Some(&self.past.get(&id)?.get(&revision)?.entry.services)
    }

    fn newest(&self, desired: &DeploymentSpec) -> Revision {
        let past = self.past.get(&desired.id).and_then(|past| past.keys().max());
        past.copied().unwrap_or(desired.revision).max(desired.revision)
    }

    /// Adds to each entry what the next document says beside what its operator wants.
    pub(crate) fn complete(&mut self) {
        for desired in self.wanted.values_mut() {
            let Some(past) = self.past.get(&desired.id) else { continue };
            desired.services = with_digests(desired, &self.digests);
            let watched = self.rollback_window_s > 0 && desired.run == RunState::Running;
            desired.auto_rollback =
                fallback(past, desired.revision, &self.digests).filter(|_| watched).map(
                    |fallback| Box::new(AutoRollback { seconds: self.rollback_window_s, fallback }),
                );
        }
    }

    /// Takes the host's report on a deployment.
    pub(crate) fn take(&mut self, status: &DeploymentStatus) -> Taken {
        let mut taken = Taken::default();
        let Some(past) = self.past.get_mut(&status.id) else { return taken };
        let known = |number: Option<Revision>| {
            number.filter(|number| *number != status.revision && past.contains_key(number))
        };
        let (serving, rolled_back_to) = (known(status.serving), known(status.rolled_back_to));
        let Some(told) = past.get_mut(&status.revision) else { return taken };
        for service in &status.services {
            let content = (status.id, service.name, service.revision);
            if let Some(digest) = &service.digest {
                self.digests.entry(content).or_insert_with(|| digest.clone());
            }
        }
        let ended = status.phase == Phase::Failed;
        let live = status.phase == Phase::Live || (ended && status.rolled_back_to.is_some());
        let first_live = live && !std::mem::replace(&mut told.live, true);
        let first_failed = ended && !std::mem::replace(&mut told.given_up, true);
        let current = self.wanted.values_mut().find(|desired| desired.id == status.id);
        let Some(current) = current else { return taken };
        if current.revision != status.revision {
            taken.changes = (first_live || first_failed) && !self.deaf;
            let late = rolled_back_to.filter(|_| first_failed);
            taken.rolled_back_to = late.map(|to| (status.revision, to));
            return taken;
        }
        if !ended {
            return taken;
        }
        taken.rolled_back_to =
            rolled_back_to.filter(|_| !self.deaf || first_failed).map(|to| (status.revision, to));
        if self.deaf {
            return taken;
        }
        let back = if let Some(to) = rolled_back_to {
            Some(to)
        } else if current.run != RunState::Running {
            return taken;
        } else if status.serving.is_none() && status.rolled_back_to.is_none() {
            current.run = RunState::Stopped;
            taken.changes = true;
            return taken;
        } else {
            serving
        };
        if let Some(entry) = back.and_then(|back| past.get(&back)).map(|past| past.entry.clone()) {
            taken.changes = true;
            let (run, domains) = (current.run, std::mem::take(&mut current.domains));
            let services = with_strategy(&entry.services, strategy(current));
            *current = DeploymentSpec { run, domains, services, ..entry };
        }
        taken
    }
}

/// The newest other revision that was live and stayed good, whole, where `current` is the newest.
fn fallback(
    past: &BTreeMap<Revision, Past>,
    current: Revision,
    digests: &BTreeMap<Content, Digest>,
) -> Option<Fallback> {
    if past.keys().any(|number| *number > current) {
        return None;
    }
    let whole = |past: &Past| {
        let services = with_digests(&past.entry, digests);
        services.iter().all(|service| service.digest.is_some()).then_some(services)
    };
    let good = |past: &&Past| past.live && !past.given_up;
    let mut others = past.iter().rev().filter(|(number, past)| **number != current && good(past));
    let (number, services) = others.find_map(|(number, past)| Some((*number, whole(past)?)))?;
    Some(Fallback { revision: number, services })
}

fn with_digests(desired: &DeploymentSpec, digests: &BTreeMap<Content, Digest>) -> Services {
    edited(&desired.services, |service| {
        let known = digests.get(&(desired.id, service.name, service.revision)).cloned();
        service.digest = known.or_else(|| service.digest.take());
    })
}

fn strategy(desired: &DeploymentSpec) -> Strategy {
    desired.services.public().strategy
}

/// The same services, replaced in this way.
pub(crate) fn with_strategy(services: &Services, strategy: Strategy) -> Services {
    edited(services, |service| service.strategy = strategy)
}

/// The same services after a change of each. What makes them services is not changed.
pub(crate) fn edited(services: &Services, mut edit: impl FnMut(&mut ServiceSpec)) -> Services {
    let mut edited: Vec<ServiceSpec> = services.iter().cloned().collect();
    edited.iter_mut().for_each(&mut edit);
    edited.try_into().unwrap_or_else(|_| services.clone())
}
