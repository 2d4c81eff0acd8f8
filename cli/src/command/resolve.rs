//! From what the operator typed to the deployment it names.

use buddo_shared::api::deploy::{Deployment, Status};
use buddo_shared::model::id::DeploymentId;

use super::Context;
use crate::error::{CliError, Kind};
use crate::target::Target;

/// The deployment that `target` names. A name refers to its current holder: destroyed deployments
/// have given up theirs.
pub(super) async fn deployment(
    context: &Context<'_>,
    target: &Target,
) -> Result<Deployment, CliError> {
    let name = match target {
        Target::Id(id) => return Ok(context.api.deployment(*id).await?),
        Target::Name(name) => name,
    };
    let mut all = context.api.deployments(None).await?.into_iter();
    all.find(|deployment| deployment.subdomain == *name && deployment.status != Status::Destroyed)
        .ok_or_else(|| {
            CliError::new(Kind::NotFound, format!("there is no deployment named {name:?}"))
                .hint("see what there is with: buddo list")
        })
}

/// Only the id: a target that is already an id costs no request.
pub(super) async fn id(context: &Context<'_>, target: &Target) -> Result<DeploymentId, CliError> {
    match target {
        Target::Id(id) => Ok(*id),
        Target::Name(_) => id_of(&deployment(context, target).await?),
    }
}

/// The id of a deployment that the API sent.
pub(super) fn id_of(deployment: &Deployment) -> Result<DeploymentId, CliError> {
    deployment.id.parse().map_err(|error| CliError::wrap(Kind::Failure, BadId(error)))
}

/// The API sent an invalid id.
#[derive(Debug, thiserror::Error)]
#[error("cannot understand the id that the API sent")]
struct BadId(#[source] buddo_shared::model::id::IdError);
