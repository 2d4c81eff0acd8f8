//! Invitations.

use buddo_shared::model::id::{InvitationId, OrgId};
use jiff::Timestamp;

use super::column::{millis, opt_parsed, parsed, text, time};
use super::query::expired;
use super::{Row, Tx, params};
use crate::domain::identity::HashedToken;
use crate::store::contract::{InvitationRow, Invitations, Result};

impl Invitations for Tx<'_> {
    fn insert_invitation(&mut self, invitation: &InvitationRow) -> Result<()> {
        let (org, key) = (text(&invitation.org), invitation.email.key());
        let sql = "DELETE FROM invitations WHERE org_id = ?1 AND email_key = ?2";
        self.run("replace an invitation", sql, params![org, key])?;
        let sql = "INSERT INTO invitations (id, org_id, email, email_key, role, team_id, team_role,
                       invited_by, created_at, expires_at)
                   VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)";
        let params = params![
            text(&invitation.id),
            org,
            invitation.email.as_str(),
            key,
            invitation.role.as_str(),
            invitation.team.map(|(team, _)| text(&team)),
            invitation.team.map(|(_, role)| role.as_str()),
            text(&invitation.invited_by),
            millis(invitation.created_at),
            millis(invitation.expires_at),
        ];
        self.run("store an invitation", sql, params).map(drop)
    }

    fn invitation(&self, id: InvitationId) -> Result<Option<InvitationRow>> {
        let sql = "SELECT * FROM invitations WHERE id = ?1";
        self.first("look up an invitation", sql, [text(&id)], read)
    }

    fn invitation_by_token(&self, hash: &HashedToken) -> Result<Option<InvitationRow>> {
        let sql = "SELECT * FROM invitations WHERE hash = ?1";
        self.first("look up an invitation", sql, [hash.as_bytes()], read)
    }

    fn invitations_to(&self, org: OrgId, now: Timestamp) -> Result<Vec<InvitationRow>> {
        let sql = "SELECT * FROM invitations WHERE org_id = ?1 AND expires_at > ?2
                   ORDER BY created_at DESC, id";
        self.all("list invitations", sql, params![text(&org), millis(now)], read)
    }

    fn set_invitation_token(&mut self, id: InvitationId, hash: &HashedToken) -> Result<()> {
        let sql = "UPDATE invitations SET hash = ?2 WHERE id = ?1";
        self.run("store an invitation's token", sql, params![text(&id), hash.as_bytes()]).map(drop)
    }

    fn drop_invitation(&mut self, id: InvitationId) -> Result<bool> {
        let sql = "DELETE FROM invitations WHERE id = ?1";
        self.run("end an invitation", sql, [text(&id)]).map(|rows| rows > 0)
    }

    fn purge_invitations(&mut self, now: Timestamp, most: u32) -> Result<usize> {
        let sql = expired!("invitations", "id");
        self.run("delete old invitations", sql, params![millis(now), most])
    }
}

fn read(row: &Row<'_>) -> Result<InvitationRow> {
    Ok(InvitationRow {
        id: parsed(row, "id")?,
        org: parsed(row, "org_id")?,
        email: parsed(row, "email")?,
        role: parsed(row, "role")?,
        team: opt_parsed(row, "team_id")?.zip(opt_parsed(row, "team_role")?),
        invited_by: parsed(row, "invited_by")?,
        created_at: time(row, "created_at")?,
        expires_at: time(row, "expires_at")?,
    })
}
