//! What is there: one list call, grouped by deployment.

use std::collections::BTreeMap;

use buddo_shared::id::DeploymentId;

use crate::ports::{Container, Containers, ContainersError};

/// The host's containers at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Observed {
    /// By the deployment that their labels name.
    pub deployments: BTreeMap<DeploymentId, Vec<Container>>,
    /// Containers with our labels, but not with ours alone: never touched, only told of.
    pub unknown: Vec<String>,
}

/// Lists the host's containers.
pub async fn observe<C: Containers>(containers: &C) -> Result<Observed, ContainersError> {
    let mut observed = Observed::default();
    for container in containers.list().await? {
        match container.identity {
            Some(identity) => {
                observed.deployments.entry(identity.deployment).or_default().push(container);
            }
            None => observed.unknown.push(container.name),
        }
    }
    Ok(observed)
}
