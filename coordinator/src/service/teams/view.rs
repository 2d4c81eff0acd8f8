//! Maps stored records to API types.

use buddo_shared::api::teams::{ApiKey, Invitation, Member, Org, OrgActivity, Team};

use crate::domain::identity::{OrgRole, TeamRole};
use crate::store::contract::{ApiKeyRow, InvitationRow, MemberRow, Membership, OrgActRow, OrgRow};

pub(super) fn org(org: OrgRow, role: OrgRole) -> Org {
    Org {
        id: org.id.to_string(),
        name: org.name,
        slug: org.slug,
        plan: org.plan,
        created_at: org.created_at,
        personal: org.personal_of.is_some(),
        payer_id: org.payer.to_string(),
        role: role.to_string(),
    }
}

pub(super) fn team(standing: Membership, role: TeamRole) -> Team {
    let Membership { team, org, .. } = standing;
    Team {
        id: team.id.to_string(),
        org_id: org.id.to_string(),
        org_slug: org.slug,
        name: team.name,
        slug: team.slug,
        created_at: team.created_at,
        personal: org.personal_of.is_some(),
        role: role.to_string(),
    }
}

pub(super) fn member<R: ToString>(member: MemberRow<R>) -> Member {
    Member {
        account_id: member.account.to_string(),
        username: member.username,
        role: member.role.to_string(),
        joined_at: member.joined_at,
    }
}

pub(super) fn invitation(row: InvitationRow) -> Invitation {
    Invitation {
        id: row.id.to_string(),
        email: row.email.to_string(),
        role: row.role.to_string(),
        team_id: row.team.map(|(team, _)| team.to_string()),
        team_role: row.team.map(|(_, role)| role.to_string()),
        invited_by: row.invited_by.to_string(),
        created_at: row.created_at,
        expires_at: row.expires_at,
    }
}

pub(super) fn api_key(row: ApiKeyRow) -> ApiKey {
    ApiKey {
        id: row.id.to_string(),
        team_id: row.team.to_string(),
        name: row.name,
        hint: row.hint,
        scopes: row.scopes.words(),
        created_by: row.account.to_string(),
        created_at: row.created_at,
        expires_at: row.expires_at,
        last_used_at: row.last_used_at,
    }
}

pub(super) fn activity(row: OrgActRow) -> OrgActivity {
    OrgActivity {
        action: row.action,
        team_id: row.team,
        actor_id: row.actor,
        created_at: row.at,
        details: row.details,
    }
}
