//! The services of a revision: what its containers are made from.
//!
//! A host leaves the containers of a service alone as long as the number of the revision that
//! introduced its content stays the same. So the number is the decision: what must run again gets a
//! new one, and what a change does not concern keeps its own.

use std::collections::BTreeMap;
use std::num::NonZeroU16;

use buddo_shared::host_wire::manifest::{self, ServiceSpec, Strategy};
use buddo_shared::model::id::{DeploymentId, Revision};
use buddo_shared::model::image::{Digest, ImageReference};
use buddo_shared::model::port::Port;
use buddo_shared::model::probe::Probe;
use buddo_shared::model::secret::Secret;
use buddo_shared::model::workload::{ServiceName, SpecDigest};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// One service. Of its content nothing changes but the image digest, which is set once. The
/// environment is stored separately: it can be large, and most readers do not need it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Service {
    pub name: ServiceName,
    /// The revision that introduced this content.
    pub introduced: Revision,
    pub replicas: NonZeroU16,
    /// The image as the operator named it.
    pub image: ImageReference,
    /// The digest of the image when a host pulled it.
    pub digest: Option<Digest>,
    /// The port inside the container.
    pub port: Port,
    pub probe: Probe,
    /// How it replaces its previous content.
    pub strategy: Strategy,
}

/// The digest of each service's content, as far as the content can be read.
pub type Specs = BTreeMap<ServiceName, SpecDigest>;

impl Service {
    /// What its [`SpecDigest`] is made of: everything that a container is started and judged by.
    /// Not the number of replicas, nor whether it is public: both change without a restart. Not the
    /// image digest either, which is unknown until a host has pulled the image.
    ///
    /// Digests are made from it when they are needed and stored nowhere, so that a later version
    /// can change this form: it only ever compares digests that it made itself.
    pub fn content(&self, deployment: DeploymentId, env: Option<&Secret>) -> Zeroizing<Vec<u8>> {
        // The environment's bytes are appended once: a buffer that grew would leave some behind.
        let Self { name, image, port, probe, strategy, .. } = self;
        let open = ("service", 1, deployment, name, image, port, probe, strategy);
        // Text and numbers always serialise.
        let open = serde_json::to_string(&open).unwrap_or_default();
        let secret = env.map_or(&[][..], |env| env.expose().as_bytes());
        let mut content = Zeroizing::new(Vec::with_capacity(open.len() + 1 + secret.len()));
        content.extend_from_slice(open.as_bytes());
        // After JSON, this byte is its end: no two contents have the same bytes.
        content.push(u8::from(env.is_some()));
        content.extend_from_slice(secret);
        content
    }

    fn spec<'a>(&self, specs: &'a Specs) -> Option<&'a SpecDigest> {
        specs.get(&self.name)
    }

    /// Whether `other`, which runs, already is what `self` asks for: the same settings, and the same
    /// bytes where it asks for certain ones. A tag without them asks for what it meant when it was
    /// first pulled; only a restart asks for what it means now.
    fn is_met_by(
        &self,
        spec: Option<&SpecDigest>,
        other: &Self,
        other_spec: Option<&SpecDigest>,
    ) -> bool {
        let bytes = self.digest.is_none() || self.digest == other.digest;
        spec.is_some() && spec == other_spec && bytes
    }
}

/// The services of one revision: exactly one is public, and each name is there once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Parts", into = "Parts")]
pub struct Services {
    public: Service,
    /// By name.
    internal: Vec<Service>,
}

#[derive(Serialize, Deserialize)]
struct Parts {
    public: Service,
    internal: Vec<Service>,
}

/// What hosts would refuse.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ServicesError {
    #[error("has {0} services; at most {max} are possible", max = manifest::Services::MAX)]
    TooMany(usize),
    #[error("has two services with the name {0}")]
    Twice(ServiceName),
    #[error(
        "has {replicas} replicas of the service {service}; at most {max} are possible",
        max = ServiceSpec::MAX_REPLICAS
    )]
    Replicas { service: ServiceName, replicas: NonZeroU16 },
}

