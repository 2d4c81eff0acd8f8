//! The immutable revisions of deployments.

use std::collections::BTreeMap;

use buddo_shared::model::id::{DeploymentId, Revision};
use buddo_shared::model::image::Digest;
use buddo_shared::model::workload::ServiceName;
use jiff::Timestamp;

use super::Result;
use crate::domain::failure::Failure;
use crate::domain::revision::RevisionRecord;

/// Environments of a revision's services, encrypted under the master key. One that is empty or was
/// erased is not in it.
pub type SealedEnvironments = BTreeMap<ServiceName, Vec<u8>>;

pub trait Revisions {
    fn revision(&self, id: DeploymentId, number: Revision) -> Result<Option<RevisionRecord>>;
    /// All kept revisions, oldest first.
    fn revisions(&self, id: DeploymentId) -> Result<Vec<RevisionRecord>>;
    fn environments(&self, id: DeploymentId, number: Revision) -> Result<SealedEnvironments>;
    /// The names of a revision's services and which revision introduced each; the public one first.
    /// Empty if there is no such revision. Readable even if the rest of it is not.
    fn introduced(
        &self,
        id: DeploymentId,
        number: Revision,
    ) -> Result<Vec<(ServiceName, Revision)>>;
    /// Whether any kept revision has a service of this name.
    fn had_service(&self, id: DeploymentId, name: ServiceName) -> Result<bool>;
    /// The highest existing revision, which may be higher than the current one.
    fn last_revision(&self, id: DeploymentId) -> Result<Option<Revision>>;
    /// Stores a new revision with its environments.
    fn insert_revision(
        &mut self,
        id: DeploymentId,
        revision: &RevisionRecord,
        envs: &SealedEnvironments,
    ) -> Result<()>;
    /// Stores the image digest of the content that revision `introduced` brought a service, if it is
    /// not known yet: for every revision that has this content.
    fn set_digest(
        &mut self,
        id: DeploymentId,
        service: ServiceName,
        introduced: Revision,
        digest: &Digest,
    ) -> Result<()>;
    /// Records when a revision was first live; returns whether that is new.
    fn set_live(&mut self, id: DeploymentId, number: Revision, at: Timestamp) -> Result<bool>;
    /// Records why a revision was given up; returns whether that is new.
    fn set_failure(&mut self, id: DeploymentId, number: Revision, why: &Failure) -> Result<bool>;
    /// Deletes revisions with their environments.
    fn forget_revisions(&mut self, id: DeploymentId, numbers: &[Revision]) -> Result<()>;
    /// Deployments, not destroyed, that have more than `keep` revisions: at most `limit`, in the
    /// order of their ids, after `after`.
    fn with_many_revisions(
        &self,
        keep: usize,
        after: Option<DeploymentId>,
        limit: u32,
    ) -> Result<Vec<DeploymentId>>;
    /// Erases the environments of all revisions of a deployment.
    fn erase_env(&mut self, id: DeploymentId) -> Result<()>;
}
