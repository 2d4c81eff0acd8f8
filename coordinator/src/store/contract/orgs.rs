//! Organisations, teams, and who is in them.

use buddo_shared::id::{AccountId, OrgId, TeamId};
use jiff::Timestamp;
use serde_json::Value;

use super::Result;
use crate::domain::identity::{OrgRole, TeamRole, effective};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrgRow {
    pub id: OrgId,
    pub name: String,
    /// Short name; that of an account's own begins with `@`.
    pub slug: String,
    /// What it pays for.
    pub plan: String,
    /// Whose own it is; `None`: it is shared.
    pub personal_of: Option<AccountId>,
    /// Whose limits its deployments count against.
    pub payer: AccountId,
    /// When it was made.
    pub created_at: Timestamp,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TeamRow {
    pub id: TeamId,
    /// The organisation that it is part of.
    pub org: OrgId,
    pub name: String,
    /// Short name, unique in the organisation.
    pub slug: String,
    /// When it was made.
    pub created_at: Timestamp,
}

/// What an account is to a team.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Membership {
    pub team: TeamRow,
    pub org: OrgRow,
    /// The account's role in the organisation.
    pub org_role: Option<OrgRole>,
    /// The role that it was given in the team itself.
    pub team_role: Option<TeamRole>,
}

impl Membership {
    /// What the account may do in the team; `None`: it may not even know of it.
    pub fn role(&self) -> Option<TeamRole> {
        effective(self.org_role, self.team_role)
    }
}

/// A member, with the name that people know it by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberRow<R> {
    pub account: AccountId,
    pub username: String,
    /// What it may do.
    pub role: R,
    pub joined_at: Timestamp,
}

/// What was done to an organisation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OrgAct {
    OrgMade,
    /// Its name or short name was changed.
    OrgRenamed,
    OrgDeleted,
    /// Another owner answers for its deployments.
    PayerChanged,
    Invited,
    /// An invitation was taken back.
    InvitationRevoked,
    MemberJoined,
    /// A member has another role.
    MemberRoleChanged,
    /// A member was removed.
    MemberRemoved,
    MemberLeft,
    /// A team was made.
    TeamMade,
    /// Its name or short name was changed.
    TeamRenamed,
    TeamDeleted,
    /// Somebody is in a team, or has another role there.
    TeamRoleSet,
    /// Somebody is in a team no more.
    TeamMemberRemoved,
    /// A key was made.
    KeyMade,
    /// A key was ended.
    KeyRevoked,
}

impl OrgAct {
    /// The word in the log.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::OrgMade => "org_made",
            Self::OrgRenamed => "org_renamed",
            Self::OrgDeleted => "org_deleted",
            Self::PayerChanged => "payer_changed",
            Self::Invited => "member_invited",
            Self::InvitationRevoked => "invitation_revoked",
            Self::MemberJoined => "member_joined",
            Self::MemberRoleChanged => "member_role_changed",
            Self::MemberRemoved => "member_removed",
            Self::MemberLeft => "member_left",
            Self::TeamMade => "team_made",
            Self::TeamRenamed => "team_renamed",
            Self::TeamDeleted => "team_deleted",
            Self::TeamRoleSet => "team_role_set",
            Self::TeamMemberRemoved => "team_member_removed",
            Self::KeyMade => "api_key_made",
            Self::KeyRevoked => "api_key_revoked",
        }
    }
}

/// An entry of an organisation's log.
#[derive(Debug, Clone, PartialEq)]
pub struct NewOrgAct {
    pub org: OrgId,
    /// The team that it was in.
    pub team: Option<TeamId>,
    /// Who did it; `None`: the platform.
    pub actor: Option<AccountId>,
    pub act: OrgAct,
    pub at: Timestamp,
    /// Ids and words of what it concerned.
    pub details: Option<Value>,
}

/// An entry as stored.
#[derive(Debug, Clone, PartialEq)]
pub struct OrgActRow {
    /// Its place in the log: later ones have greater numbers.
    pub number: i64,
    pub action: String,
    /// The team that it was in.
    pub team: Option<String>,
    pub actor: Option<String>,
    pub at: Timestamp,
    /// Ids and words of what it concerned.
    pub details: Option<Value>,
}

