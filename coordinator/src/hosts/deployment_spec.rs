//! One deployment of a document: its current revision, its fallback, and the images to keep.

use buddo_runtime::error_chain::chain;
use buddo_shared::host_wire::manifest::{
    AutoRollback, DeploymentSpec, Fallback, RunState, ServiceSpec, Services,
};
use buddo_shared::host_wire::sealed::Sealed;
use buddo_shared::model::id::{DeploymentId, Revision};
use buddo_shared::model::image::ImageReference;
use buddo_shared::model::secret::Secret;
use buddo_shared::model::workload::ServiceName;
use jiff::{SignedDuration, Timestamp};

use crate::domain::deployment::Deployment;
use crate::domain::encryption::EncryptionContext;
use crate::domain::history::{self, Past};
use crate::domain::revision::RevisionRecord;
use crate::domain::scheduler::MAX_FALLBACK_BYTES;
use crate::domain::service::Service;
use crate::hosts::document::DocumentError;
use crate::service::deployments::spec_digest;
use crate::state;
use crate::store::contract::Host;
use crate::store::{StoreError, Tables};

/// How long after the auto-rollback window a document still carries the fallback: the host's clock
/// decides when the switch was, and may be off by this much.
const SLACK: SignedDuration = SignedDuration::from_hours(1);

/// Writes deployments into the document of one host, in order of creation, so that the same state
/// makes the same document.
pub(super) struct Writer<'a> {
    tables: &'a dyn Tables,
    services: &'a state::Services,
    host: &'a Host,
    now: Timestamp,
    /// Bytes of environments still available for fallbacks.
    room: u64,
}

impl<'a> Writer<'a> {
    pub(super) fn new(
        tables: &'a dyn Tables,
        services: &'a state::Services,
        host: &'a Host,
        now: Timestamp,
    ) -> Self {
        Self { tables, services, host, now, room: MAX_FALLBACK_BYTES }
    }

    pub(super) fn desired(
        &mut self,
        deployment: &Deployment,
    ) -> Result<DeploymentSpec, DocumentError> {
        let mut rows = self.tables.revisions(deployment.id)?;
        let past: Vec<Past> = rows.iter().map(RevisionRecord::past).collect();
        let kept_images = self.kept_images(deployment, &rows, &past);
        let back = history::fallback(&past, deployment.revision);
        let back = back.and_then(|number| take(&mut rows, number));
        let current = take(&mut rows, deployment.revision)
            .ok_or_else(|| StoreError::corrupt("deployments.revision")("names no revision"))?;
        let auto_rollback = match back {
            Some(back) if self.is_watched(deployment, &current) => {
                self.auto_rollback(deployment, back)?
            }
            _ => None,
        };
        let (services, _) = self.services(deployment, &current)?;
        let desired = DeploymentSpec {
            id: deployment.id,
            revision: current.number,
            subdomain: deployment.subdomain.clone(),
            run: deployment.run,
            domains: current.domains,
            services,
            auto_rollback: auto_rollback.map(Box::new),
            kept_images,
        };
        // No host takes a document with a part that contradicts itself.
        desired.check()?;
        Ok(desired)
    }

    /// Images of all revisions that a rollback may restore, deduplicated.
    fn kept_images(
        &self,
        deployment: &Deployment,
        rows: &[RevisionRecord],
        past: &[Past],
    ) -> Vec<ImageReference> {
        let keep = self.services.config.deploy.kept_revisions;
        let kept = history::kept(past, deployment.revision, deployment.serving, keep);
        let mut images = Vec::new();
        for row in rows.iter().filter(|row| kept.contains(&row.number)) {
            for service in row.services.iter() {
                let pinned = service.digest.as_ref().map(|digest| service.image.pinned(digest));
                images.extend(pinned.filter(|image| !images.contains(image)));
            }
        }
        images
    }

