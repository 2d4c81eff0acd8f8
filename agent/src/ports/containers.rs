//! Podman's containers.

use std::net::SocketAddrV4;
use std::time::Duration;

use buddo_shared::id::DeploymentId;
use buddo_shared::image::{Digest, ImageReference};
use buddo_shared::manifest::RegistryCredentials;
use buddo_shared::report::Failure;
use buddo_shared::secret::Secret;

use crate::model::container::{
    Container, ContainerSpec, Created, ExitInfo, Identity, Mended, Slot,
};

/// Why an operation on Podman failed, told apart as far as steps or words differ.
#[derive(Debug, thiserror::Error)]
pub enum ContainersError {
    /// The service does not answer, or not in time, or something else kept the call from its
    /// answer; try again.
    #[error("could not {operation}")]
    Unavailable {
        operation: &'static str,
        /// Why; a [`Hindrance`] where Podman may be well.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The image cannot be had, for a reason that its operator can mend.
    #[error("{}", .0.cause)]
    Image(Failure),
    /// The registry could not be reached or was busy; try again.
    #[error("{}", .0.cause)]
    Registry(Failure),
    /// The host has no room for it: disk space, places for containers, or whatever else of its own
    /// it takes to run one. It may have later.
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
    /// What kept a call from its answer, where that was no silence of Podman's.
    pub fn hindrance(&self) -> Option<Hindrance> {
        match self {
            Self::Unavailable { source, .. } => source.downcast_ref().copied(),
            _ => None,
        }
    }
}

/// Why a call has no answer although Podman may well give one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Hindrance {
    /// It was not sent: as many as may be under way at once were, all the time.
    #[error("{calls} earlier calls were still under way after {waited:?}")]
    Crowded {
        calls: usize,
        /// How long it waited.
        waited: Duration,
    },
    /// The answer is larger than any that is read.
    #[error("the answer has more than {most} bytes")]
    TooLarge {
        /// Bytes that are read.
        most: u64,
    },
}

/// Podman, as far as the agent needs it. Every call has a deadline of its own.
pub trait Containers: Send + Sync + 'static {
    /// All containers with our labels, in one call.
    fn list(&self) -> impl Future<Output = Result<Vec<Container>, ContainersError>> + Send;
    /// What an administrator should know of what the last lists held.
    fn warnings(&self) -> Vec<String> {
        Vec::new()
    }
    /// One container with our labels, as it is now. `None`: there is none of that name.
    fn inspect(
        &self,
        name: &str,
    ) -> impl Future<Output = Result<Option<Container>, ContainersError>> + Send;
    /// The registry digest of a local image with these exact bytes, where there is one.
    fn image(
        &self,
        image: &ImageReference,
    ) -> impl Future<Output = Result<Option<Digest>, ContainersError>> + Send;
    /// Pulls, always asking the registry what the tag means now. `progress` gets per cents.
    /// Ends when no progress was made for the no-progress deadline.
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
    /// Starts; an already running one is success.
    fn start(&self, name: &str) -> impl Future<Output = Result<(), ContainersError>> + Send;
    /// SIGTERM, then SIGKILL after `grace`; an already stopped one is success. Whether Podman knew
    /// it: an absent one is success as well, but Podman may have lost it while it runs.
    fn stop(
        &self,
        name: &str,
        grace: Duration,
    ) -> impl Future<Output = Result<bool, ContainersError>> + Send;
    /// Removes by force. Whether Podman knew it, as for [`stop`](Self::stop).
    fn remove(&self, name: &str) -> impl Future<Output = Result<bool, ContainersError>> + Send;
    /// What runs here and Podman does not know any more.
    fn lost(&self) -> impl Future<Output = Result<Vec<Identity>, ContainersError>> + Send;
    /// Ends containers of this slot that run and that Podman does not know any more: SIGTERM, then
    /// SIGKILL after `grace`. None is success.
    fn end_lost(
        &self,
        deployment: DeploymentId,
        slot: Slot,
        grace: Duration,
    ) -> impl Future<Output = Result<(), ContainersError>> + Send;
    /// Ends what forwards `address`, at which no container that Podman knows is published. Nothing
    /// is success.
    fn free_address(
        &self,
        address: SocketAddrV4,
    ) -> impl Future<Output = Result<(), ContainersError>> + Send;
    /// How a container ended.
    fn ending(&self, name: &str) -> impl Future<Output = Result<ExitInfo, ContainersError>> + Send;
    /// Names of our secrets.
    fn secrets(&self) -> impl Future<Output = Result<Vec<String>, ContainersError>> + Send;
    /// Stores a secret; one of that name that exists is success (names hold the revision).
    fn put_secret(
        &self,
        name: &str,
        value: &Secret,
    ) -> impl Future<Output = Result<(), ContainersError>> + Send;
    /// Removes a secret; an absent one is success.
    fn remove_secret(&self, name: &str)
    -> impl Future<Output = Result<(), ContainersError>> + Send;
    /// Makes whole what Podman keeps of secrets, where a write of it was cut short. Ours may be
    /// missing afterwards, all or some.
    fn mend_secrets(&self) -> impl Future<Output = std::io::Result<Mended>> + Send;
}
