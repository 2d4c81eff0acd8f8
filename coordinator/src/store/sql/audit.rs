//! The audit log.

use buddo_shared::model::id::{AccountId, DeploymentId};
use jiff::Timestamp;

use super::column::{get, json, millis, text, time, to_json};
use super::{Row, Tx, audit_chain, params};
use crate::store::contract::{AdminActRow, Audit, AuditRow, AuditStatus, NewAudit, Result};

impl Audit for Tx<'_> {
    fn insert_audit(&mut self, entry: &NewAudit) -> Result<()> {
        let sql = "INSERT INTO audit (id, deployment_id, action, status, initiated_by, at, details)
                   VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) RETURNING seq";
        let params = params![
            text(&entry.id),
            text(&entry.deployment),
            entry.action.as_str(),
            entry.status.as_str(),
            entry.initiated_by.as_ref().map(text),
            millis(entry.at),
            entry.details.as_ref().map(to_json).transpose()?,
        ];
        let seq = self.only("add to the audit log", sql, params, |row| get(row, "seq"))?;
        self.link(&audit_chain::AUDIT, seq, entry.at)
    }

    fn finish_deploy(
        &mut self,
        deployment: DeploymentId,
        status: AuditStatus,
        at: Timestamp,
        details: Option<&serde_json::Value>,
    ) -> Result<bool> {
        let sql = "SELECT audit_seq FROM open_deploys WHERE deployment_id = ?1 ORDER BY audit_seq";
        let pending: Vec<i64> =
            self.all("find a deploy's entry", sql, [text(&deployment)], |row| {
                get(row, "audit_seq")
            })?;
        let details = details.map(to_json).transpose()?;
        let sql = "INSERT INTO audit_outcomes (audit_seq, status, at, details)
                   VALUES (?1, ?2, ?3, ?4) RETURNING seq";
        for seq in &pending {
            let params = params![seq, status.as_str(), millis(at), details];
            let seq = self.only("end a deploy's entry", sql, params, |row| get(row, "seq"))?;
            self.link(&audit_chain::OUTCOMES, seq, at)?;
        }
        Ok(!pending.is_empty())
    }

    fn insert_admin_act(
        &mut self,
        action: &str,
        at: Timestamp,
        actor: Option<AccountId>,
        details: &serde_json::Value,
    ) -> Result<()> {
        let sql = "INSERT INTO admin_audit (action, at, details, actor) VALUES (?1, ?2, ?3, ?4)
                   RETURNING seq";
        let actor = actor.as_ref().map(text);
        let params = params![action, millis(at), to_json(details)?, actor];
        let seq =
            self.only("add to the administrators' log", sql, params, |row| get(row, "seq"))?;
        self.link(&audit_chain::ADMIN, seq, at)
    }

    fn admin_acts(&self, before: Option<i64>, limit: u32) -> Result<Vec<AdminActRow>> {
        let sql = "SELECT * FROM admin_audit WHERE ?1 IS NULL OR seq < ?1
                   ORDER BY seq DESC LIMIT ?2";
        self.all("read the administrators' log", sql, params![before, limit], |row| {
            Ok(AdminActRow {
                seq: get(row, "seq")?,
                action: get(row, "action")?,
                actor: get(row, "actor")?,
                at: time(row, "at")?,
                details: json(row, "details")?,
            })
        })
    }

    fn audit_of(&self, deployment: DeploymentId, limit: u32) -> Result<Vec<AuditRow>> {
        let sql = "SELECT * FROM (SELECT a.seq, a.id, a.action, a.initiated_by, a.at,
                           coalesce(o.status, a.status) AS status,
                           coalesce(o.details, a.details) AS details
                       FROM audit a LEFT JOIN audit_outcomes o ON o.audit_seq = a.seq
                       WHERE a.deployment_id = ?1 ORDER BY a.seq DESC LIMIT ?2) AS newest
                   ORDER BY seq";
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
