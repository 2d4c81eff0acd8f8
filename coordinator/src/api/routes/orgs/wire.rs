//! Organisations, teams and keys: from the requests of the published API to domain values, and
//! from those to its answers.

use std::fmt::Display;
use std::str::FromStr;

use buddo_shared::api::teams::{
    ApiKey, CreateKey, Invitation, Invite, KeyCreated, Member, Org, OrgActivity, Rename, SetRole,
    Team,
};
use buddo_shared::model::id::TeamId;
use jiff::SignedDuration;

use crate::api::problem::ApiError;
use crate::domain::field_error::FieldError;
use crate::domain::identity::{
    Email, KeyScope, KeyScopes, Label, OrgRole, Slug, TeamRole, UnknownKeyScope,
};
use crate::service::teams::{
    MadeKey, NewInvitation, NewKey, NewName, OrgWithRole, Renaming, TeamWithRole,
};
use crate::store::contract::{ApiKeyRow, InvitationRow, MemberRow, OrgActRow};

/// Default lifetime of a key in days.
const DAYS: i64 = 90;
/// Maximum lifetime: a key that nobody renews is one that nobody misses.
const MOST_DAYS: i64 = 365;

/// Name and slug of something new; the slug is derived from the name if absent.
pub(in crate::api) fn new_name(name: &str, slug: Option<&str>) -> Result<NewName, ApiError> {
    let name = Label::parse(name).map_err(|error| ApiError::field("/name", error))?;
    let slug = match slug {
        Some(slug) => Slug::parse(slug),
        None => Slug::of(&name),
    };
    let slug = slug.map_err(|error| ApiError::field("/slug", error))?;
    Ok(NewName { name, slug })
}

pub(in crate::api) fn renaming(request: &Rename) -> Result<Renaming, ApiError> {
    let name = request.name.as_deref().map(Label::parse).transpose();
    let name = name.map_err(|error| ApiError::field("/name", error))?;
    let slug = request.slug.as_deref().map(Slug::parse).transpose();
    let slug = slug.map_err(|error| ApiError::field("/slug", error))?;
    Ok(Renaming { name, slug })
}

pub(in crate::api) fn role<R: FromStr<Err: Display>>(request: &SetRole) -> Result<R, ApiError> {
    request.role.parse().map_err(|error| ApiError::field("/role", error))
}

pub(in crate::api) fn new_invitation(request: Invite) -> Result<NewInvitation, ApiError> {
    let email = Email::parse(&request.email).map_err(|e| ApiError::field("/email", e))?;
    let role = request.role.as_deref().unwrap_or(OrgRole::Member.as_str()).parse();
    let role = role.map_err(|error| ApiError::field("/role", error))?;
    let team = request.team_id.map(|id| id.parse()).transpose();
    let team: Option<TeamId> = team.map_err(|error| ApiError::field("/teamId", error))?;
    let team_role = request.team_role.map(|role| role.parse()).transpose();
    let team_role = team_role.map_err(|error| ApiError::field("/teamRole", error))?;
    let team = match (team, team_role) {
        (Some(team), role) => Some((team, role.unwrap_or(TeamRole::Developer))),
        (None, Some(_)) => {
            return Err(ApiError::field("/teamRole", "is for a team; name it in teamId"));
        }
        (None, None) => None,
    };
    Ok(NewInvitation { email, role, team })
}

/// The key that is asked for, or every bad field. The password is checked before, by the caller.
pub(in crate::api) fn new_key(request: &CreateKey) -> Result<NewKey, ApiError> {
    let mut errors = Vec::new();
    let name = Label::parse(&request.name);
    let name = name.map_err(|error| errors.push(FieldError::new("/name", error)));
    let scopes = key_scopes(&request.scopes, &mut errors);
    let days = request.expires_in_days.unwrap_or(DAYS);
    if !(1..=MOST_DAYS).contains(&days) {
        let detail = format!("is out of range; use 1 to {MOST_DAYS}");
        errors.push(FieldError::new("/expiresInDays", detail));
    }
    match name {
        Ok(name) if errors.is_empty() => {
            Ok(NewKey { name, scopes, lifetime: SignedDuration::from_hours(24 * days) })
        }
        _ => Err(ApiError::invalid(errors)),
    }
}

fn key_scopes(words: &[String], errors: &mut Vec<FieldError>) -> KeyScopes {
    let mut scopes = Vec::new();
    for (index, word) in words.iter().enumerate() {
        match word.parse::<KeyScope>() {
            Ok(scope) if scope.is_offered() => scopes.push(scope),
            Ok(_) => errors.push(FieldError::new(format!("/scopes/{index}"), UnknownKeyScope)),
            Err(error) => errors.push(FieldError::new(format!("/scopes/{index}"), error)),
        }
    }
    if words.is_empty() {
        let detail = "is empty; name at least one scope, such as deployments:read";
        errors.push(FieldError::new("/scopes", detail));
    }
    scopes.into_iter().collect()
}

pub(in crate::api) fn org((org, role): OrgWithRole) -> Org {
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

pub(in crate::api) fn team((membership, role): TeamWithRole) -> Team {
    let (team, org) = (membership.team, membership.org);
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

pub(in crate::api) fn member<R: ToString>(member: MemberRow<R>) -> Member {
    Member {
        account_id: member.account.to_string(),
        username: member.username,
        role: member.role.to_string(),
        joined_at: member.joined_at,
    }
}

pub(in crate::api) fn invitation(row: InvitationRow) -> Invitation {
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

pub(in crate::api) fn api_key(row: ApiKeyRow) -> ApiKey {
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

pub(in crate::api) fn made_key(made: MadeKey) -> KeyCreated {
    KeyCreated { api_key: api_key(made.key), key: made.text }
}

pub(in crate::api) fn activity(row: OrgActRow) -> OrgActivity {
    OrgActivity {
        action: row.action,
        team_id: row.team,
        actor_id: row.actor,
        created_at: row.at,
        details: row.details,
    }
}
