//! Deployments that cannot be put into a document: what is stored of them cannot be read. Each stays
//! as its host has it, and is in the way of no other.

use std::collections::HashMap;

use buddo_runtime::error_chain::chain;
use buddo_shared::id::{DeploymentId, HostId};
use buddo_shared::manifest::{DeploymentSpec, RunState};
use buddo_shared::signed::Verifier;

use super::document::DocumentError;
use crate::domain::deployment::Deployment;
use crate::domain::failure::Failure;
use crate::service::deployments::MAKE_AGAIN;
use crate::state::Services;
use crate::store::{StoreError, Tables};

/// What a host has, by the last document that was signed for it.
pub(super) struct Held<'a> {
    tables: &'a dyn Tables,
    services: &'a Services,
    host: HostId,
    /// Read when the first one is needed.
    last: Option<HashMap<DeploymentId, DeploymentSpec>>,
    /// Which are held, with words for their owners: why, and what to do.
    pub(super) told: Vec<(DeploymentId, Failure)>,
}

impl<'a> Held<'a> {
    pub(super) fn new(tables: &'a dyn Tables, services: &'a Services, host: HostId) -> Self {
        Self { tables, services, host, last: None, told: Vec::new() }
    }

    /// The entry of a deployment that cannot be read for `error`; `None`: its host never had one.
    /// That it is to be stopped or parked is obeyed, also where that is all that can be read of its row.
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
        let (code, cause, fix) = match error {
            DocumentError::Vault { .. } => {
                ("environment_lost", "its environment cannot be decrypted", MAKE_AGAIN)
            }
            _ => {
                let fix = "ask the platform's administrator, whose log says more";
                ("record_damaged", "what is stored of it is damaged", fix)
            }
        };
        let stays = if entry.is_some() { "what its host has stays" } else { "it does not run" };
        let cause = format!("{cause}: {stays}, and no change takes effect");
        self.told.push((id, Failure::new(code, cause, fix)));
        Ok(entry)
    }

    /// What its host is asked for; `None`: not even that can be read.
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

    /// Nothing where there was no document yet. One that cannot be read is an error: without what it
    /// has, the next document would take from the host what runs there.
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
