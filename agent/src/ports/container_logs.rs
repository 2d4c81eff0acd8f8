//! What containers write.

use std::sync::Arc;

use buddo_shared::host_wire::log::LogLine;
use buddo_shared::model::id::DeploymentId;
use futures_util::Stream;
use tokio::sync::watch;

use super::ContainersError;
use crate::model::snapshot::HostSnapshot;

/// Logs of containers.
pub trait ContainerLogs: Send + Sync + 'static {
    /// Lines, oldest first. They are read as fast as they are taken, and no faster; dropping the
    /// stream ends the reading.
    type Lines: Stream<Item = Result<LogLine, ContainersError>> + Send + 'static;

    /// The last `tail` lines of a container, and with `follow` all later ones until it ends.
    fn log(
        &self,
        container: &str,
        tail: u32,
        follow: bool,
    ) -> impl Future<Output = Result<Self::Lines, ContainersError>> + Send;
}

/// Which containers serve deployments.
pub trait CurrentContainers: Send + Sync + 'static {
    /// The name of the one that serves or is starting; of several services and replicas, the first
    /// that has one.
    fn current(&self, deployment: DeploymentId) -> Option<String>;
}

impl CurrentContainers for watch::Receiver<Option<Arc<HostSnapshot>>> {
    fn current(&self, deployment: DeploymentId) -> Option<String> {
        let snapshot = self.borrow();
        let mut all = snapshot.as_ref()?.deployments.iter();
        let status = &all.find(|one| one.status.id == deployment)?.status;
        let mut replicas = status.services.iter().flat_map(|service| &service.replicas);
        replicas.find_map(|replica| replica.container.clone())
    }
}
