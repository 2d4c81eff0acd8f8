//! Organisations and their members.

use buddo_shared::model::id::{AccountId, OrgId};
use jiff::Timestamp;

use super::column::{get, json, millis, opt_parsed, parsed, text, time, to_json};
use super::{Params, Row, Tx, audit_chain, params};
use crate::domain::identity::OrgRole;
use crate::store::contract::{MemberRow, NewOrgAct, OrgActRow, OrgRow, Orgs, Result};

/// What is deleted with an organisation.
const END: [&str; 6] = [
    "DELETE FROM api_keys WHERE team_id IN (SELECT id FROM teams WHERE org_id = ?1)",
    "DELETE FROM invitations WHERE org_id = ?1",
    "DELETE FROM team_members WHERE team_id IN (SELECT id FROM teams WHERE org_id = ?1)",
    "DELETE FROM org_members WHERE org_id = ?1",
    "UPDATE teams SET deleted_at = ?2 WHERE org_id = ?1 AND deleted_at IS NULL",
    "UPDATE orgs SET deleted_at = ?2 WHERE id = ?1 AND deleted_at IS NULL",
];

impl Orgs for Tx<'_> {
    fn insert_org(&mut self, org: &OrgRow) -> Result<()> {
        let sql = "INSERT INTO orgs (id, name, slug, plan, personal_of, payer_id, created_at)
                   VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
        let params = params![
            text(&org.id),
            org.name,
            org.slug,
            org.plan,
            org.personal_of.as_ref().map(text),
            text(&org.payer),
            millis(org.created_at),
        ];
        self.run("make an organisation", sql, params).map(drop)
    }

    fn org(&self, id: OrgId) -> Result<Option<OrgRow>> {
        let sql = "SELECT * FROM orgs WHERE id = ?1 AND deleted_at IS NULL";
        self.first("look up an organisation", sql, [text(&id)], read)
    }

    fn orgs_of(&self, account: AccountId) -> Result<Vec<(OrgRow, OrgRole)>> {
        let sql = "SELECT o.*, m.role FROM org_members m JOIN orgs o ON o.id = m.org_id
                   WHERE m.account_id = ?1 AND o.deleted_at IS NULL ORDER BY o.created_at, o.id";
        self.all("list organisations", sql, [text(&account)], |row| {
            Ok((read(row)?, parsed(row, "role")?))
        })
    }

    fn orgs_paid_by(&self, account: AccountId) -> Result<Vec<OrgRow>> {
        let sql = "SELECT * FROM orgs
                   WHERE payer_id = ?1 AND personal_of IS NULL AND deleted_at IS NULL
                   ORDER BY created_at, id";
        self.all("list an account's organisations", sql, [text(&account)], read)
    }

    fn org_slug_taken(&self, slug: &str) -> Result<bool> {
        let sql = "SELECT 1 FROM orgs WHERE slug = ?1 AND deleted_at IS NULL";
        Ok(self.first("look up a short name", sql, [slug], |_| Ok(()))?.is_some())
    }

    fn rename_org(&mut self, id: OrgId, name: &str, slug: &str) -> Result<()> {
        let sql = "UPDATE orgs SET name = ?2, slug = ?3 WHERE id = ?1";
        self.run("rename an organisation", sql, params![text(&id), name, slug]).map(drop)
    }

    fn set_payer(&mut self, id: OrgId, payer: AccountId) -> Result<()> {
        let (id, payer) = (text(&id), text(&payer));
        let sql = "UPDATE orgs SET payer_id = ?2 WHERE id = ?1";
        self.run("change who pays", sql, params![id, payer])?;
        let sql = "UPDATE deployments SET account_id = ?2 WHERE status <> 'destroyed'
                       AND team_id IN (SELECT id FROM teams WHERE org_id = ?1)";
        self.run("change whose deployments they are", sql, params![id, payer]).map(drop)
    }

    fn end_org(&mut self, id: OrgId, at: Timestamp) -> Result<()> {
        let (id, at) = (text(&id), millis(at));
        for sql in END {
            if sql.contains("?2") {
                self.run("end an organisation", sql, params![id, at])?;
            } else {
                self.run("end an organisation", sql, [&id])?;
            }
        }
        Ok(())
    }

    fn org_role(&self, id: OrgId, account: AccountId) -> Result<Option<OrgRole>> {
        let sql = "SELECT m.role FROM org_members m JOIN orgs o ON o.id = m.org_id
                   WHERE m.org_id = ?1 AND m.account_id = ?2 AND o.deleted_at IS NULL";
        let params = params![text(&id), text(&account)];
        self.first("look up a member", sql, params, |row| parsed(row, "role"))
    }

    fn org_members(&self, id: OrgId) -> Result<Vec<MemberRow<OrgRole>>> {
        let sql = "SELECT m.*, a.username FROM org_members m JOIN accounts a ON a.id = m.account_id
                   WHERE m.org_id = ?1 ORDER BY m.joined_at, a.registration_number";
        self.all("list members", sql, [text(&id)], read_member)
    }

    fn count_members(&self, id: OrgId) -> Result<u32> {
        let sql = "SELECT count(*) AS number FROM org_members WHERE org_id = ?1";
        self.count("count members", sql, [text(&id)])
    }

    fn count_owners(&self, id: OrgId) -> Result<u32> {
        let sql = "SELECT count(*) AS number FROM org_members
                   WHERE org_id = ?1 AND role = 'org_owner'";
        self.count("count owners", sql, [text(&id)])
    }

    fn set_org_role(
        &mut self,
        id: OrgId,
        account: AccountId,
        role: OrgRole,
        at: Timestamp,
    ) -> Result<()> {
        let sql = "INSERT INTO org_members (org_id, account_id, role, joined_at)
                   VALUES (?1, ?2, ?3, ?4)
                   ON CONFLICT (org_id, account_id) DO UPDATE SET role = excluded.role";
        let params = params![text(&id), text(&account), role.as_str(), millis(at)];
        self.run("set a member's role", sql, params).map(drop)
    }

    fn remove_org_member(&mut self, id: OrgId, account: AccountId) -> Result<usize> {
        let (id, account) = (text(&id), text(&account));
        let sql = "DELETE FROM api_keys WHERE account_id = ?2
                       AND team_id IN (SELECT id FROM teams WHERE org_id = ?1)";
        let keys = self.run("end a member's keys", sql, params![id, account])?;
        let sql = "DELETE FROM team_members WHERE account_id = ?2
                       AND team_id IN (SELECT id FROM teams WHERE org_id = ?1)";
        self.run("remove a member from teams", sql, params![id, account])?;
        let sql = "DELETE FROM org_members WHERE org_id = ?1 AND account_id = ?2";
        self.run("remove a member", sql, params![id, account])?;
        Ok(keys)
    }

    fn org_has_deployments(&self, id: OrgId) -> Result<bool> {
        let sql = "SELECT 1 FROM deployments WHERE status <> 'destroyed'
                       AND team_id IN (SELECT id FROM teams WHERE org_id = ?1) LIMIT 1";
        Ok(self.first("look for deployments", sql, [text(&id)], |_| Ok(()))?.is_some())
    }

    fn insert_org_act(&mut self, act: &NewOrgAct) -> Result<()> {
        let sql = "INSERT INTO org_audit (org_id, team_id, actor, action, at, details)
                   VALUES (?1, ?2, ?3, ?4, ?5, ?6) RETURNING seq";
        let params = params![
            text(&act.org),
            act.team.as_ref().map(text),
            act.actor.as_ref().map(text),
            act.act.as_str(),
            millis(act.at),
            act.details.as_ref().map(to_json).transpose()?,
        ];
        let seq = self.only("add to an organisation's log", sql, params, |row| get(row, "seq"))?;
        self.link(&audit_chain::ORG, seq, act.at)
    }

    fn org_acts(&self, id: OrgId, limit: u32) -> Result<Vec<OrgActRow>> {
        let sql = "SELECT * FROM org_audit WHERE org_id = ?1 ORDER BY seq DESC LIMIT ?2";
        self.all("read an organisation's log", sql, params![text(&id), limit], |row| {
            Ok(OrgActRow {
                number: get(row, "seq")?,
                action: get(row, "action")?,
                team: get(row, "team_id")?,
                actor: get(row, "actor")?,
                at: time(row, "at")?,
                details: match get::<Option<String>>(row, "details")? {
                    Some(_) => Some(json(row, "details")?),
                    None => None,
                },
            })
        })
    }
}

impl Tx<'_> {
    /// The `number` of the only row.
    pub(super) fn count(
        &self,
        operation: &'static str,
        sql: &str,
        params: impl Params,
    ) -> Result<u32> {
        Ok(self.first(operation, sql, params, |row| get(row, "number"))?.unwrap_or_default())
    }
}

fn read(row: &Row<'_>) -> Result<OrgRow> {
    Ok(OrgRow {
        id: parsed(row, "id")?,
        name: get(row, "name")?,
        slug: get(row, "slug")?,
        plan: get(row, "plan")?,
        personal_of: opt_parsed(row, "personal_of")?,
        payer: parsed(row, "payer_id")?,
        created_at: time(row, "created_at")?,
    })
}

pub(super) fn read_member<R>(row: &Row<'_>) -> Result<MemberRow<R>>
where
    R: std::str::FromStr<Err: Into<crate::store::contract::Cause>>,
{
    Ok(MemberRow {
        account: parsed(row, "account_id")?,
        username: get(row, "username")?,
        role: parsed(row, "role")?,
        joined_at: time(row, "joined_at")?,
    })
}
