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
mod view;

pub use error::TeamError;
pub use invitations::{Offer, accept, invitations, invite, offered, revoke_invitation};
pub use keys::{api_keys, create_key, revoke_key};
pub(crate) use leave::leave_all;
pub use members::{org_members, remove_org_member, set_org_role};
pub use orgs::{activity, create_org, delete_org, org, orgs, rename_org, take_over};
pub(crate) use own::make_own;
pub use team::{
    create_team, delete_team, org_teams, remove_team_member, rename_team, set_team_role, team,
    team_members, teams,
};

use buddo_shared::id::{AccountId, OrgId, TeamId};
use jiff::Timestamp;
use serde_json::Value;

use crate::domain::identity::{Label, Slug};
use crate::store::contract::{NewOrgAct, OrgAct};
use crate::store::{StoreError, Tables};

/// Maximum organisations that an account may pay for, besides its own.
const MAX_ORGS: usize = 10;
/// Maximum teams of one organisation.
const MAX_TEAMS: usize = 50;
/// Maximum members of one organisation, invited ones included.
const MAX_MEMBERS: u32 = 200;
/// Maximum valid keys of one team.
const MAX_KEYS: u32 = 50;

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

/// Name and slug of something new; the slug is derived from the name if absent.
fn named(name: &str, slug: Option<&str>) -> Result<(Label, Slug), TeamError> {
    let name = Label::parse(name).map_err(|error| TeamError::field("/name", error))?;
    let slug = match slug {
        Some(slug) => Slug::parse(slug),
        None => Slug::of(&name),
    };
    let slug = slug.map_err(|error| TeamError::field("/slug", error))?;
    Ok((name, slug))
}
