//! What must hold between the parts of a deployment. What must hold of its services alone is
//! [`Services`]' own.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::{DeploymentSpec, Services};
use crate::model::id::{DeploymentId, Revision};
use crate::model::workload::ServiceName;

/// The parts of a deployment contradict each other.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the deployment {deployment} {wrong}")]
pub struct ShapeError {
    /// Which deployment.
    pub deployment: DeploymentId,
    /// What is wrong with it.
    pub wrong: WrongShape,
}

/// How the parts of a deployment contradict each other.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WrongShape {
    /// The content of a service cannot be newer than the revision that it is part of.
    #[error("has the service {service} of revision {introduced} in revision {revision}")]
    FromLater {
        /// The service.
        service: ServiceName,
        /// The revision that is said to have introduced its content.
        introduced: Revision,
        /// The revision that it is part of.
        revision: Revision,
    },
    /// A revision cannot be restored in place of itself.
    #[error("has its own revision {0} as fallback")]
    OwnFallback(Revision),
    /// What the tag of a fallback's image means now is not what served then.
    #[error("has a fallback without a digest for the service {0}")]
    NoDigest(ServiceName),
    /// One number with two contents: the host could not tell them apart.
    #[error("has two contents of the service {service} with the revision {revision}")]
    Ambiguous {
        /// The service.
        service: ServiceName,
        /// The revision of both contents.
        revision: Revision,
    },
}

impl DeploymentSpec {
    /// Checks what must hold between its parts. What was parsed has been checked.
    pub fn check(&self) -> Result<(), ShapeError> {
        self.find_wrong().map_err(|wrong| ShapeError { deployment: self.id, wrong })
    }

    fn find_wrong(&self) -> Result<(), WrongShape> {
        introduced_by(&self.services, self.revision)?;
        let Some(fallback) =
            self.auto_rollback.as_ref().map(|auto_rollback| &auto_rollback.fallback)
        else {
            return Ok(());
        };
        if fallback.revision == self.revision {
            return Err(WrongShape::OwnFallback(self.revision));
        }
        introduced_by(&fallback.services, fallback.revision)?;
        for service in &fallback.services {
            if service.digest.is_none() {
                return Err(WrongShape::NoDigest(service.name));
            }
            let other = self.services.get(service.name);
            let same = other.filter(|other| other.revision == service.revision);
            if same.is_some_and(|same| same.spec != service.spec) {
                let (service, revision) = (service.name, service.revision);
                return Err(WrongShape::Ambiguous { service, revision });
            }
        }
        Ok(())
    }
}

fn introduced_by(services: &Services, revision: Revision) -> Result<(), WrongShape> {
    match services.iter().find(|service| service.revision > revision) {
        Some(later) => {
            let (service, introduced) = (later.name, later.revision);
            Err(WrongShape::FromLater { service, introduced, revision })
        }
        None => Ok(()),
    }
}

impl<'de> Deserialize<'de> for DeploymentSpec {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // The inherent function that is derived.
        let spec = Self::deserialize(deserializer)?;
        spec.check().map_err(de::Error::custom)?;
        Ok(spec)
    }
}

impl Serialize for DeploymentSpec {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Self::serialize(self, serializer)
    }
}
