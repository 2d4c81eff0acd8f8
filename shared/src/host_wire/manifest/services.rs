//! The services of a revision.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::Strategy;
use crate::host_wire::sealed::Sealed;
use crate::model::id::Revision;
use crate::model::image::{Digest, ImageReference};
use crate::model::limits::Limits;
use crate::model::port::Port;
use crate::model::probe::Probe;
use crate::model::workload::{ReplicaIndex, ServiceName, SpecDigest};

/// One service: one or more equal containers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceSpec {
    /// Its name, unique within the deployment.
    pub name: ServiceName,
    /// The deployment revision that introduced this content. A service that later revisions do not
    /// change keeps its number, so the host leaves its containers alone; a restart is a new number
    /// with the same content.
    pub revision: Revision,
    /// Digest of the content. Two specs of one service with the same revision have the same.
    pub spec: SpecDigest,
    /// How many equal containers it has: at least one, at most [`MAX_REPLICAS`](Self::MAX_REPLICAS).
    pub replicas: u16,
    /// Whether the subdomain and the domains lead to it. Exactly one service of a deployment is.
    pub public: bool,
    /// The image as the operator named it.
    pub image: ImageReference,
    /// The image digest of this content, once a host has resolved it. `None`: pull the tag and
    /// report its digest.
    pub digest: Option<Digest>,
    /// The port inside the container.
    pub port: Port,
    /// Limits of each of its containers.
    pub limits: Limits,
    /// Its health probe.
    pub probe: Probe,
    /// How new content replaces the old.
    pub strategy: Strategy,
    /// The environment, sealed to the host with [`Sealed::ENVIRONMENT`].
    pub env: Option<Sealed>,
    /// Credentials for the image's registry, sealed with [`Sealed::REGISTRY`].
    pub registry_credentials: Option<Sealed>,
}

impl ServiceSpec {
    /// The most replicas of one service on one host: as many addresses as surely fit into one answer
    /// of a host's resolver (512 bytes; RFC 1035, 2.3.4), so that visitors reach all of them.
    pub const MAX_REPLICAS: u16 = 12;

    /// The indexes of its replicas, in order.
    pub fn replica_indexes(&self) -> impl DoubleEndedIterator<Item = ReplicaIndex> + use<> {
        (0..self.replicas).map(ReplicaIndex::new)
    }
}

/// The services of one revision: at least one, each name once, exactly one public. A boxed slice:
/// agents keep one for each of a thousand deployments, and a `Vec` read from JSON has room for four.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<ServiceSpec>")]
pub struct Services(Box<[ServiceSpec]>);

/// Why a list of services is not [`Services`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ServicesError {
    /// None, or too many.
    #[error("has {0} services; it takes 1 to {max}", max = Services::MAX)]
    Count(usize),
    /// Two with one name.
    #[error("has two services with the name {0}")]
    Twice(ServiceName),
    /// None is public, or several are.
    #[error("has {0} public services; visitors reach exactly one")]
    Public(usize),
    /// No replica, or too many.
    #[error(
        "has the service {service} with {replicas} replicas; it takes 1 to {max}",
        max = ServiceSpec::MAX_REPLICAS
    )]
    Replicas {
        /// The service.
        service: ServiceName,
        /// Its number of replicas.
        replicas: u16,
    },
}

impl Services {
    /// The most services of a deployment.
    pub const MAX: usize = 16;

    /// The one that visitors reach.
    pub fn public(&self) -> &ServiceSpec {
        // Exactly one is public by construction, so the first is never taken for want of one.
        self.0.iter().find(|service| service.public).unwrap_or(&self.0[0])
    }

    /// The one with this name.
    pub fn get(&self, name: ServiceName) -> Option<&ServiceSpec> {
        self.0.iter().find(|service| service.name == name)
    }

    /// All of them, in the order of the document.
    pub fn iter(&self) -> std::slice::Iter<'_, ServiceSpec> {
        self.0.iter()
    }

    /// All of them, in the order of the document.
    pub fn as_slice(&self) -> &[ServiceSpec] {
        &self.0
    }
}

impl TryFrom<Vec<ServiceSpec>> for Services {
    type Error = ServicesError;

    fn try_from(services: Vec<ServiceSpec>) -> Result<Self, ServicesError> {
        if !(1..=Self::MAX).contains(&services.len()) {
            return Err(ServicesError::Count(services.len()));
        }
        let mut names = BTreeSet::new();
        for service in &services {
            if !names.insert(service.name) {
                return Err(ServicesError::Twice(service.name));
            }
            if !(1..=ServiceSpec::MAX_REPLICAS).contains(&service.replicas) {
                let ServiceSpec { name: service, replicas, .. } = *service;
                return Err(ServicesError::Replicas { service, replicas });
            }
        }
        match services.iter().filter(|service| service.public).count() {
            1 => Ok(Self(services.into_boxed_slice())),
            public => Err(ServicesError::Public(public)),
        }
    }
}

impl From<Services> for Vec<ServiceSpec> {
    fn from(services: Services) -> Self {
        services.0.into_vec()
    }
}

impl<'a> IntoIterator for &'a Services {
    type Item = &'a ServiceSpec;
    type IntoIter = std::slice::Iter<'a, ServiceSpec>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}
