//! Deployments.

use buddo_shared::id::{AccountId, AppId, DeploymentId, HostId, Revision, TeamId};
use buddo_shared::limits::Limits;
use buddo_shared::manifest::RunState;
use buddo_shared::name::{HostName, Subdomain};
use buddo_shared::report::Health;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::failure::Failure;
use super::lifecycle::{Lifecycle, Status};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Deployment {
    pub id: DeploymentId,
    /// The application that it belongs to.
    pub app_id: AppId,
    /// The account that answers for it: whose limits it counts against.
    pub account: AccountId,
    /// The team whose it is; `None`: nobody's any more.
    pub team: Option<TeamId>,
    pub tier_id: String,
    /// The host it is placed on.
    pub host: HostId,
    /// Its name in the zone.
    pub subdomain: Subdomain,
    /// The operator's own host name.
    pub custom_domain: Option<HostName>,
    /// Where it is in its life.
    pub lifecycle: Lifecycle,
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
    /// How the last change ended, where that was badly.
    pub failure: Option<Failure>,
    /// What its host says is wrong at the moment. Gone when it is right again.
    pub trouble: Option<Failure>,
    /// Why its host goes on with what it had: what is stored of it cannot be read.
    pub held: Option<Failure>,
    /// How often what serves went down lately, as its host says.
    pub restarts: u32,
    /// The tier's limits when it was created.
    pub limits: Limits,
    pub billing_status: Option<String>,
    /// When it last became live.
    pub deployed_at: Option<Timestamp>,
    /// When it was last stopped.
    pub stopped_at: Option<Timestamp>,
    /// When it was created.
    pub inserted_at: Timestamp,
}

impl Deployment {
    /// Where it is in its life.
    pub fn status(&self) -> Status {
        self.lifecycle.status()
    }

    /// Whether its first deploy failed, and whatever was tried since: it never served anybody, and
    /// its operator did not stop it.
    pub fn failed_at_first(&self) -> bool {
        self.status() == Status::Stopped && self.deployed_at.is_none() && self.failure.is_some()
    }
}

/// What of a deployment is read column by column: it can be parked and destroyed whatever else of its
/// row cannot be read.
#[derive(Debug, Clone, PartialEq)]
pub struct Outline {
    pub id: DeploymentId,
    /// The host it is placed on.
    pub host: HostId,
    /// Where it is in its life.
    pub lifecycle: Lifecycle,
    /// What its host is asked for; `None`: that cannot be read.
    pub run: Option<RunState>,
    /// The account that answers for it; `None`: that cannot be read.
    pub account: Option<AccountId>,
    /// Its name in the zone; `None`: that cannot be read.
    pub subdomain: Option<Subdomain>,
    /// Whether its current revision answers visitors, as last reported.
    pub serves: bool,
}
