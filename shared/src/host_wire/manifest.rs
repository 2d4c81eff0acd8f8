//! The desired state of one host: the payload of the signed document.
//!
//! The shape of a deployment is checked where it is parsed, so that nothing half valid gets in: its
//! services ([`Services`]), and how they relate to its revision and its fallback ([`ShapeError`]).

mod services;
mod shape;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::host_wire::signed::PublicKey;
use crate::model::id::{DeploymentId, Generation, HostId, Revision};
use crate::model::image::ImageReference;
use crate::model::name::{HostName, Subdomain};

pub use self::services::{ServiceSpec, Services, ServicesError};
pub use self::shape::{ShapeError, WrongShape};

/// The schema that this program writes and reads. A reader refuses any other by its number.
pub const SCHEMA: u32 = 2;

/// Everything that one host should run. What is absent must not exist.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// [`SCHEMA`] of the writer.
    pub schema: u32,
    /// The only host this document is for.
    pub host_id: HostId,
    /// Its position in the order of documents.
    #[serde(flatten)]
    pub generation: Generation,
    /// When it was signed.
    pub issued_at: Timestamp,
    /// After this it is refused on arrival; a host that already holds it keeps running and counts
    /// as stale.
    pub expires_at: Timestamp,
    /// The zone of all subdomains.
    pub zone: HostName,
    /// The deployments, in no particular order.
    pub deployments: Vec<DeploymentSpec>,
    /// The keys and CAs that the host trusts once it holds this document; `None`: unchanged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trust: Option<Trust>,
}

/// The complete set of keys and CAs that a host trusts: what is absent is no longer trusted.
///
/// A rotation is two documents. The first, signed by the old key, names the old and the new one;
/// the second, signed by the new key and sent once the first was acknowledged, names only the new
/// one. So the overlap is explicit, and a host that missed both needs no help to catch up. A
/// document that does not name the key that signed it is refused: it would lock its signer out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trust {
    /// Keys that sign documents; at least one.
    pub signing_keys: Vec<PublicKey>,
    /// Host CAs in PEM form, one certificate each; at least one. The first is the one that issues
    /// certificates now: a host whose certificate is from another one requests its next one early.
    pub cas: Vec<String>,
}

/// The desired state of one deployment: one or more services that are rolled out, and rolled back,
/// together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
// Makes the derived functions inherent ones, which the checked implementations in `shape` call.
#[serde(remote = "Self")]
pub struct DeploymentSpec {
    /// Stays the same through all revisions.
    pub id: DeploymentId,
    /// Its current revision. A revision is immutable, so a new number is the only sign of change.
    pub revision: Revision,
    /// Its name in the zone: where visitors find its public service.
    pub subdomain: Subdomain,
    /// Whether it should serve.
    pub run: RunState,
    /// Verified host names besides the subdomain.
    pub domains: Vec<HostName>,
    /// What it consists of.
    pub services: Services,
    /// What to do if the revision fails after it went live; `None`: no predecessor was ever live.
    #[serde(default, rename = "auto_rollback", skip_serializing_if = "Option::is_none")]
    pub auto_rollback: Option<Box<AutoRollback>>,
    /// Images, pinned by digest, of the revisions that can be restored: never garbage-collected.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub kept_images: Vec<ImageReference>,
}

/// Auto rollback for a revision that has just gone live. The host acts on its own, so that this
/// works while its coordinator is away.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AutoRollback {
    /// Seconds after the switch during which it applies.
    pub seconds: u32,
    /// The revision to restore.
    pub fallback: Fallback,
}

/// A complete revision that served before, so that a host can restore it by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fallback {
    /// The revision to fall back to.
    pub revision: Revision,
    /// All of its services, each with the digest of its image. A service that is the same in both
    /// revisions has the same [`ServiceSpec::revision`] in both, and is left alone.
    pub services: Services,
}

/// The desired run state of a deployment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunState {
    /// Its revision is to serve.
    Running,
    /// Its container is stopped; visitors see the 'stopped' page.
    Stopped,
    /// Stopped by the platform; visitors see the 'suspended' page.
    Suspended,
}

/// How a new revision replaces the old one.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, utoipa::ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Strategy {
    /// Start the new one beside the old one, switch when it is healthy, then stop the old one.
    #[default]
    Rolling,
    /// Stop the old one first; requests are held meanwhile.
    Recreate,
}

/// A text that is not a [`Strategy`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is not a strategy; use rolling or recreate")]
pub struct StrategyError;

impl Strategy {
    /// The word on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Rolling => "rolling",
            Self::Recreate => "recreate",
        }
    }
}

impl std::fmt::Display for Strategy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

impl std::str::FromStr for Strategy {
    type Err = StrategyError;

    fn from_str(text: &str) -> Result<Self, StrategyError> {
        [Self::Rolling, Self::Recreate]
            .into_iter()
            .find(|strategy| strategy.as_str() == text)
            .ok_or(StrategyError)
    }
}

/// Registry credentials, as the JSON inside [`ServiceSpec::registry_credentials`].
#[derive(Debug, Clone, Deserialize, Serialize)]
pub struct RegistryCredentials {
    /// User name.
    pub username: String,
    /// Password or token.
    #[serde(serialize_with = "crate::model::secret::exposed")]
    pub password: crate::model::secret::Secret,
}

#[cfg(test)]
pub(crate) mod tests;