    /// Whether the auto-rollback window of `current` may still be open on its host; after that, the
    /// fallback would only make the document larger.
    fn is_watched(&self, deployment: &Deployment, current: &RevisionRecord) -> bool {
        let seconds = self.services.config.deploy.auto_rollback_s;
        let window = SignedDuration::from_secs(seconds.into()) + SLACK;
        let open = |since: Timestamp| self.now.duration_since(since) < window;
        let running = deployment.run == RunState::Running;
        seconds > 0 && running && current.live_at.is_none_or(open)
    }

    fn auto_rollback(
        &mut self,
        deployment: &Deployment,
        back: RevisionRecord,
    ) -> Result<Option<AutoRollback>, DocumentError> {
        let id = deployment.id;
        if !back.services.are_resolved() {
            return Ok(None);
        }
        let (services, bytes) = match self.services(deployment, &back) {
            Ok(services) => services,
            Err(error) if error.is_of_one() => {
                tracing::error!(
                    host = %self.host.id, deployment = %id, error = %chain(&error),
                    "a deploy has no auto rollback: the revision to return to cannot be read"
                );
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        let Some(room) = self.room.checked_sub(bytes) else {
            tracing::warn!(
                host = %self.host.id,
                deployment = %id,
                "a deploy has no auto rollback: the host's document would be too large"
            );
            return Ok(None);
        };
        self.room = room;
        let fallback = Fallback { revision: back.number, services };
        Ok(Some(AutoRollback { seconds: self.services.config.deploy.auto_rollback_s, fallback }))
    }

    /// The services of a revision, their environments sealed to the host, and the bytes of these.
    fn services(
        &self,
        deployment: &Deployment,
        revision: &RevisionRecord,
    ) -> Result<(Services, u64), DocumentError> {
        let id = deployment.id;
        let stored = self.tables.environments(id, revision.number)?;
        let (mut specs, mut bytes) = (Vec::new(), 0);
        for service in revision.services.iter() {
            let sealed = stored.get(&service.name);
            let env = sealed.map(|sealed| self.open(id, revision.number, service.name, sealed));
            let env = env.transpose()?;
            bytes += env.as_ref().map_or(0, |env| env.expose().len() as u64);
            specs.push(self.service(deployment, revision, service, env.as_ref())?);
        }
        let services = Services::try_from(specs);
        Ok((services.map_err(|source| DocumentError::Services { deployment: id, source })?, bytes))
    }

    fn service(
        &self,
        deployment: &Deployment,
        revision: &RevisionRecord,
        service: &Service,
        env: Option<&Secret>,
    ) -> Result<ServiceSpec, DocumentError> {
        let id = deployment.id;
        let seal = |env| Sealed::seal(&self.host.sealing_key, Sealed::ENVIRONMENT, id, env);
        Ok(ServiceSpec {
            name: service.name,
            revision: service.introduced,
            spec: spec_digest(&self.services.vault, id, service, env),
            replicas: service.replicas.get(),
            public: revision.services.is_public(service.name),
            image: service.image.clone(),
            digest: service.digest.clone(),
            port: service.port,
            limits: deployment.limits,
            probe: service.probe.clone(),
            strategy: service.strategy,
            env: env.map(seal).transpose()?,
            registry_credentials: None,
        })
    }

    fn open(
        &self,
        id: DeploymentId,
        number: Revision,
        service: ServiceName,
        sealed: &[u8],
    ) -> Result<Secret, DocumentError> {
        let context = EncryptionContext::Environment(id, number, service);
        let opened = self.services.vault.open_sealed(context, sealed);
        opened.map_err(|source| DocumentError::Vault { deployment: id, source })
    }
}

fn take(rows: &mut Vec<RevisionRecord>, number: Revision) -> Option<RevisionRecord> {
    let index = rows.iter().position(|row| row.number == number)?;
    Some(rows.swap_remove(index))
}

#[cfg(test)]
mod tests;
