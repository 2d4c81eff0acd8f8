//! The audit log.

use buddo_shared::id::DeploymentId;
use jiff::Timestamp;
use rusqlite::{Row, params};

use super::Tx;
use super::column::{get, json, millis, text, time, to_json};
use crate::store::contract::{Audit, AuditRow, AuditStatus, NewAudit, Result};

impl Audit for Tx<'_> {
    fn insert_audit(&mut self, entry: &NewAudit) -> Result<()> {
        let sql = "INSERT INTO audit (id, deployment_id, action, status, initiated_by, at, details)
                   VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
        let params = params![
            text(&entry.id),
            text(&entry.deployment),
            entry.action.as_str(),
            entry.status.as_str(),
            entry.initiated_by.as_ref().map(text),
            millis(entry.at),
            entry.details.as_ref().map(to_json).transpose()?,
        ];
        self.run("add to the audit log", sql, params).map(drop)
    }

    fn finish_deploy(
        &mut self,
        deployment: DeploymentId,
        status: AuditStatus,
        details: Option<&serde_json::Value>,
    ) -> Result<bool> {
        let sql = "UPDATE audit SET status = ?2, details = ?3
                   WHERE deployment_id = ?1 AND action = 'deploy' AND status = 'pending'";
        let details = details.map(to_json).transpose()?;
        self.run("end a deploy's entry", sql, params![text(&deployment), status.as_str(), details])
            .map(|rows| rows > 0)
    }

    fn insert_admin_act(
        &mut self,
        action: &str,
        at: Timestamp,
        details: &serde_json::Value,
    ) -> Result<()> {
        let sql = "INSERT INTO admin_audit (action, at, details) VALUES (?1, ?2, ?3)";
        let params = params![action, millis(at), to_json(details)?];
        self.run("add to the administrators' log", sql, params).map(drop)
    }

    fn audit_of(&self, deployment: DeploymentId, limit: u32) -> Result<Vec<AuditRow>> {
        let sql = "SELECT * FROM (SELECT * FROM audit WHERE deployment_id = ?1
                       ORDER BY seq DESC LIMIT ?2) ORDER BY seq";
        self.all("read the audit log", sql, params![text(&deployment), limit], read)
    }
}

fn read(row: &Row<'_>) -> Result<AuditRow> {
    Ok(AuditRow {
        id: get(row, "id")?,
        action: get(row, "action")?,
        status: get(row, "status")?,
        initiated_by: get(row, "initiated_by")?,
        at: time(row, "at")?,
        details: match get::<Option<String>>(row, "details")? {
            Some(_) => Some(json(row, "details")?),
            None => None,
        },
    })
}
