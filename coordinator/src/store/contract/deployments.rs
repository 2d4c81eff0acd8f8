//! Deployments.

use buddo_shared::api::deploy::Status;
use buddo_shared::id::{AccountId, AppId, DeploymentId, HostId, Revision, TeamId};
use buddo_shared::limits::Limits;
use buddo_shared::manifest::RunState;
use buddo_shared::name::{HostName, Subdomain};
use buddo_shared::report::Health;
use jiff::Timestamp;

use super::Result;

/// A deployment as it is stored.
#[derive(Debug, Clone, PartialEq)]
pub struct Deployment {
    /// Identifier.
    pub id: DeploymentId,
    /// The application that it belongs to.
    pub app_id: AppId,
    /// The account that answers for it: whose limits it counts against.
    pub account: AccountId,
    /// The team whose it is; `None`: nobody's any more.
    pub team: Option<TeamId>,
    /// Its tier.
    pub tier_id: String,
    /// The host it is placed on.
    pub host: HostId,
    /// Its name in the zone.
    pub subdomain: Subdomain,
    /// The operator's own host name.
    pub custom_domain: Option<HostName>,
    /// What its operator is shown.
    pub status: Status,
    /// What its host is asked for.
    pub run: RunState,
    /// The revision its host is asked for.
    pub revision: Revision,
    /// The revision that answers visitors, as last reported.
    pub serving: Option<Revision>,
    /// Name of the container, made at creation until a host reports another.
    pub container_name: String,
    /// Health as last reported.
    pub health: Option<Health>,
    /// The last probe that was reported durably.
    pub last_health_check: Option<Timestamp>,
    /// Why the last deploy failed, and what to do: one line each.
    pub last_error: Option<String>,
    /// What its host says is wrong at the moment, and what to do: one line each. Gone when it is
    /// right again.
    pub trouble: Option<String>,
    /// Why its host goes on with what it had: what is stored of it cannot be read, and what to do:
    /// one line each.
    pub held: Option<String>,
    /// How often what serves went down lately, as its host says.
    pub restarts: u32,
    /// The tier's limits when it was created.
    pub limits: Limits,
    /// State of billing.
    pub billing_status: Option<String>,
    /// When it last became live.
    pub deployed_at: Option<Timestamp>,
    /// When it was last stopped.
    pub stopped_at: Option<Timestamp>,
    /// When it was created.
    pub inserted_at: Timestamp,
}

impl Deployment {
    /// Whether its first deploy failed, and whatever was tried since: it never served anybody, and
    /// its operator did not stop it.
    pub fn failed_at_first(&self) -> bool {
        self.status == Status::Stopped && self.deployed_at.is_none() && self.last_error.is_some()
    }
}

/// What of a deployment is read column by column: it can be parked and destroyed whatever else of its
/// row cannot be read.
#[derive(Debug, Clone, PartialEq)]
pub struct Outline {
    /// Identifier.
    pub id: DeploymentId,
    /// The host it is placed on.
    pub host: HostId,
    /// What its operator is shown.
    pub status: Status,
    /// What its host is asked for; `None`: that cannot be read.
    pub run: Option<RunState>,
    /// The account that answers for it; `None`: that cannot be read.
    pub account: Option<AccountId>,
    /// Its name in the zone; `None`: that cannot be read.
    pub subdomain: Option<Subdomain>,
    /// Whether its current revision answers visitors, as last reported.
    pub serves: bool,
}

/// How many deployments that are not destroyed an account has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// On whichever tier.
    pub in_all: Count,
    /// On one tier.
    pub on_tier: Count,
}

/// So many deployments.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Count {
    /// All of them.
    pub there: u32,
    /// Those of [`Deployment::failed_at_first`].
    pub failed: u32,
}

impl Count {
    /// How many of them count against `limit`: as many as that may have failed for free.
    pub fn against(self, limit: u32) -> u32 {
        self.there.saturating_sub(self.failed.min(limit))
    }
}

/// Which part of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Page {
    /// At most so many.
    pub limit: u32,
    /// Only what comes after this one.
    pub after: Option<DeploymentId>,
}

/// One of a list of which some may be unreadable; without an id where that is, too.
pub type DeploymentRow = (Option<DeploymentId>, Result<Deployment>);

/// Access to deployments.
pub trait Deployments {
    /// Stores a new deployment. The revision that it names is stored with it
    /// ([`insert_revision`](super::Revisions::insert_revision)).
    fn insert_deployment(&mut self, deployment: &Deployment) -> Result<()>;
    /// The deployment with this id, destroyed ones too.
    fn deployment(&self, id: DeploymentId) -> Result<Option<Deployment>>;
    /// Writes back what can change of a deployment.
    fn update_deployment(&mut self, deployment: &Deployment) -> Result<()>;
    /// The deployments of these teams, newest first, destroyed ones left out.
    fn deployments_in(&self, teams: &[TeamId], page: Page) -> Result<Vec<Deployment>>;
    /// What can be read of the deployment with this id, destroyed ones too.
    fn outline(&self, id: DeploymentId) -> Result<Option<Outline>>;
    /// The deployments that an account answers for and that are not destroyed, newest first. Each row is
    /// read by itself: one of which not even that can be read hides no other.
    fn outlines_of(&self, account: AccountId) -> Result<Vec<Result<Outline>>>;
    /// Writes status and run state, and forgets the health that was reported before. `stopped_at`:
    /// since when it does not run.
    fn set_run(
        &mut self,
        id: DeploymentId,
        status: Status,
        run: RunState,
        stopped_at: Option<Timestamp>,
    ) -> Result<()>;
    /// Marks a deployment as destroyed. Its environments are erased apart
    /// ([`erase_env`](super::Revisions::erase_env)).
    fn set_destroyed(&mut self, id: DeploymentId, at: Timestamp) -> Result<()>;
    /// Places a deployment on another host.
    fn set_host(&mut self, id: DeploymentId, host: HostId) -> Result<()>;
    /// The deployment that has this subdomain and is not destroyed.
    fn deployment_named(&self, subdomain: &Subdomain) -> Result<Option<DeploymentId>>;
    /// The deployments of a host that are not destroyed, oldest first. Each row is read by itself: one
    /// that cannot be read hides no other.
    fn deployments_for(&self, host: HostId) -> Result<Vec<DeploymentRow>>;
    /// Notes which deployments of a host are held, and why; no other one is.
    fn set_held(&mut self, host: HostId, held: &[(DeploymentId, String)]) -> Result<()>;
    /// Whether a deployment that is not destroyed has this subdomain.
    fn subdomain_taken(&self, subdomain: &Subdomain) -> Result<bool>;
    /// Whether a deployment that is not destroyed has this domain.
    fn custom_domain_taken(&self, domain: &HostName) -> Result<bool>;
    /// How many deployments that are not destroyed the account has, in all and on `tier_id`.
    fn count_deployments(&self, account: AccountId, tier_id: &str) -> Result<Counts>;
    /// Bytes of the environments of the deployments that an account answers for, encrypted, by host;
    /// destroyed ones left out.
    fn env_bytes_of(&self, account: AccountId) -> Result<Vec<(HostId, u64)>>;
    /// The application that the account's earlier deployments of this subdomain belonged to.
    fn app_of(&self, account: AccountId, subdomain: &Subdomain) -> Result<Option<AppId>>;
}
