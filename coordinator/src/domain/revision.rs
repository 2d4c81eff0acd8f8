//! The immutable revisions of a deployment.

use buddo_shared::id::Revision;
use buddo_shared::image::{Digest, ImageReference};
use buddo_shared::manifest::Strategy;
use buddo_shared::name::HostName;
use buddo_shared::port::Port;
use buddo_shared::probe::Probe;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::failure::Failure;
use super::history::Past;

/// One revision: its content, immutable except for the digest, which is set once; and its outcome.
/// The environment is stored separately: it can be large, and most readers do not need it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RevisionRecord {
    pub number: Revision,
    /// The image as the operator named it.
    pub image: ImageReference,
    /// The digest of the image when a host pulled it.
    pub digest: Option<Digest>,
    /// The port inside the container.
    pub port: Port,
    /// The names it is served under besides the subdomain.
    pub domains: Vec<HostName>,
    /// Its health probe.
    pub probe: Probe,
    /// How it replaces the previous revision.
    pub strategy: Strategy,
    /// The revision it was copied from, if a rollback made it.
    pub rollback_of: Option<Revision>,
    pub created_at: Timestamp,
    /// When its host first reported that it answers visitors.
    pub live_at: Option<Timestamp>,
    /// Why its host gave up on it.
    pub failure: Option<Failure>,
}

impl RevisionRecord {
    /// A new revision with the same content and no outcome yet.
    #[must_use]
    pub fn again(&self, number: Revision, created_at: Timestamp) -> Self {
        Self { number, created_at, rollback_of: None, live_at: None, failure: None, ..self.clone() }
    }

    /// Whether `other` has the same content, environments excluded. Images are compared by digest,
    /// since a tag can move.
    pub fn means(&self, other: &Self) -> bool {
        self.image.repository() == other.image.repository()
            && self.image.registry() == other.image.registry()
            && self.digest == other.digest
            && self.port == other.port
            && self.domains == other.domains
            && self.probe == other.probe
            && self.strategy == other.strategy
    }

    /// Its outcome.
    pub fn past(&self) -> Past {
        Past {
            number: self.number,
            was_live: self.live_at.is_some(),
            given_up: self.failure.is_some(),
            resolved: self.digest.is_some(),
        }
    }
}
