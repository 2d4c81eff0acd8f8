//! Teams: create, show, rename, end; and their members.

use buddo_shared::model::id::{AccountId, OrgId, TeamId};
use serde_json::json;

use super::orgs::shared;
use super::{MAX_TEAMS, NewName, Renaming, TeamError, TeamWithRole, log};
use crate::auth::access::MemberCheck;
use crate::crypto::random;
use crate::domain::identity::{OrgRole, Slug, TeamRole};
use crate::state::AppState;
use crate::store::Tables;
use crate::store::contract::{MemberRow, Membership, OrgAct, TeamRow};

const TEAM: &str = "team";

/// The teams that the account may see, its own first.
pub async fn teams(state: &AppState, check: MemberCheck) -> Result<Vec<TeamWithRole>, TeamError> {
    state.store.read(move |tables| Ok(visible(tables.memberships_of(check.account())?))).await
}

/// Those of one organisation.
pub async fn org_teams(
    state: &AppState,
    check: MemberCheck,
    id: OrgId,
) -> Result<Vec<TeamWithRole>, TeamError> {
    state
        .store
        .read(move |tables| {
            let grant = check.org(tables, id, OrgRole::Member);
            let grant = grant.map_err(TeamError::refused("organisation"))?;
            Ok(visible(tables.memberships_in(id, grant.actor())?))
        })
        .await
}

fn visible(memberships: Vec<Membership>) -> Vec<TeamWithRole> {
    let shown = |membership: Membership| membership.role().map(|role| (membership, role));
    memberships.into_iter().filter_map(shown).collect()
}

pub async fn team(
    state: &AppState,
    check: MemberCheck,
    id: TeamId,
) -> Result<TeamWithRole, TeamError> {
    state
        .store
        .read(move |tables| {
            let grant = check.team(tables, id, TeamRole::Viewer);
            let grant = grant.map_err(TeamError::refused(TEAM))?;
            Ok((grant.membership().clone(), grant.role()))
        })
        .await
}

/// Creates a team. It has no members at first; admins of the organisation are admins in it anyway.
pub async fn create_team(
    state: &AppState,
    check: MemberCheck,
    org: OrgId,
    NewName { name, slug }: NewName,
) -> Result<TeamWithRole, TeamError> {
    let (id, now) = (TeamId::new(random::uuid(&*state.random)), state.clock.now());
    state
        .store
        .write(move |tables| {
            let grant = check.org(tables, org, OrgRole::Admin);
            let grant = grant.map_err(TeamError::refused("organisation"))?;
            shared(grant.org())?;
            if tables.memberships_in(org, grant.actor())?.len() >= MAX_TEAMS {
                let limit = u32::try_from(MAX_TEAMS).unwrap_or(u32::MAX);
                return Err(TeamError::Limit { limit, of: "teams of an organisation" });
            }
            free(tables, org, &slug)?;
            let (name, slug) = (name.to_string(), slug.to_string());
            let team = TeamRow { id, org, name, slug, created_at: now };
            tables.insert_team(&team)?;
            log(tables, (org, Some(id)), grant.actor(), OrgAct::TeamMade, now, None)?;
            let org = grant.org().clone();
            let org_role = Some(grant.role());
            let membership = Membership { team, org, org_role, team_role: None };
            Ok((membership, TeamRole::Admin))
        })
        .await
}

/// Changes its name, its slug, or both.
pub async fn rename_team(
    state: &AppState,
    check: MemberCheck,
    id: TeamId,
    Renaming { name, slug }: Renaming,
) -> Result<TeamWithRole, TeamError> {
    let now = state.clock.now();
    state
        .store
        .write(move |tables| {
            let grant = check.team(tables, id, TeamRole::Admin);
            let grant = grant.map_err(TeamError::refused(TEAM))?;
            let mut membership = grant.membership().clone();
            let org = membership.org.id;
            if let Some(slug) = slug.as_ref().filter(|slug| slug.as_str() != membership.team.slug) {
                free(tables, org, slug)?;
                membership.team.slug = slug.to_string();
            }
            if let Some(name) = &name {
                membership.team.name = name.to_string();
            }
            tables.rename_team(id, &membership.team.name, &membership.team.slug)?;
            log(tables, (org, Some(id)), grant.actor(), OrgAct::TeamRenamed, now, None)?;
            Ok((membership, grant.role()))
        })
        .await
}

