//! The audit log of deployments.

use buddo_shared::model::id::{AccountId, DeploymentId};
use jiff::Timestamp;
use uuid::Uuid;

use super::Result;

/// An act on a deployment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    Create,
    /// The platform started a revision.
    Deploy,
    /// Its operator stopped it.
    Stop,
    /// Its operator requested a new revision.
    Restart,
    /// Its operator, or auto rollback on its host, restored an earlier revision.
    Rollback,
    /// The platform deleted old revisions.
    Prune,
    /// The platform parked it because its account was suspended.
    Suspend,
    /// The platform undid that.
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
    /// Not completed; the details say how.
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
    /// The actor; `None`: the platform.
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
    /// The actor; `None`: the platform.
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
    /// The account that did it; `None`: a user of the machine's command line, or the platform.
    pub actor: Option<String>,
    pub at: Timestamp,
    /// Target and parameters.
    pub details: serde_json::Value,
}

/// Access to the audit log.
pub trait Audit {
    fn insert_audit(&mut self, entry: &NewAudit) -> Result<()>;
    /// Ends the pending `deploy` entries of a deployment; returns whether there was one. The
    /// entries are not edited: the outcome is a separate record.
    fn finish_deploy(
        &mut self,
        deployment: DeploymentId,
        status: AuditStatus,
        at: Timestamp,
        details: Option<&serde_json::Value>,
    ) -> Result<bool>;
    /// Adds an act of an administrator on the platform as a whole. `actor`: `None` for users of the
    /// machine's command line, and for the platform itself.
    fn insert_admin_act(
        &mut self,
        action: &str,
        at: Timestamp,
        actor: Option<AccountId>,
        details: &serde_json::Value,
    ) -> Result<()>;
    /// The newest `limit` acts of administrators before `before`, newest first.
    fn admin_acts(&self, before: Option<i64>, limit: u32) -> Result<Vec<AdminActRow>>;
    /// The newest `limit` entries of a deployment, oldest first.
    fn audit_of(&self, deployment: DeploymentId, limit: u32) -> Result<Vec<AuditRow>>;
}
