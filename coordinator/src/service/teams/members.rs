//! Members of an organisation and their roles.

use buddo_shared::model::id::{AccountId, OrgId};
use jiff::Timestamp;
use serde_json::json;

use super::orgs::shared;
use super::{TeamError, log};
use crate::auth::access::{MemberCheck, OrgGrant};
use crate::domain::identity::OrgRole;
use crate::state::AppState;
use crate::store::Tables;
use crate::store::contract::{MemberRow, OrgAct};

const ORG: &str = "organisation";
const MEMBER: &str = "member";

/// Its members, in the order they joined.
pub async fn org_members(
    state: &AppState,
    check: MemberCheck,
    id: OrgId,
) -> Result<Vec<MemberRow<OrgRole>>, TeamError> {
    state
        .store
        .read(move |tables| {
            check.org(tables, id, OrgRole::Member).map_err(TeamError::refused(ORG))?;
            Ok(tables.org_members(id)?)
        })
        .await
}

/// Gives a member another role.
pub async fn set_org_role(
    state: &AppState,
    check: MemberCheck,
    id: OrgId,
    member: AccountId,
    role: OrgRole,
) -> Result<(), TeamError> {
    let now = state.clock.now();
    state
        .store
        .write(move |tables| {
            let grant = check.org(tables, id, OrgRole::Admin).map_err(TeamError::refused(ORG))?;
            shared(grant.org())?;
            let former = tables.org_role(id, member)?.ok_or(TeamError::NotFound(MEMBER))?;
            rules(&grant, former)?;
            rules(&grant, role)?;
            if former == OrgRole::Owner && role != OrgRole::Owner {
                may_go(tables, &grant, member)?;
            }
            tables.set_org_role(id, member, role, now)?;
            let details =
                json!({ "account": member, "from": former.as_str(), "to": role.as_str() });
            let act = OrgAct::MemberRoleChanged;
            log(tables, (id, None), grant.actor(), act, now, Some(details))?;
            Ok(())
        })
        .await
}

/// Removes a member, or leaves. Their keys in its teams end.
pub async fn remove_org_member(
    state: &AppState,
    check: MemberCheck,
    id: OrgId,
    member: AccountId,
) -> Result<(), TeamError> {
    let now = state.clock.now();
    state
        .store
        .write(move |tables| {
            let leaves = member == check.account();
            let needs = if leaves { OrgRole::Member } else { OrgRole::Admin };
            let grant = check.org(tables, id, needs).map_err(TeamError::refused(ORG))?;
            shared(grant.org())?;
            let role = tables.org_role(id, member)?.ok_or(TeamError::NotFound(MEMBER))?;
            if !leaves {
                rules(&grant, role)?;
            }
            if role == OrgRole::Owner {
                may_go(tables, &grant, member)?;
            }
            remove(tables, &grant, member, now)
        })
        .await
}

fn remove(
    tables: &mut dyn Tables,
    grant: &OrgGrant,
    member: AccountId,
    now: Timestamp,
) -> Result<(), TeamError> {
    let (id, actor) = (grant.org().id, grant.actor());
    let keys = tables.remove_org_member(id, member)?;
    let act = if member == actor { OrgAct::MemberLeft } else { OrgAct::MemberRemoved };
    let details = json!({ "account": member, "api_keys": keys });
    log(tables, (id, None), actor, act, now, Some(details))?;
    Ok(())
}

/// Whether the caller may act on someone with this role, or grant it.
pub(super) fn rules(grant: &OrgGrant, role: OrgRole) -> Result<(), TeamError> {
    if grant.role().rules(role) {
        return Ok(());
    }
    Err(TeamError::Role(format!("only an owner of the organisation acts on the role {role}")))
}

/// An organisation always has an owner, and one responsible for its deployments.
fn may_go(tables: &dyn Tables, grant: &OrgGrant, owner: AccountId) -> Result<(), TeamError> {
    if tables.count_owners(grant.org().id)? <= 1 {
        return Err(TeamError::InUse(
            "this is the organisation's last owner; make another member an owner first",
        ));
    }
    if grant.org().payer == owner {
        return Err(TeamError::InUse(
            "this owner answers for the organisation's deployments; another owner has to take \
             that over first (POST /api/orgs/{orgId}/take-over)",
        ));
    }
    Ok(())
}
