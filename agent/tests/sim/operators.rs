//! Operators at work: the story's acts, applied to the simulated coordinator's database.

use std::sync::Arc;

use buddo_shared::host_wire::manifest::{DeploymentSpec, RunState};

use crate::coordinator::Keys;
use crate::faults::Swarm;
use crate::run::Run;
use crate::story::act::Act;
use crate::story::app::{self, App, Registry};
use crate::story::documents::Acted;

impl Run {
    /// What the next revision of `app` does.
    fn draw_app(&mut self, app: u64) -> (App, Registry) {
        let (swarm, is_new) = self
            .world
            .with(|state| (state.swarm, !state.books.documents.wanted.contains_key(&app)));
        let rng = &mut self.rng;
        if !rng.per_mille(swarm.bad_revision) || (swarm.releases && is_new) {
            return (app::good(rng), Registry::Has);
        }
        if rng.per_mille(if swarm.releases { 900 } else { 650 }) {
            (app::bad(rng), Registry::Has)
        } else {
            (app::good(rng), app::bad_registry(rng))
        }
    }

    /// An operator does something.
    pub(crate) fn operate(&mut self) {
        let swarm = self.world.with(|state| state.swarm);
        let app = self.rng.below(swarm.apps);
        let mut act = Act::draw(&mut self.rng);
        if swarm.releases && self.rng.per_mille(700) {
            act = Act::Deploy { recreate: self.rng.per_mille(250) };
        }
        if swarm.services && matches!(act, Act::Deploy { .. }) && self.rng.per_mille(500) {
            act = Act::Part { public: self.rng.per_mille(500) };
        }
        let (behaviour, registry) = self.draw_app(app);
        let keys = Arc::clone(&self.keys);
        self.world.act(|state| {
            let make = |app, n, revision, image| make(&keys, swarm, app, n, revision, image);
            match state.books.documents.act(app, act, &make) {
                Acted::Fresh(id, revision, image) => {
                    state.auto_rollbacks.superseded(id);
                    if state.contents(id, revision).first() != Some(&revision) {
                        // Visitors get what they got before.
                        return;
                    }
                    let same = state.apps.get(&(id, image)).map(|(_, registry)| *registry);
                    let registry = same.filter(|_| image != revision).unwrap_or(registry);
                    state.apps.insert((id, revision), (behaviour, registry));
                }
                Acted::Run(id, run) => {
                    if run != RunState::Running {
                        state.excuse(id, "its operator stops it");
                    }
                    state.auto_rollbacks.superseded(id);
                }
                Acted::Gone(id) => {
                    state.excuse(id, "its operator destroys it");
                    state.auto_rollbacks.superseded(id);
                }
                Acted::Named => {}
            }
        });
        self.sign();
    }

    /// Every app gets a new, good revision.
    pub(crate) fn renew_all(&mut self) {
        let apps: Vec<u64> =
            self.world.with(|state| state.books.documents.wanted.keys().copied().collect());
        for app in apps {
            let good = app::good(&mut self.rng);
            let keys = Arc::clone(&self.keys);
            self.world.act(|state| {
                let swarm = state.swarm;
                let make = |app, n, revision, image| make(&keys, swarm, app, n, revision, image);
                let documents = &mut state.books.documents;
                documents.act(app, Act::Run(RunState::Running), &make);
                let acted = documents.act(app, Act::Deploy { recreate: false }, &make);
                let Acted::Fresh(id, revision, _) = acted else { return };
                state.apps.insert((id, revision), (good, Registry::Has));
                // Its contents are all new.
                state.hurt.remove(&(id, revision));
                state.auto_rollbacks.superseded(id);
            });
        }
        self.sign();
    }
}

/// The entry of an app, of as many services as the run says.
fn make(keys: &Keys, swarm: Swarm, app: u64, n: u64, revision: u32, image: u32) -> DeploymentSpec {
    if swarm.services {
        keys.desired_of_several(app, n, revision, image)
    } else {
        keys.desired(app, n, revision, image)
    }
}
