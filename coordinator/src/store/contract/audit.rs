//! The audit log of deployments.

use buddo_shared::id::{AccountId, DeploymentId};
use jiff::Timestamp;
use uuid::Uuid;

use super::Result;

/// What was done to a deployment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    Create,
    /// The platform brought a revision up.
    Deploy,
    /// Its operator stopped it.
    Stop,
    /// Its operator asked for a new revision.
    Restart,
    /// Its operator, or its host's guard, brought an earlier revision back.
    Rollback,
    /// The platform forgot old revisions.
    Prune,
    /// The platform parked it, for its account was suspended.
    Suspend,
    /// The platform took that back.
    Reactivate,
    /// Its operator destroyed it.
    Destroy,
}

impl Action {
    /// The word on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Deploy => "deploy",
            Self::Stop => "stop",
            Self::Restart => "restart",
            Self::Rollback => "rollback",
            Self::Prune => "prune",
            Self::Suspend => "suspend",
            Self::Reactivate => "reactivate",
            Self::Destroy => "destroy",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuditStatus {
    Pending,
    Completed,
    /// Otherwise; the details say how.
    Failed,
}

impl AuditStatus {
    /// The word on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Completed => "completed",
            Self::Failed => "failed",
        }
    }
}

/// An entry to store.
#[derive(Debug, Clone, PartialEq)]
pub struct NewAudit {
    pub id: Uuid,
    pub deployment: DeploymentId,
    pub action: Action,
    pub status: AuditStatus,
    /// Who did it; `None`: the platform.
    pub initiated_by: Option<AccountId>,
    pub at: Timestamp,
    pub details: Option<serde_json::Value>,
}

/// An entry as stored.
#[derive(Debug, Clone, PartialEq)]
pub struct AuditRow {
    pub id: String,
    pub action: String,
    pub status: String,
    /// Who did it; `None`: the platform.
    pub initiated_by: Option<String>,
    pub at: Timestamp,
    pub details: Option<serde_json::Value>,
}

/// An act of an administrator as stored.
#[derive(Debug, Clone, PartialEq)]
pub struct AdminActRow {
    /// Its number in the log.
    pub seq: i64,
    pub action: String,
    /// Which account did it; `None`: whoever may run commands on the machine, or the platform.
    pub actor: Option<String>,
    pub at: Timestamp,
    /// To what, and how.
    pub details: serde_json::Value,
}

/// Access to the audit log.
pub trait Audit {
    fn insert_audit(&mut self, entry: &NewAudit) -> Result<()>;
    /// Ends the pending `deploy` entries of a deployment; whether there was one. They stay as they
    /// are, and get an outcome.
    fn finish_deploy(
        &mut self,
        deployment: DeploymentId,
        status: AuditStatus,
        at: Timestamp,
        details: Option<&serde_json::Value>,
    ) -> Result<bool>;
    /// Adds an act of an administrator on the platform as a whole. `actor`: `None` for whoever
    /// may run commands on the machine, and for the platform itself.
    fn insert_admin_act(
        &mut self,
        action: &str,
        at: Timestamp,
        actor: Option<AccountId>,
        details: &serde_json::Value,
    ) -> Result<()>;
    /// The newest `limit` acts of administrators that came before `before`, newest first.
    fn admin_acts(&self, before: Option<i64>, limit: u32) -> Result<Vec<AdminActRow>>;
    /// The newest `limit` entries of a deployment, oldest first.
    fn audit_of(&self, deployment: DeploymentId, limit: u32) -> Result<Vec<AuditRow>>;
}
