//! The desired state of one host: the payload of the signed document.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::id::{DeploymentId, Generation, HostId, Revision};
use crate::image::{Digest, ImageReference};
use crate::limits::Limits;
use crate::name::{HostName, Subdomain};
use crate::port::Port;
use crate::probe::Probe;
use crate::sealed::Sealed;

/// The schema this program writes and reads. A reader refuses a newer one by name.
pub const SCHEMA: u32 = 1;

/// All that one host shall run. What is absent shall not exist.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// [`SCHEMA`] of the writer.
    pub schema: u32,
    /// The only host this document is for.
    pub host_id: HostId,
    /// Its place in the order of documents.
    #[serde(flatten)]
    pub generation: Generation,
    /// When it was signed.
    pub issued_at: Timestamp,
    /// After this it is refused on arrival; one already held keeps running and counts as stale.
    pub expires_at: Timestamp,
    /// The zone that subdomains lie in.
    pub zone: HostName,
    /// The deployments, in no particular order.
    pub deployments: Vec<Desired>,
}

/// One deployment as it shall be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Desired {
    /// Which deployment.
    pub id: DeploymentId,
    /// Its current revision. A revision is immutable, so a new number is the only sign of change.
    pub revision: Revision,
    /// Its name in the zone.
    pub subdomain: Subdomain,
    /// Whether it shall serve.
    pub run: RunState,
    /// The image as the operator named it.
    pub image: ImageReference,
    /// The bytes that this revision means, once a host has resolved them. `None`: pull the tag
    /// and report what it is.
    pub digest: Option<Digest>,
    /// The port inside the container.
    pub port: Port,
    /// The tier's limits.
    pub limits: Limits,
    /// Verified host names besides the subdomain.
    pub domains: Vec<HostName>,
    /// How its health is asked.
    pub probe: Probe,
    /// How a new revision replaces the old one.
    pub strategy: Strategy,
    /// The environment, sealed to the host with [`Sealed::ENVIRONMENT`].
    pub env: Option<Sealed>,
    /// Credentials for the image's registry, sealed with [`Sealed::REGISTRY`].
    pub registry_credentials: Option<Sealed>,
}

/// Whether a deployment shall serve.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunState {
    /// It shall serve.
    Running,
    /// Its container is stopped; visitors see the 'stopped' page.
    Stopped,
    /// As stopped, by the platform; visitors see the 'suspended' page.
    Suspended,
}

/// How a new revision replaces the old one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Strategy {
    /// Start the new one beside the old one, switch when it is healthy, then stop the old one.
    #[default]
    Rolling,
    /// Stop the old one first; requests are held meanwhile.
    Recreate,
}

/// Registry credentials, as the JSON inside [`Desired::registry_credentials`].
#[derive(Debug, Clone, Deserialize, Serialize)]
pub struct RegistryCredentials {
    /// User name.
    pub username: String,
    /// Password or token.
    #[serde(serialize_with = "crate::secret::exposed")]
    pub password: crate::secret::Secret,
}
