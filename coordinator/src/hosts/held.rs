//! Deployments that cannot be put into a document because their stored record cannot be read. Each
//! is held as its host has it, and does not block the others.

use std::collections::HashMap;

use buddo_runtime::error_chain::chain;
use buddo_shared::host_wire::manifest::{DeploymentSpec, RunState};
use buddo_shared::host_wire::signed::Verifier;
use buddo_shared::model::id::{DeploymentId, HostId};

use super::document::DocumentError;
use crate::domain::deployment::Deployment;
use crate::domain::failure::Failure;
use crate::service::deployments::MAKE_AGAIN;
use crate::state::Services;
use crate::store::{StoreError, Tables};

/// What a host has, according to the last document signed for it.
pub(super) struct Held<'a> {
    tables: &'a dyn Tables,
    services: &'a Services,
    host: HostId,
    /// Loaded on first use.
    last: Option<HashMap<DeploymentId, DeploymentSpec>>,
    /// The deployments held, with a message for their owners: why, and what to do.
    pub(super) told: Vec<(DeploymentId, Failure)>,
}

impl<'a> Held<'a> {
    pub(super) fn new(tables: &'a dyn Tables, services: &'a Services, host: HostId) -> Self {
        Self { tables, services, host, last: None, told: Vec::new() }
    }

    /// The entry of a deployment that cannot be read because of `error`; `None`: its host never had
    /// one. A stop or suspension still takes effect, even if that is all that can be read of its
    /// row.
    pub(super) fn entry(
        &mut self,
        id: DeploymentId,
        row: Option<&Deployment>,
        error: &DocumentError,
    ) -> Result<Option<DeploymentSpec>, DocumentError> {
        tracing::error!(
            host = %self.host, deployment = %id, error = %chain(error),
            "a deployment cannot be put into its host's document and is held as it was"
        );
        if self.last.is_none() {
            self.last = Some(self.read()?);
        }
        let mut entry = self.last.as_mut().and_then(|last| last.remove(&id));
        if let Some(entry) = &mut entry
            && let Some(run) = self.run(id, row)?
        {
            entry.run = run;
        }
        let (code, cause, fix) = if let DocumentError::Vault { .. } = error {
            ("environment_lost", "its environment cannot be decrypted", MAKE_AGAIN)
        } else {
            let fix = "ask the platform's administrator, whose log says more";
            ("record_damaged", "its stored record is damaged", fix)
        };
        let stays = if entry.is_some() { "its host keeps what it has" } else { "it does not run" };
        let cause = format!("{cause}: {stays}, and no change takes effect");
        self.told.push((id, Failure::new(code, cause, fix)));
        Ok(entry)
    }

    /// The desired run state; `None`: not even that can be read.
    fn run(
        &self,
        id: DeploymentId,
        row: Option<&Deployment>,
    ) -> Result<Option<RunState>, StoreError> {
        if let Some(row) = row {
            return Ok(Some(row.run));
        }
        match self.tables.outline(id) {
            Err(StoreError::Corrupt { .. }) => Ok(None),
            outline => Ok(outline?.and_then(|outline| outline.run)),
        }
    }

    /// Empty if there was no document yet. One that cannot be read is an error: without the
    /// previous entries, the next document would remove from the host what runs there.
    fn read(&self) -> Result<HashMap<DeploymentId, DeploymentSpec>, DocumentError> {
        let Some(envelope) = self.tables.last_document(self.host)? else {
            return Ok(HashMap::new());
        };
        let keys = self.services.keys.keys();
        let signers = keys.old().into_iter().chain([keys.newest()]);
        let signers: Vec<_> = signers.map(|signer| signer.public().clone()).collect();
        let verifier = Verifier::new(self.host, &signers).map_err(DocumentError::Keys)?;
        let verified = verifier.verify(&envelope).map_err(DocumentError::Last)?;
        let entries = verified.into_inner().deployments.into_iter();
        Ok(entries.map(|entry| (entry.id, entry)).collect())
    }
}

#[cfg(test)]
mod tests;
