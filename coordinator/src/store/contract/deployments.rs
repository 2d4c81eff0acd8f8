//! Deployments.

use buddo_shared::host_wire::manifest::RunState;
use buddo_shared::model::id::{AccountId, AppId, DeploymentId, HostId, TeamId};
use buddo_shared::model::name::{HostName, Subdomain};
use jiff::Timestamp;

use super::Result;
use crate::domain::deployment::{Deployment, Outline};
use crate::domain::failure::Failure;
use crate::domain::lifecycle::Lifecycle;

/// How many deployments that are not destroyed an account has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    pub in_all: Count,
    pub on_tier: Count,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Count {
    pub there: u32,
    /// Those of [`Deployment::failed_at_first`].
    pub failed: u32,
}

impl Count {
    /// How many of them count against `limit`: up to that many failed ones are free.
    pub fn against(self, limit: u32) -> u32 {
        self.there.saturating_sub(self.failed.min(limit))
    }
}

/// A page of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Page {
    /// Maximum size.
    pub limit: u32,
    /// Only what comes after this one.
    pub after: Option<DeploymentId>,
}

/// A row of a list of which some may be unreadable; without an id if even that is unreadable.
pub type DeploymentRow = (Option<DeploymentId>, Result<Deployment>);

pub trait Deployments {
    /// Stores a new deployment. Its revision is stored separately
    /// ([`insert_revision`](super::Revisions::insert_revision)).
    fn insert_deployment(&mut self, deployment: &Deployment) -> Result<()>;
    /// The deployment with this id, destroyed ones included.
    fn deployment(&self, id: DeploymentId) -> Result<Option<Deployment>>;
    /// Updates the mutable part of a deployment.
    fn update_deployment(&mut self, deployment: &Deployment) -> Result<()>;
    /// The deployments of these teams, newest first, except destroyed ones.
    fn deployments_in(&self, teams: &[TeamId], page: Page) -> Result<Vec<Deployment>>;
    /// The readable part of the deployment with this id, destroyed ones included.
    fn outline(&self, id: DeploymentId) -> Result<Option<Outline>>;
    /// The deployments an account is responsible for that are not destroyed, newest first. Each row
    /// is read separately: an unreadable one does not hide the others.
    fn outlines_of(&self, account: AccountId) -> Result<Vec<Result<Outline>>>;
    /// Writes lifecycle and run state, and clears the reported health. `stopped_at`: since when it
    /// does not run.
    fn set_run(
        &mut self,
        id: DeploymentId,
        lifecycle: Lifecycle,
        run: RunState,
        stopped_at: Option<Timestamp>,
    ) -> Result<()>;
    /// Marks a deployment as destroyed. Its environments are erased separately
    /// ([`erase_env`](super::Revisions::erase_env)).
    fn set_destroyed(
        &mut self,
        id: DeploymentId,
        lifecycle: Lifecycle,
        at: Timestamp,
    ) -> Result<()>;
    /// Moves a deployment to another host.
    fn set_host(&mut self, id: DeploymentId, host: HostId) -> Result<()>;
    /// The deployment that has this subdomain and is not destroyed.
    fn deployment_named(&self, subdomain: &Subdomain) -> Result<Option<DeploymentId>>;
    /// The deployments of a host that are not destroyed, oldest first. Each row is read separately:
    /// an unreadable one does not hide the others.
    fn deployments_for(&self, host: HostId) -> Result<Vec<DeploymentRow>>;
    /// Sets which deployments of a host are held, and why; clears it for all others.
    fn set_held(&mut self, host: HostId, held: &[(DeploymentId, Failure)]) -> Result<()>;
    /// Whether a deployment that is not destroyed has this subdomain.
    fn subdomain_taken(&self, subdomain: &Subdomain) -> Result<bool>;
    /// Whether a deployment that is not destroyed has this domain.
    fn custom_domain_taken(&self, domain: &HostName) -> Result<bool>;
    /// How many deployments that are not destroyed the account has, in all and on `tier_id`.
    fn count_deployments(&self, account: AccountId, tier_id: &str) -> Result<Counts>;
    /// Bytes of the encrypted environments of the deployments an account is responsible for, by
    /// host; except destroyed ones.
    fn env_bytes_of(&self, account: AccountId) -> Result<Vec<(HostId, u64)>>;
    /// The application that the account's earlier deployments of this subdomain belonged to.
    fn app_of(&self, account: AccountId, subdomain: &Subdomain) -> Result<Option<AppId>>;
}
