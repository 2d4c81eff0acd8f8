//! Organisations, teams, their members, and the teams' API keys.
//!
//! ```text
//! account ─┬─ its own organisation ── its own team ── deployments, keys
//!          └─ member of others (role) ── teams of those (role) ── deployments, keys
//! ```
//!
//! Each use case asks its [`MemberCheck`](crate::auth::access::MemberCheck) for the required role,
//! in the transaction that acts on the answer, and records what it did in the organisation's log.

mod error;
mod invitations;
mod keys;
mod leave;
mod members;
mod orgs;
mod own;
mod team;

pub use error::TeamError;
pub use invitations::{
    NewInvitation, Offer, accept, invitations, invite, offered, revoke_invitation,
};
pub use keys::{MadeKey, NewKey, api_keys, create_key, revoke_key};
pub(crate) use leave::leave_all;
pub use members::{org_members, remove_org_member, set_org_role};
pub use orgs::{activity, create_org, delete_org, org, orgs, rename_org, take_over};
pub(crate) use own::make_own;
pub use team::{
    create_team, delete_team, org_teams, remove_team_member, rename_team, set_team_role, team,
    team_members, teams,
};

use buddo_shared::model::id::{AccountId, OrgId, TeamId};
use jiff::Timestamp;
use serde_json::Value;

use crate::domain::identity::{Label, OrgRole, Slug, TeamRole};
use crate::store::contract::{Membership, NewOrgAct, OrgAct, OrgRow};
use crate::store::{StoreError, Tables};

/// Maximum organisations that an account may pay for, besides its own.
const MAX_ORGS: usize = 10;
/// Maximum teams of one organisation.
const MAX_TEAMS: usize = 50;
/// Maximum members of one organisation, invited ones included.
const MAX_MEMBERS: u32 = 200;
/// Maximum valid keys of one team.
const MAX_KEYS: u32 = 50;

/// An organisation, and the role in it of the account that asks.
pub type OrgWithRole = (OrgRow, OrgRole);

/// A team, and the role in it of the account that asks.
pub type TeamWithRole = (Membership, TeamRole);

/// What something new is called.
#[derive(Debug, Clone)]
pub struct NewName {
    pub name: Label,
    pub slug: Slug,
}

/// What something is called from now on; `None`: as before.
#[derive(Debug, Clone, Default)]
pub struct Renaming {
    pub name: Option<Label>,
    pub slug: Option<Slug>,
}

/// Adds to an organisation's log.
fn log(
    tables: &mut dyn Tables,
    (org, team): (OrgId, Option<TeamId>),
    actor: AccountId,
    act: OrgAct,
    at: Timestamp,
    details: Option<Value>,
) -> Result<(), StoreError> {
    tables.insert_org_act(&NewOrgAct { org, team, actor: Some(actor), act, at, details })
}
