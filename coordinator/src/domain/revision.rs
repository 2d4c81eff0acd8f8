//! The immutable revisions of a deployment.

use buddo_shared::model::id::Revision;
use buddo_shared::model::name::HostName;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::failure::Failure;
use super::history::Past;
use super::service::{Services, Specs};

/// One revision: its content, immutable except for image digests, which are set once; and its
/// outcome.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RevisionRecord {
    pub number: Revision,
    pub services: Services,
    /// The names it is served under besides the subdomain.
    pub domains: Vec<HostName>,
    /// The revision it was copied from, if a rollback made it.
    pub rollback_of: Option<Revision>,
    pub created_at: Timestamp,
    /// When its host first reported that it answers visitors.
    pub live_at: Option<Timestamp>,
    /// Why its host gave up on it.
    pub failure: Option<Failure>,
}

impl RevisionRecord {
    /// A new revision with the same content and no outcome yet, of which everything is started
    /// again.
    #[must_use]
    pub fn again(&self, number: Revision, created_at: Timestamp) -> Self {
        self.copied(number, self.services.introduced_by(number), created_at)
    }

    /// The same content as revision `number`, in place of `current`: what runs already goes on
    /// running.
    ///
    /// Not if the host gave up on the current revision, because it does not say on which services:
    /// one of them is to be tried again, and only a new number does that.
    #[must_use]
    pub fn instead_of(
        &self,
        specs: &Specs,
        (current, current_specs): (&Self, &Specs),
        number: Revision,
        created_at: Timestamp,
    ) -> Self {
        if current.failure.is_some() {
            return self.again(number, created_at);
        }
        let services = self.services.following(specs, (&current.services, current_specs), number);
        self.copied(number, services, created_at)
    }

    fn copied(&self, number: Revision, services: Services, created_at: Timestamp) -> Self {
        Self {
            number,
            services,
            domains: self.domains.clone(),
            rollback_of: None,
            created_at,
            live_at: None,
            failure: None,
        }
    }

    /// Whether `other`, the current one, already has this content.
    pub fn is_met_by(&self, specs: &Specs, (other, other_specs): (&Self, &Specs)) -> bool {
        self.domains == other.domains
            && self.services.are_met_by(specs, (&other.services, other_specs))
    }

    /// Its outcome.
    pub fn past(&self) -> Past {
        Past {
            number: self.number,
            was_live: self.live_at.is_some(),
            given_up: self.failure.is_some(),
            resolved: self.services.are_resolved(),
        }
    }
}
