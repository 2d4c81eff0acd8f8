//! The immutable revisions of deployments.

use buddo_shared::id::{DeploymentId, Revision};
use buddo_shared::image::{Digest, ImageReference};
use buddo_shared::manifest::Strategy;
use buddo_shared::name::HostName;
use buddo_shared::port::Port;
use buddo_shared::probe::Probe;
use jiff::Timestamp;

use super::Result;
use crate::domain::history::Past;

/// One revision: what it means, of which nothing changes but the digest, once, from unknown to
/// known; and what became of it. Its environment is apart
/// ([`environment`](Revisions::environment)): it can be large, and most readers want none of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RevisionRow {
    /// Its number.
    pub number: Revision,
    /// The image as the operator named it.
    pub image: ImageReference,
    /// The bytes that the image meant when a host pulled it.
    pub digest: Option<Digest>,
    /// The port inside the container.
    pub port: Port,
    /// The names it is served under besides the subdomain.
    pub domains: Vec<HostName>,
    /// How its health is asked.
    pub probe: Probe,
    /// How it replaces the one before.
    pub strategy: Strategy,
    /// The revision whose content it took over, where a rollback made it.
    pub rollback_of: Option<Revision>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When its host first said that it answers visitors.
    pub live_at: Option<Timestamp>,
    /// Why its host gave it up, and what to do: one line each.
    pub failure: Option<String>,
}

impl RevisionRow {
    /// A further revision of the same content; nothing is known of it yet.
    #[must_use]
    pub fn again(&self, number: Revision, created_at: Timestamp) -> Self {
        Self { number, created_at, rollback_of: None, live_at: None, failure: None, ..self.clone() }
    }

    /// Whether `other` means the same, environments apart. A tag says nothing: what counts is the
    /// bytes.
    pub fn means(&self, other: &Self) -> bool {
        self.image.repository() == other.image.repository()
            && self.image.registry() == other.image.registry()
            && self.digest == other.digest
            && self.port == other.port
            && self.domains == other.domains
            && self.probe == other.probe
            && self.strategy == other.strategy
    }

    /// What became of it.
    pub fn past(&self) -> Past {
        Past {
            number: self.number,
            was_live: self.live_at.is_some(),
            given_up: self.failure.is_some(),
            resolved: self.digest.is_some(),
        }
    }
}

/// Access to revisions.
pub trait Revisions {
    /// One revision.
    fn revision(&self, id: DeploymentId, number: Revision) -> Result<Option<RevisionRow>>;
    /// All that are kept, oldest first.
    fn revisions(&self, id: DeploymentId) -> Result<Vec<RevisionRow>>;
    /// The environment of a revision, encrypted under the master key; `None` when empty or
    /// destroyed.
    fn environment(&self, id: DeploymentId, number: Revision) -> Result<Option<Vec<u8>>>;
    /// The highest revision there is, which may be higher than the current one.
    fn last_revision(&self, id: DeploymentId) -> Result<Option<Revision>>;
    /// Stores a further revision with its environment.
    fn insert_revision(
        &mut self,
        id: DeploymentId,
        revision: &RevisionRow,
        env: Option<&[u8]>,
    ) -> Result<()>;
    /// Stores what a revision's image was resolved to, if that is not known yet.
    fn set_digest(&mut self, id: DeploymentId, number: Revision, digest: &Digest) -> Result<()>;
    /// Notes when a revision was first live; whether that is new.
    fn set_live(&mut self, id: DeploymentId, number: Revision, at: Timestamp) -> Result<bool>;
    /// Notes why a revision was given up; whether that is new.
    fn set_failure(&mut self, id: DeploymentId, number: Revision, why: &str) -> Result<bool>;
    /// Forgets revisions with their environments.
    fn forget_revisions(&mut self, id: DeploymentId, numbers: &[Revision]) -> Result<()>;
    /// Deployments, not destroyed, that have more than `keep` revisions: at most `limit` of them in
    /// the order of their ids, after `after`.
    fn with_many_revisions(
        &self,
        keep: usize,
        after: Option<DeploymentId>,
        limit: u32,
    ) -> Result<Vec<DeploymentId>>;
    /// Erases the environments of all revisions of a deployment.
    fn erase_env(&mut self, id: DeploymentId) -> Result<()>;
}
