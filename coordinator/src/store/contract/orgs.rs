//! Organisations, teams, and their members.

use buddo_shared::model::id::{AccountId, OrgId, TeamId};
use jiff::Timestamp;
use serde_json::Value;

use super::Result;
use crate::domain::identity::{OrgRole, TeamRole, effective};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrgRow {
    pub id: OrgId,
    pub name: String,
    /// Slug; that of an account's own begins with `@`.
    pub slug: String,
    /// Its billing plan.
    pub plan: String,
    /// The account whose own it is; `None`: it is shared.
    pub personal_of: Option<AccountId>,
    /// The account whose limits apply to its deployments.
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
    /// Slug, unique in the organisation.
    pub slug: String,
    /// When it was made.
    pub created_at: Timestamp,
}

/// Membership of an account in a team.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Membership {
    pub team: TeamRow,
    pub org: OrgRow,
    /// The account's role in the organisation.
    pub org_role: Option<OrgRole>,
    /// The role given in the team itself.
    pub team_role: Option<TeamRole>,
}

impl Membership {
    /// The effective role in the team; `None`: the account may not know that it exists.
    pub fn role(&self) -> Option<TeamRole> {
        effective(self.org_role, self.team_role)
    }
}

/// A member, with username.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberRow<R> {
    pub account: AccountId,
    pub username: String,
    pub role: R,
    pub joined_at: Timestamp,
}

/// An act on an organisation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OrgAct {
    OrgMade,
    /// Its name or slug was changed.
    OrgRenamed,
    OrgDeleted,
    /// Another owner is responsible for its deployments.
    PayerChanged,
    Invited,
    /// An invitation was revoked.
    InvitationRevoked,
    MemberJoined,
    /// A member has another role.
    MemberRoleChanged,
    /// A member was removed.
    MemberRemoved,
    MemberLeft,
    /// A team was made.
    TeamMade,
    /// Its name or slug was changed.
    TeamRenamed,
    TeamDeleted,
    /// A member was added to a team, or has another role there.
    TeamRoleSet,
    /// A member was removed from a team.
    TeamMemberRemoved,
    /// A key was made.
    KeyMade,
    /// A key was revoked.
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
    /// The team concerned.
    pub team: Option<TeamId>,
    /// The actor; `None`: the platform.
    pub actor: Option<AccountId>,
    pub act: OrgAct,
    pub at: Timestamp,
    /// Ids and values concerned.
    pub details: Option<Value>,
}

/// An entry as stored.
#[derive(Debug, Clone, PartialEq)]
pub struct OrgActRow {
    /// Its position in the log: later ones have greater numbers.
    pub number: i64,
    pub action: String,
    /// The team concerned.
    pub team: Option<String>,
    pub actor: Option<String>,
    pub at: Timestamp,
    /// Ids and values concerned.
    pub details: Option<Value>,
}

/// Access to organisations. None of these finds one that has ended.
pub trait Orgs {
    /// Stores a new organisation.
    fn insert_org(&mut self, org: &OrgRow) -> Result<()>;
    /// The organisation with this id.
    fn org(&self, id: OrgId) -> Result<Option<OrgRow>>;
    /// The organisations that the account is in, with its role, oldest first.
    fn orgs_of(&self, account: AccountId) -> Result<Vec<(OrgRow, OrgRole)>>;
    /// The shared organisations whose payer the account is, oldest first.
    fn orgs_paid_by(&self, account: AccountId) -> Result<Vec<OrgRow>>;
    /// Whether an organisation has this slug.
    fn org_slug_taken(&self, slug: &str) -> Result<bool>;
    /// Sets its name and slug.
    fn rename_org(&mut self, id: OrgId, name: &str, slug: &str) -> Result<()>;
    /// Makes `payer` responsible for its deployments, existing ones included.
    fn set_payer(&mut self, id: OrgId, payer: AccountId) -> Result<()>;
    /// Ends it, with its teams, members, invitations and keys.
    fn end_org(&mut self, id: OrgId, at: Timestamp) -> Result<()>;
    /// The account's role in it.
    fn org_role(&self, id: OrgId, account: AccountId) -> Result<Option<OrgRole>>;
    /// Its members, in the order they joined.
    fn org_members(&self, id: OrgId) -> Result<Vec<MemberRow<OrgRole>>>;
    /// How many members it has.
    fn count_members(&self, id: OrgId) -> Result<u32>;
    /// How many of its members are owners.
    fn count_owners(&self, id: OrgId) -> Result<u32>;
    /// Makes the account a member, or changes its role.
    fn set_org_role(
        &mut self,
        id: OrgId,
        account: AccountId,
        role: OrgRole,
        at: Timestamp,
    ) -> Result<()>;
    /// Removes a member, also from its teams, with the keys made there; returns the number of keys.
    fn remove_org_member(&mut self, id: OrgId, account: AccountId) -> Result<usize>;
    /// Whether it has a deployment that is not destroyed.
    fn org_has_deployments(&self, id: OrgId) -> Result<bool>;
    /// Adds to its log.
    fn insert_org_act(&mut self, act: &NewOrgAct) -> Result<()>;
    /// The newest `limit` entries of its log, newest first.
    fn org_acts(&self, id: OrgId, limit: u32) -> Result<Vec<OrgActRow>>;
}

/// Access to teams. None of these finds one that has ended.
pub trait Teams {
    /// Stores a new team.
    fn insert_team(&mut self, team: &TeamRow) -> Result<()>;
    /// The account's membership in the team.
    fn membership(&self, account: AccountId, team: TeamId) -> Result<Option<Membership>>;
    /// The account's membership in each team it may see, its own first.
    fn memberships_of(&self, account: AccountId) -> Result<Vec<Membership>>;
    /// The account's membership in each team of the organisation, oldest team first.
    fn memberships_in(&self, org: OrgId, account: AccountId) -> Result<Vec<Membership>>;
    /// Whether a team of the organisation has this slug.
    fn team_slug_taken(&self, org: OrgId, slug: &str) -> Result<bool>;
    /// Sets its name and slug.
    fn rename_team(&mut self, id: TeamId, name: &str, slug: &str) -> Result<()>;
    /// Ends it, with its keys and memberships.
    fn end_team(&mut self, id: TeamId, at: Timestamp) -> Result<()>;
    /// Its members, in the order they were added.
    fn team_members(&self, id: TeamId) -> Result<Vec<MemberRow<TeamRole>>>;
    /// Adds a member of its organisation, or changes the role.
    fn set_team_role(
        &mut self,
        id: TeamId,
        account: AccountId,
        role: TeamRole,
        at: Timestamp,
    ) -> Result<()>;
    /// Removes a member.
    fn remove_team_member(&mut self, id: TeamId, account: AccountId) -> Result<bool>;
    /// Whether it has a deployment that is not destroyed.
    fn team_has_deployments(&self, id: TeamId) -> Result<bool>;
}
