//! Podman's containers.

use std::net::SocketAddrV4;
use std::time::Duration;

use buddo_shared::host_wire::manifest::RegistryCredentials;
use buddo_shared::host_wire::report::Failure;
use buddo_shared::model::image::{Digest, ImageReference};
use buddo_shared::model::secret::Secret;

use crate::model::container::{Container, ContainerSpec, Created, ExitInfo, Mended};
use crate::model::workload::{Identity, Slot, WorkloadId};

/// Why a Podman operation failed, told apart only as far as steps or messages differ.
#[derive(Debug, thiserror::Error)]
pub enum ContainersError {
    /// The service did not answer, or not in time, or something else prevented the answer; retry.
    #[error("could not {operation}")]
    Unavailable {
        operation: &'static str,
        /// Why; a [`Hindrance`] where Podman may be well.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The image cannot be pulled, for a reason that its operator can fix.
    #[error("{}", .0.cause)]
    Image(Failure),
    /// The registry could not be reached or was busy; retry.
    #[error("{}", .0.cause)]
    Registry(Failure),
    /// The host lacks a resource: disk space, places for containers, or anything else of its own
    /// needed to run one. It may have it later.
    #[error("{}", .0.cause)]
    Full(Failure),
    /// There is no such container, image or secret.
    #[error("Podman knows no {0}")]
    NotFound(String),
    /// Podman refused; its own words.
    #[error("Podman refused to {operation} ({status}): {message}")]
    Refused { operation: &'static str, status: u16, message: String },
}

impl ContainersError {
    /// What prevented the answer of a call, if it was not Podman's silence.
    pub fn hindrance(&self) -> Option<Hindrance> {
        match self {
            Self::Unavailable { source, .. } => source.downcast_ref().copied(),
            _ => None,
        }
    }
}

/// Why a call got no answer although Podman may be well.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Hindrance {
    /// It was not sent: the limit of concurrent calls was reached the whole time.
    #[error("{calls} earlier calls were still under way after {waited:?}")]
    Crowded {
        calls: usize,
        /// How long it waited.
        waited: Duration,
    },
    /// The answer is larger than the agent reads.
    #[error("the answer has more than {most} bytes")]
    TooLarge {
        /// The limit in bytes.
        most: u64,
    },
}

/// Podman, as far as the agent needs it. Every call has its own deadline.
pub trait Containers: Send + Sync + 'static {
    /// All containers with our labels, in one call.
    fn list(&self) -> impl Future<Output = Result<Vec<Container>, ContainersError>> + Send;
    /// Warnings for the administrator about what the last lists showed.
    fn warnings(&self) -> Vec<String> {
        Vec::new()
    }
    /// One container with our labels, as it is now. `None`: no such container.
    fn inspect(
        &self,
        name: &str,
    ) -> impl Future<Output = Result<Option<Container>, ContainersError>> + Send;
    /// The registry digest of a local image with these exact bytes, if there is one.
    fn image(
        &self,
        image: &ImageReference,
    ) -> impl Future<Output = Result<Option<Digest>, ContainersError>> + Send;
    /// Pulls, always asking the registry what the tag means now. `progress` gets per cents. Ends
    /// when no progress was made for the no-progress deadline.
    fn pull(
        &self,
        image: &ImageReference,
        credentials: Option<&RegistryCredentials>,
        progress: &(dyn Fn(u8) + Send + Sync),
    ) -> impl Future<Output = Result<Digest, ContainersError>> + Send;
    /// Creates; a taken name is [`Created::Existed`].
    fn create(
        &self,
        spec: &ContainerSpec,
    ) -> impl Future<Output = Result<Created, ContainersError>> + Send;
    /// Starts it; succeeds if it runs already.
    fn start(&self, name: &str) -> impl Future<Output = Result<(), ContainersError>> + Send;
    /// SIGTERM, then SIGKILL after `grace`; succeeds if it is stopped already. Returns whether
    /// Podman knew it: an absent one is a success as well, but it may run on as an
    /// orphan.
    fn stop(
        &self,
        name: &str,
        grace: Duration,
    ) -> impl Future<Output = Result<bool, ContainersError>> + Send;
    /// Removes by force. Returns whether Podman knew it, as for [`stop`](Self::stop).
    fn remove(&self, name: &str) -> impl Future<Output = Result<bool, ContainersError>> + Send;
    /// Orphans: what runs here but Podman no longer knows.
    fn orphans(&self) -> impl Future<Output = Result<Vec<Identity>, ContainersError>> + Send;
    /// Ends the orphans of this workload and slot: SIGTERM, then SIGKILL after `grace`. Succeeds if
    /// nothing is left to end.
    fn end_orphans(
        &self,
        workload: WorkloadId,
        slot: Slot,
        grace: Duration,
    ) -> impl Future<Output = Result<(), ContainersError>> + Send;
    /// Ends whatever forwards `address`, if no container known to Podman is published there.
    /// Succeeds if there is nothing.
    fn free_address(
        &self,
        address: SocketAddrV4,
    ) -> impl Future<Output = Result<(), ContainersError>> + Send;
    /// How a container ended.
    fn inspect_exit(
        &self,
        name: &str,
    ) -> impl Future<Output = Result<ExitInfo, ContainersError>> + Send;
    /// Names of our secrets.
    fn secrets(&self) -> impl Future<Output = Result<Vec<String>, ContainersError>> + Send;
    /// Stores a secret; succeeds if the name exists (names hold the revision).
    fn put_secret(
        &self,
        name: &str,
        value: &Secret,
    ) -> impl Future<Output = Result<(), ContainersError>> + Send;
    /// Removes a secret; succeeds if it is absent.
    fn remove_secret(&self, name: &str)
    -> impl Future<Output = Result<(), ContainersError>> + Send;
    /// Repairs Podman's stored secrets after a write that was cut short. Some or all of ours may be
    /// missing afterwards.
    fn mend_secrets(&self) -> impl Future<Output = std::io::Result<Mended>> + Send;
}
