//! What operators do: create, deploy, restart, stop, start, suspend, destroy, name a domain.

use buddo_shared::id::Revision;
use buddo_shared::manifest::{Desired, RunState, Strategy};
use buddo_shared::name::HostName;

use crate::coordinator::deployment;
use crate::run::Run;
use crate::world::{App, Registry};

impl Run {
    fn draw_app(&mut self, bad: bool) -> (App, Registry) {
        let rng = &mut self.rng;
        let good = App::Good(if rng.per_mille(700) { rng.ms(5, 100) } else { rng.ms(100, 3_000) });
        if !bad {
            return (good, Registry::Has);
        }
        match rng.below(7) {
            0 => (App::Silent, Registry::Has),
            1 => (App::Exits(rng.ms(1, 2_000)), Registry::Has),
            2 => (App::Crashes(rng.ms(500, 20_000)), Registry::Has),
            3 => (good, Registry::Lacks),
            6 => (good, Registry::Vanishes),
            4 => (good, Registry::Busy(1 + u32::try_from(rng.below(4)).unwrap_or_default())),
            _ => (good, Registry::Stalls(1)),
        }
    }

    fn has_bad_luck(&mut self) -> bool {
        let chance = self.world.with(|state| state.swarm.bad_revision);
        self.rng.per_mille(chance)
    }

    /// An operator does something.
    pub(crate) fn operate(&mut self) {
        let app = self.rng.below(4);
        let wanted = self.world.with(|state| state.books.wanted.get(&app).cloned());
        let bad = self.has_bad_luck();
        let mut behaviour = self.draw_app(bad);
        let Some(mut desired) = wanted else {
            self.numbers += 1;
            let desired = self.keys.desired(app, self.numbers, 1, 1);
            self.world.act(|state| {
                state.apps.insert((desired.id, desired.revision), behaviour);
                state.books.wanted.insert(app, desired);
            });
            return self.sign();
        };
        let next = desired.revision.get() + 1;
        let n = u64::try_from(desired.id.as_uuid().as_u128()).unwrap_or_default();
        match self.rng.below(10) {
            0..4 => {
                let fresh = self.keys.desired(app, n, next, next);
                desired = Desired {
                    run: desired.run,
                    strategy: desired.strategy,
                    domains: desired.domains,
                    ..fresh
                };
                if self.rng.per_mille(250) {
                    desired.strategy = Strategy::Recreate;
                }
            }
            // A restart: the same image as a new revision.
            4 => {
                let image = desired.image.clone();
                let digest = crate::podman::digest_of_tag(image.tag().unwrap_or_default());
                let registry = self.world.with(|state| {
                    let same =
                        |key: &&_| crate::podman::tag_of(**key) == image.tag().unwrap_or_default();
                    state.apps.keys().find(same).map_or(Registry::Has, |key| state.apps[key].1)
                });
                behaviour.1 = registry;
                let fresh = self.keys.desired(app, n, next, next);
                desired = Desired {
                    image,
                    digest: Some(digest),
                    strategy: desired.strategy,
                    domains: desired.domains,
                    ..fresh
                };
            }
            5 => desired.run = RunState::Stopped,
            6 => desired.run = RunState::Suspended,
            7 => desired.run = RunState::Running,
            8 => {
                let name = format!("www-{next}.example.org");
                desired.domains = HostName::parse(&name).into_iter().collect();
            }
            _ => {
                self.world.act(|state| {
                    state.excuse(desired.id, "its operator destroys it");
                    state.books.wanted.remove(&app);
                });
                return self.sign();
            }
        }
        self.world.act(|state| {
            if desired.run != RunState::Running {
                state.excuse(desired.id, "its operator stops it");
            }
            state.apps.entry((desired.id, desired.revision)).or_insert(behaviour);
            state.books.wanted.insert(app, desired);
        });
        self.sign();
    }

    /// Every app gets a new, good revision.
    pub(crate) fn renew_all(&mut self) {
        let wanted = self.world.with(|state| state.books.wanted.clone());
        for (app, old) in wanted {
            let n = u64::try_from(old.id.as_uuid().as_u128()).unwrap_or_default();
            let next = old.revision.get() + 1;
            let fresh = self.keys.desired(app, n, next, next);
            let good = self.draw_app(false);
            self.world.act(|state| {
                state.apps.insert((deployment(n), Revision::new(next)), good);
                state.hurt.remove(&(deployment(n), Revision::new(next)));
                state.books.wanted.insert(app, fresh);
            });
        }
        self.sign();
    }
}