/// Ends a team without deployments, with its keys.
pub async fn delete_team(
    state: &AppState,
    check: MemberCheck,
    id: TeamId,
) -> Result<(), TeamError> {
    let now = state.clock.now();
    state
        .store
        .write(move |tables| {
            let grant = check.team(tables, id, TeamRole::Viewer);
            let grant = grant.map_err(TeamError::refused(TEAM))?;
            let org = grant.membership().org.id;
            // Ending a team requires the role for creating one.
            check.org(tables, org, OrgRole::Admin).map_err(TeamError::refused(TEAM))?;
            shared(&grant.membership().org)?;
            if tables.team_has_deployments(id)? {
                return Err(TeamError::InUse(
                    "the team has deployments (a stopped one counts); destroy them first",
                ));
            }
            tables.end_team(id, now)?;
            log(tables, (org, Some(id)), grant.actor(), OrgAct::TeamDeleted, now, None)?;
            Ok(())
        })
        .await
}

/// Its members, in the order they were added.
pub async fn team_members(
    state: &AppState,
    check: MemberCheck,
    id: TeamId,
) -> Result<Vec<MemberRow<TeamRole>>, TeamError> {
    state
        .store
        .read(move |tables| {
            check.team(tables, id, TeamRole::Viewer).map_err(TeamError::refused(TEAM))?;
            Ok(tables.team_members(id)?)
        })
        .await
}

/// Adds a member of the organisation to the team, or changes their role there.
pub async fn set_team_role(
    state: &AppState,
    check: MemberCheck,
    id: TeamId,
    member: AccountId,
    role: TeamRole,
) -> Result<(), TeamError> {
    let now = state.clock.now();
    state
        .store
        .write(move |tables| {
            let grant = check.team(tables, id, TeamRole::Admin);
            let grant = grant.map_err(TeamError::refused(TEAM))?;
            let org = &grant.membership().org;
            shared(org)?;
            if tables.org_role(org.id, member)?.is_none() {
                return Err(TeamError::NotFound("member of the team's organisation"));
            }
            tables.set_team_role(id, member, role, now)?;
            let details = json!({ "account": member, "to": role.as_str() });
            let target = (org.id, Some(id));
            log(tables, target, grant.actor(), OrgAct::TeamRoleSet, now, Some(details))?;
            Ok(())
        })
        .await
}

/// Removes a member from the team, or leaves it. Their keys of it end.
pub async fn remove_team_member(
    state: &AppState,
    check: MemberCheck,
    id: TeamId,
    member: AccountId,
) -> Result<(), TeamError> {
    let now = state.clock.now();
    state
        .store
        .write(move |tables| {
            let leaves = member == check.account();
            let needs = if leaves { TeamRole::Viewer } else { TeamRole::Admin };
            let grant = check.team(tables, id, needs).map_err(TeamError::refused(TEAM))?;
            if !tables.remove_team_member(id, member)? {
                return Err(TeamError::NotFound("member"));
            }
            let keys = tables.drop_api_keys_by(id, member)?;
            let details = json!({ "account": member, "api_keys": keys });
            let target = (grant.membership().org.id, Some(id));
            let act = OrgAct::TeamMemberRemoved;
            log(tables, target, grant.actor(), act, now, Some(details))?;
            Ok(())
        })
        .await
}

fn free(tables: &dyn Tables, org: OrgId, slug: &Slug) -> Result<(), TeamError> {
    if tables.team_slug_taken(org, slug.as_str())? {
        return Err(TeamError::field("/slug", "is taken; choose another short name"));
    }
    Ok(())
}
