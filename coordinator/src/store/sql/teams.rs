//! Teams and memberships.

use buddo_shared::model::id::{AccountId, OrgId, TeamId};
use jiff::Timestamp;

use super::column::{get, millis, opt_parsed, parsed, text, time};
use super::orgs::read_member;
use super::{Row, Tx, params};
use crate::domain::identity::TeamRole;
use crate::store::contract::{MemberRow, Membership, OrgRow, Result, TeamRow, Teams};

/// Team, organisation and both roles of account `?1`; each column has a unique name. Ended ones are
/// left out.
macro_rules! memberships {
    ($rest:literal) => {
        concat!(
            "SELECT t.id, t.org_id, t.name, t.slug, t.created_at, o.name AS org_name,
                 o.slug AS org_slug, o.plan, o.personal_of, o.payer_id,
                 o.created_at AS org_created_at, om.role AS org_role, tm.role AS team_role
             FROM teams t
             JOIN orgs o ON o.id = t.org_id AND o.deleted_at IS NULL
             LEFT JOIN org_members om ON om.org_id = o.id AND om.account_id = ?1
             LEFT JOIN team_members tm ON tm.team_id = t.id AND tm.account_id = ?1
             WHERE t.deleted_at IS NULL AND ",
            $rest
        )
    };
}

/// What is deleted with a team.
const END: [&str; 3] = [
    "DELETE FROM api_keys WHERE team_id = ?1",
    "DELETE FROM invitations WHERE team_id = ?1",
    "DELETE FROM team_members WHERE team_id = ?1",
];

impl Teams for Tx<'_> {
    fn insert_team(&mut self, team: &TeamRow) -> Result<()> {
        let sql = "INSERT INTO teams (id, org_id, name, slug, created_at)
                   VALUES (?1, ?2, ?3, ?4, ?5)";
        let at = millis(team.created_at);
        let params = params![text(&team.id), text(&team.org), team.name, team.slug, at];
        self.run("make a team", sql, params).map(drop)
    }

    fn membership(&self, account: AccountId, team: TeamId) -> Result<Option<Membership>> {
        let params = params![text(&account), text(&team)];
        self.first("look up a team", memberships!("t.id = ?2"), params, read)
    }

    fn memberships_of(&self, account: AccountId) -> Result<Vec<Membership>> {
        let sql = memberships!(
            "t.org_id IN (SELECT org_id FROM org_members WHERE account_id = ?1)
             AND (om.role <> 'org_member' OR tm.role IS NOT NULL)
             ORDER BY o.personal_of IS NULL, org_slug, t.slug"
        );
        self.all("list teams", sql, [text(&account)], read)
    }

    fn memberships_in(&self, org: OrgId, account: AccountId) -> Result<Vec<Membership>> {
        let sql = memberships!("t.org_id = ?2 ORDER BY t.created_at, t.id");
        self.all("list an organisation's teams", sql, params![text(&account), text(&org)], read)
    }

    fn team_slug_taken(&self, org: OrgId, slug: &str) -> Result<bool> {
        let sql = "SELECT 1 FROM teams WHERE org_id = ?1 AND slug = ?2 AND deleted_at IS NULL";
        let found = self.first("look up a short name", sql, params![text(&org), slug], |_| Ok(()));
        Ok(found?.is_some())
    }

    fn rename_team(&mut self, id: TeamId, name: &str, slug: &str) -> Result<()> {
        let sql = "UPDATE teams SET name = ?2, slug = ?3 WHERE id = ?1";
        self.run("rename a team", sql, params![text(&id), name, slug]).map(drop)
    }

    fn end_team(&mut self, id: TeamId, at: Timestamp) -> Result<()> {
        let id = text(&id);
        for sql in END {
            self.run("end a team", sql, [&id])?;
        }
        let sql = "UPDATE teams SET deleted_at = ?2 WHERE id = ?1 AND deleted_at IS NULL";
        self.run("end a team", sql, params![id, millis(at)]).map(drop)
    }

    fn team_members(&self, id: TeamId) -> Result<Vec<MemberRow<TeamRole>>> {
        let sql =
            "SELECT m.*, a.username FROM team_members m JOIN accounts a ON a.id = m.account_id
                   WHERE m.team_id = ?1 ORDER BY m.joined_at, a.registration_number";
        self.all("list who is in a team", sql, [text(&id)], read_member)
    }

    fn set_team_role(
        &mut self,
        id: TeamId,
        account: AccountId,
        role: TeamRole,
        at: Timestamp,
    ) -> Result<()> {
        let sql = "INSERT INTO team_members (team_id, account_id, role, joined_at)
                   VALUES (?1, ?2, ?3, ?4)
                   ON CONFLICT (team_id, account_id) DO UPDATE SET role = excluded.role";
        let params = params![text(&id), text(&account), role.as_str(), millis(at)];
        self.run("set a role in a team", sql, params).map(drop)
    }

    fn remove_team_member(&mut self, id: TeamId, account: AccountId) -> Result<bool> {
        let sql = "DELETE FROM team_members WHERE team_id = ?1 AND account_id = ?2";
        let rows = self.run("remove a member from a team", sql, params![text(&id), text(&account)]);
        rows.map(|rows| rows > 0)
    }

    fn team_has_deployments(&self, id: TeamId) -> Result<bool> {
        let sql = "SELECT 1 FROM deployments WHERE team_id = ?1 AND status <> 'destroyed' LIMIT 1";
        Ok(self.first("look for deployments", sql, [text(&id)], |_| Ok(()))?.is_some())
    }
}

fn read(row: &Row<'_>) -> Result<Membership> {
    let org = parsed(row, "org_id")?;
    Ok(Membership {
        team: TeamRow {
            id: parsed(row, "id")?,
            org,
            name: get(row, "name")?,
            slug: get(row, "slug")?,
            created_at: time(row, "created_at")?,
        },
        org: OrgRow {
            id: org,
            name: get(row, "org_name")?,
            slug: get(row, "org_slug")?,
            plan: get(row, "plan")?,
            personal_of: opt_parsed(row, "personal_of")?,
            payer: parsed(row, "payer_id")?,
            created_at: time(row, "org_created_at")?,
        },
        org_role: opt_parsed(row, "org_role")?,
        team_role: opt_parsed(row, "team_role")?,
    })
}