/// Access to organisations. One that was ended is not found by any of these.
pub trait Orgs {
    /// Keeps a new organisation.
    fn insert_org(&mut self, org: &OrgRow) -> Result<()>;
    /// The organisation with this id.
    fn org(&self, id: OrgId) -> Result<Option<OrgRow>>;
    /// The organisations that the account is in, with its role, oldest first.
    fn orgs_of(&self, account: AccountId) -> Result<Vec<(OrgRow, OrgRole)>>;
    /// The shared organisations whose payer the account is, oldest first.
    fn orgs_paid_by(&self, account: AccountId) -> Result<Vec<OrgRow>>;
    /// Whether an organisation has this short name.
    fn org_slug_taken(&self, slug: &str) -> Result<bool>;
    /// Gives it another name and short name.
    fn rename_org(&mut self, id: OrgId, name: &str, slug: &str) -> Result<()>;
    /// Makes `payer` answer for its deployments, those that it has as well.
    fn set_payer(&mut self, id: OrgId, payer: AccountId) -> Result<()>;
    /// Ends it, with its teams, members, invitations and keys.
    fn end_org(&mut self, id: OrgId, at: Timestamp) -> Result<()>;
    /// The account's role in it.
    fn org_role(&self, id: OrgId, account: AccountId) -> Result<Option<OrgRole>>;
    /// Its members, first come first.
    fn org_members(&self, id: OrgId) -> Result<Vec<MemberRow<OrgRole>>>;
    /// How many members it has.
    fn count_members(&self, id: OrgId) -> Result<u32>;
    /// How many of its members are owners.
    fn count_owners(&self, id: OrgId) -> Result<u32>;
    /// Makes the account a member, or gives it another role.
    fn set_org_role(
        &mut self,
        id: OrgId,
        account: AccountId,
        role: OrgRole,
        at: Timestamp,
    ) -> Result<()>;
    /// Removes a member, also from its teams, with the keys that they made there; how many those
    /// were.
    fn remove_org_member(&mut self, id: OrgId, account: AccountId) -> Result<usize>;
    /// Whether it has a deployment that is not destroyed.
    fn org_has_deployments(&self, id: OrgId) -> Result<bool>;
    /// Adds to its log.
    fn insert_org_act(&mut self, act: &NewOrgAct) -> Result<()>;
    /// The newest `limit` entries of its log, newest first.
    fn org_acts(&self, id: OrgId, limit: u32) -> Result<Vec<OrgActRow>>;
}

/// Access to teams. One that was ended is not found by any of these.
pub trait Teams {
    /// Keeps a new team.
    fn insert_team(&mut self, team: &TeamRow) -> Result<()>;
    /// What the account is to the team.
    fn standing(&self, account: AccountId, team: TeamId) -> Result<Option<Membership>>;
    /// What the account is to each team that it may look into, its own first.
    fn standings_of(&self, account: AccountId) -> Result<Vec<Membership>>;
    /// What the account is to each team of the organisation, oldest team first.
    fn standings_in(&self, org: OrgId, account: AccountId) -> Result<Vec<Membership>>;
    /// Whether a team of the organisation has this short name.
    fn team_slug_taken(&self, org: OrgId, slug: &str) -> Result<bool>;
    /// Gives it another name and short name.
    fn rename_team(&mut self, id: TeamId, name: &str, slug: &str) -> Result<()>;
    /// Ends it, with its keys and who is in it.
    fn end_team(&mut self, id: TeamId, at: Timestamp) -> Result<()>;
    /// Who was put into it, first come first.
    fn team_members(&self, id: TeamId) -> Result<Vec<MemberRow<TeamRole>>>;
    /// Puts a member of its organisation into it, or gives it another role.
    fn set_team_role(
        &mut self,
        id: TeamId,
        account: AccountId,
        role: TeamRole,
        at: Timestamp,
    ) -> Result<()>;
    /// Takes a member out of it.
    fn remove_team_member(&mut self, id: TeamId, account: AccountId) -> Result<bool>;
    /// Whether it has a deployment that is not destroyed.
    fn team_has_deployments(&self, id: TeamId) -> Result<bool>;
}