impl Services {
    /// Those of an app that is a single container.
    pub const fn single(service: Service) -> Self {
        Self { public: service, internal: Vec::new() }
    }

    /// `public` is the one that visitors reach.
    pub fn new(public: Service, mut internal: Vec<Service>) -> Result<Self, ServicesError> {
        if internal.len() >= manifest::Services::MAX {
            return Err(ServicesError::TooMany(internal.len().saturating_add(1)));
        }
        internal.sort_unstable_by_key(|service| service.name);
        let services = Self { public, internal };
        let mut names: Vec<ServiceName> = services.iter().map(|service| service.name).collect();
        names.sort_unstable();
        if let Some(pair) = names.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(ServicesError::Twice(pair[0]));
        }
        let too_many = |service: &&Service| service.replicas.get() > ServiceSpec::MAX_REPLICAS;
        if let Some(&Service { name: service, replicas, .. }) = services.iter().find(too_many) {
            return Err(ServicesError::Replicas { service, replicas });
        }
        Ok(services)
    }

    /// The one that visitors reach.
    pub const fn public(&self) -> &Service {
        &self.public
    }

    pub fn into_public(self) -> Service {
        self.public
    }

    pub fn is_public(&self, name: ServiceName) -> bool {
        self.public.name == name
    }

    pub fn get(&self, name: ServiceName) -> Option<&Service> {
        self.iter().find(|service| service.name == name)
    }

    /// The public one, then the others by name.
    pub fn iter(&self) -> impl Iterator<Item = &Service> {
        std::iter::once(&self.public).chain(&self.internal)
    }

    /// Whether all images are known to the byte.
    pub fn are_resolved(&self) -> bool {
        self.iter().all(|service| service.digest.is_some())
    }

    fn map(&self, each: impl Fn(&Service) -> Service) -> Self {
        let internal = self.internal.iter().map(&each).collect();
        Self { public: each(&self.public), internal }
    }

    /// The same content as new content of revision `number`: all of it is started again.
    #[must_use]
    pub fn introduced_by(&self, number: Revision) -> Self {
        self.map(|service| Service { introduced: number, ..service.clone() })
    }

    /// The same without the digests that hosts found: tags are resolved again.
    #[must_use]
    pub fn unresolved(&self) -> Self {
        self.map(|service| Service { digest: service.image.digest().cloned(), ..service.clone() })
    }

    /// The same content for revision `number`, which replaces a revision that runs `current`. A
    /// service that runs already keeps its number, and its bytes.
    #[must_use]
    pub fn following(
        &self,
        specs: &Specs,
        (current, current_specs): (&Self, &Specs),
        number: Revision,
    ) -> Self {
        self.map(|service| {
            let runs = current.get(service.name).filter(|runs| {
                service.is_met_by(service.spec(specs), runs, runs.spec(current_specs))
            });
            let (introduced, digest) = match runs {
                Some(runs) => (runs.introduced, runs.digest.clone()),
                None => (number, service.digest.clone()),
            };
            Service { introduced, digest, ..service.clone() }
        })
    }

    /// Whether a change to them from `other` would change nothing: the same names, of which the
    /// same one is public, and each with the same content and as many replicas.
    pub fn are_met_by(&self, specs: &Specs, (other, other_specs): (&Self, &Specs)) -> bool {
        let same = |(one, other): (&Service, &Service)| {
            (one.name, one.replicas) == (other.name, other.replicas)
                && one.is_met_by(one.spec(specs), other, other.spec(other_specs))
        };
        self.internal.len() == other.internal.len() && self.iter().zip(other.iter()).all(same)
    }
}

impl TryFrom<Parts> for Services {
    type Error = ServicesError;

    fn try_from(Parts { public, internal }: Parts) -> Result<Self, ServicesError> {
        Self::new(public, internal)
    }
}

impl From<Services> for Parts {
    fn from(Services { public, internal }: Services) -> Self {
        Self { public, internal }
    }
}

#[cfg(test)]
mod tests;
