//! One deployment of a document: its current revision, its fallback, and the images to keep.

use buddo_runtime::error_chain::chain;
use buddo_shared::id::{DeploymentId, Revision};
use buddo_shared::image::ImageReference;
use buddo_shared::manifest::{AutoRollback, DeploymentSpec, Fallback, RunState};
use buddo_shared::sealed::Sealed;
use jiff::{SignedDuration, Timestamp};

use crate::domain::deployment::Deployment;
use crate::domain::encryption::EncryptionContext;
use crate::domain::history::{self, Past};
use crate::domain::revision::RevisionRecord;
use crate::domain::scheduler::MAX_FALLBACK_BYTES;
use crate::hosts::document::DocumentError;
use crate::state::Services;
use crate::store::contract::Host;
use crate::store::{StoreError, Tables};

/// How long after the auto-rollback window a document still carries the fallback: the host's clock
/// decides when the switch was, and may be off by this much.
const SLACK: SignedDuration = SignedDuration::from_hours(1);

/// Writes deployments into the document of one host, in order of creation, so that the same state
/// makes the same document.
pub(super) struct Writer<'a> {
    tables: &'a dyn Tables,
    services: &'a Services,
    host: &'a Host,
    now: Timestamp,
    /// Bytes of environments still available for fallbacks.
    room: u64,
}

impl<'a> Writer<'a> {
    pub(super) fn new(
        tables: &'a dyn Tables,
        services: &'a Services,
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
        let guard = match back {
            Some(back) if self.is_watched(deployment, &current) => {
                self.guard(deployment.id, back)?
            }
            _ => None,
        };
        Ok(DeploymentSpec {
            id: deployment.id,
            revision: current.number,
            subdomain: deployment.subdomain.clone(),
            run: deployment.run,
            image: current.image,
            digest: current.digest,
            port: current.port,
            limits: deployment.limits,
            domains: current.domains,
            probe: current.probe,
            strategy: current.strategy,
            env: self.env(deployment.id, current.number)?.map(|(env, _)| env),
            registry_credentials: None,
            guard: guard.map(Box::new),
            kept_images,
        })
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
            let pinned = row.digest.as_ref().map(|digest| row.image.pinned(digest));
            images.extend(pinned.filter(|image| !images.contains(image)));
        }
        images
    }

    /// Whether the auto-rollback window of `current` may still be open on its host; after that, the
    /// fallback would only make the document larger.
    fn is_watched(&self, deployment: &Deployment, current: &RevisionRecord) -> bool {
        let seconds = self.services.config.deploy.guard_s;
        let window = SignedDuration::from_secs(seconds.into()) + SLACK;
        let open = |since: Timestamp| self.now.duration_since(since) < window;
        let running = deployment.run == RunState::Running;
        seconds > 0 && running && current.live_at.is_none_or(open)
    }

    fn guard(
        &mut self,
        id: DeploymentId,
        back: RevisionRecord,
    ) -> Result<Option<AutoRollback>, DocumentError> {
        let Some(digest) = back.digest else { return Ok(None) };
        let env = match self.env(id, back.number) {
            Ok(env) => env,
            Err(error) if error.is_of_one() => {
                tracing::error!(
                    host = %self.host.id, deployment = %id, error = %chain(&error),
                    "a deploy has no guard: the revision to put back cannot be read"
                );
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        let bytes = env.as_ref().map_or(0, |(_, bytes)| *bytes);
        let Some(room) = self.room.checked_sub(bytes) else {
            tracing::warn!(
                host = %self.host.id,
                deployment = %id,
                "a deploy has no guard: the host's document would be too large"
            );
            return Ok(None);
        };
        self.room = room;
        let fallback = Fallback {
            revision: back.number,
            image: back.image,
            digest,
            port: back.port,
            probe: back.probe,
            env: env.map(|(env, _)| env),
            registry_credentials: None,
        };
        Ok(Some(AutoRollback { seconds: self.services.config.deploy.guard_s, fallback }))
    }

    /// The environment of a revision, sealed to the host, and its length.
    fn env(
        &self,
        id: DeploymentId,
        number: Revision,
    ) -> Result<Option<(Sealed, u64)>, DocumentError> {
        let Some(stored) = self.tables.environment(id, number)? else { return Ok(None) };
        let plain = self
            .services
            .vault
            .open_sealed(EncryptionContext::Environment(id, number), &stored)
            .map_err(|source| DocumentError::Vault { deployment: id, source })?;
        let sealed = Sealed::seal(&self.host.sealing_key, Sealed::ENVIRONMENT, id, &plain)?;
        Ok(Some((sealed, plain.expose().len() as u64)))
    }
}

fn take(rows: &mut Vec<RevisionRecord>, number: Revision) -> Option<RevisionRecord> {
    let index = rows.iter().position(|row| row.number == number)?;
    Some(rows.swap_remove(index))
}

#[cfg(test)]
mod tests;
