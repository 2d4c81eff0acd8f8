//! The immutable revisions of deployments.

use buddo_shared::id::{DeploymentId, Revision};
use buddo_shared::image::Digest;
use jiff::Timestamp;

use super::Result;
use crate::domain::failure::Failure;
use crate::domain::revision::RevisionRecord;

pub trait Revisions {
    fn revision(&self, id: DeploymentId, number: Revision) -> Result<Option<RevisionRecord>>;
    /// All kept revisions, oldest first.
    fn revisions(&self, id: DeploymentId) -> Result<Vec<RevisionRecord>>;
    /// The environment of a revision, encrypted under the master key; `None` when empty or
    /// destroyed.
    fn environment(&self, id: DeploymentId, number: Revision) -> Result<Option<Vec<u8>>>;
    /// The highest existing revision, which may be higher than the current one.
    fn last_revision(&self, id: DeploymentId) -> Result<Option<Revision>>;
    /// Stores a new revision with its environment.
    fn insert_revision(
        &mut self,
        id: DeploymentId,
        revision: &RevisionRecord,
        env: Option<&[u8]>,
    ) -> Result<()>;
    /// Stores the digest of a revision's image, if it is not known yet.
    fn set_digest(&mut self, id: DeploymentId, number: Revision, digest: &Digest) -> Result<()>;
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
