//! Deployments of several services, which no published API makes yet.

use buddo_shared::model::id::{DeploymentId, Revision};
use buddo_shared::model::secret::Secret;
use buddo_shared::model::workload::ServiceName;

use crate::domain::encryption::EncryptionContext;
use crate::domain::lifecycle::Event;
use crate::domain::revision::RevisionRecord;
use crate::domain::service::{Service, Services};
use crate::state::AppState;
use crate::store::StoreError;

/// The environment of an added service.
pub(crate) fn env_of(name: &str) -> String {
    format!(r#"{{"OF":"{name}"}}"#)
}

/// A next revision with these services beside the app: those that are in the current one keep their
/// content, the others are added, each with an environment of its own. Returns its number.
pub(crate) async fn deploy(
    state: &AppState,
    id: DeploymentId,
    names: &'static [&'static str],
) -> Revision {
    let services = state.clone();
    let made: Result<Revision, StoreError> = state
        .store
        .write(move |tables| {
            let mut deployment = tables.deployment(id)?.unwrap();
            let current = tables.revision(id, deployment.revision)?.unwrap();
            let number = tables.last_revision(id)?.unwrap().next().unwrap();
            let (app, vault) = (current.services.public(), &services.vault);
            let kept = tables.environments(id, current.number)?;
            let mut envs = kept.clone();
            let of = |name: ServiceName| EncryptionContext::Environment(id, number, name);
            for (name, env) in &mut envs {
                let context = EncryptionContext::Environment(id, current.number, *name);
                let plain = vault.open_sealed(context, env).unwrap();
                *env = vault.seal(of(*name), &plain).unwrap();
            }
            let internal = names.iter().map(|text| {
                let name = text.parse().unwrap();
                current.services.get(name).cloned().unwrap_or_else(|| {
                    let plain = Secret::new(env_of(text));
                    envs.insert(name, vault.seal(of(name), &plain).unwrap());
                    Service { name, introduced: number, digest: None, ..app.clone() }
                })
            });
            let all = Services::new(app.clone(), internal.collect()).unwrap();
            envs.retain(|name, _| all.get(*name).is_some());
            let at = services.clock.now();
            let revision = RevisionRecord { services: all, ..current.again(number, at) };
            tables.insert_revision(id, &revision, &envs)?;
            deployment.revision = number;
            deployment.lifecycle.apply(Event::Restart).unwrap();
            tables.update_deployment(&deployment)?;
            tables.bump_generation(deployment.host)?;
            Ok(number)
        })
        .await;
    made.unwrap()
}
