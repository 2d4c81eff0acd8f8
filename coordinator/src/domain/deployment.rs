//! Deployments.

use buddo_shared::host_wire::manifest::RunState;
use buddo_shared::host_wire::report::Health;
use buddo_shared::model::id::{AccountId, AppId, DeploymentId, HostId, Revision, TeamId};
use buddo_shared::model::limits::Limits;
use buddo_shared::model::name::{HostName, Subdomain};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::failure::Failure;
use super::lifecycle::{Lifecycle, Status};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Deployment {
    pub id: DeploymentId,
    pub app_id: AppId,
    /// The account responsible for it: its limits apply.
    pub account: AccountId,
    /// The team that owns it; `None`: no team any more.
    pub team: Option<TeamId>,
    pub tier_id: String,
    pub host: HostId,
    /// Its name in the zone.
    pub subdomain: Subdomain,
    /// The operator's own host name.
    pub custom_domain: Option<HostName>,
    pub lifecycle: Lifecycle,
    /// The desired run state on its host.
    pub run: RunState,
    /// The desired revision on its host.
    pub revision: Revision,
    /// The revision that answers visitors, as last reported.
    pub serving: Option<Revision>,
    /// Name of the container: generated at creation, then as the host reports it.
    pub container_name: String,
    /// Health as last reported.
    pub health: Option<Health>,
    /// Time of the last durably reported probe.
    pub last_health_check: Option<Timestamp>,
    /// How the last change failed, if it did.
    pub failure: Option<Failure>,
    /// The problem its host reports now; cleared when it is resolved.
    pub trouble: Option<Failure>,
    /// Why its host keeps the previous state: the stored record cannot be read.
    pub held: Option<Failure>,
    /// How often the serving container went down lately, as its host reports.
    pub restarts: u32,
    /// The tier's limits when it was created.
    pub limits: Limits,
    pub billing_status: Option<String>,
    /// When it last became live.
    pub deployed_at: Option<Timestamp>,
    /// When it was last stopped.
    pub stopped_at: Option<Timestamp>,
    pub inserted_at: Timestamp,
}

impl Deployment {
    pub fn status(&self) -> Status {
        self.lifecycle.status()
    }

    /// Whether its first deploy failed and nothing since has succeeded: it never served visitors
    /// and was not stopped by its operator.
    pub fn failed_at_first(&self) -> bool {
        self.status() == Status::Stopped && self.deployed_at.is_none() && self.failure.is_some()
    }
}

/// The part of a deployment that is read column by column: it can be parked and destroyed even if
/// the rest of its row cannot be read.
#[derive(Debug, Clone, PartialEq)]
pub struct Outline {
    pub id: DeploymentId,
    pub host: HostId,
    pub lifecycle: Lifecycle,
    /// The desired run state; `None`: unreadable.
    pub run: Option<RunState>,
    /// The account responsible for it; `None`: unreadable.
    pub account: Option<AccountId>,
    /// Its name in the zone; `None`: unreadable.
    pub subdomain: Option<Subdomain>,
    /// Whether its current revision answers visitors, as last reported.
    pub serves: bool,
}
