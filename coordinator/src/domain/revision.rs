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

/// One revision: what it means, of which nothing changes but the digest, once, from unknown to
/// known; and what became of it. Its environment is apart
/// : it can be large, and most readers want none of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RevisionRecord {
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
    /// Why its host gave it up.
    pub failure: Option<Failure>,
}

impl RevisionRecord {
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
