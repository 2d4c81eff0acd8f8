//! `/api/orgs`, `/api/teams` and their API keys. Fields are in camel case, as the published pages
//! of organisations write them.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa::openapi::schema::{ArrayBuilder, ObjectBuilder, Schema, Type};

use crate::model::secret::{Secret, exposed, exposed_option};

/// An organisation, as one of its members sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Org {
    /// Organisation id.
    #[schema(format = "uuid")]
    pub id: String,
    /// Name for people.
    pub name: String,
    /// Short name in commands; unique. One that begins with `@` is an account's own.
    pub slug: String,
    /// What it pays for: `free` at first.
    pub plan: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// Whether it is an account's own, which nobody else can join.
    pub personal: bool,
    /// The account that answers for its deployments: whose limits they count against.
    #[schema(format = "uuid")]
    pub payer_id: String,
    /// The role of who asks: `org_owner`, `org_admin` or `org_member`.
    #[schema(pattern = "^(org_owner|org_admin|org_member)$")]
    pub role: String,
}

/// `POST /api/orgs`.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CreateOrg {
    /// Name for people.
    #[schema(min_length = 1, max_length = 64, example = "Acme")]
    pub name: String,
    /// Short name; made of the name if absent.
    #[schema(
        min_length = 2,
        max_length = 40,
        pattern = "^[a-z0-9][a-z0-9-]*[a-z0-9]$",
        example = "acme"
    )]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slug: Option<String>,
}

/// `PUT /api/orgs/{orgId}`, `PUT /api/teams/{teamId}`. What is absent stays.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Rename {
    /// Name for people.
    #[schema(min_length = 1, max_length = 64, example = "Acme")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Short name.
    #[schema(
        min_length = 2,
        max_length = 40,
        pattern = "^[a-z0-9][a-z0-9-]*[a-z0-9]$",
        example = "acme"
    )]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slug: Option<String>,
}

/// A member of an organisation or a team.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Member {
    /// Account id.
    #[schema(format = "uuid")]
    pub account_id: String,
    /// Public name.
    pub username: String,
    /// Its role there.
    #[schema(pattern = "^(org_owner|org_admin|org_member|team_admin|developer|viewer)$")]
    pub role: String,
    /// Since when.
    pub joined_at: Timestamp,
}

/// `PUT …/members/{accountId}`.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SetRole {
    /// Of an organisation: `org_owner`, `org_admin`, `org_member`; of a team: `team_admin`,
    /// `developer`, `viewer`.
    #[schema(
        pattern = "^(org_owner|org_admin|org_member|team_admin|developer|viewer)$",
        example = "developer"
    )]
    pub role: String,
}

/// `POST /api/orgs/{orgId}/invitations`.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Invite {
    /// Where the mail goes. Only the account that has confirmed this address can accept.
    #[schema(format = "email", max_length = 254, example = "you@example.com")]
    pub email: String,
    /// Role in the organisation; `org_member` if absent.
    #[schema(pattern = "^(org_owner|org_admin|org_member)$", default = "org_member")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// A team to join at once.
    #[schema(format = "uuid")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub team_id: Option<String>,
    /// Role in that team; `developer` if absent.
    #[schema(pattern = "^(team_admin|developer|viewer)$", default = "developer")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub team_role: Option<String>,
}

/// An invitation that nobody has accepted yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Invitation {
    /// Invitation id.
    #[schema(format = "uuid")]
    pub id: String,
    /// Where the mail went.
    pub email: String,
    /// Role in the organisation.
    #[schema(pattern = "^(org_owner|org_admin|org_member)$")]
    pub role: String,
    /// A team to join at once.
    #[schema(format = "uuid")]
    pub team_id: Option<String>,
    /// Role in that team.
    #[schema(pattern = "^(team_admin|developer|viewer)$")]
    pub team_role: Option<String>,
    /// The account that invites.
    #[schema(format = "uuid")]
    pub invited_by: String,
    /// When.
    pub created_at: Timestamp,
    /// When it ends by itself.
    pub expires_at: Timestamp,
}

/// `POST /api/invitations/accept`.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AcceptInvitation {
    /// The token of the mail's link; single use, 7 days.
    #[schema(value_type = String)]
    #[serde(serialize_with = "exposed")]
    pub token: Secret,
}

/// A team, as somebody who may look into it sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Team {
    /// Team id.
    #[schema(format = "uuid")]
    pub id: String,
    /// The organisation that it is part of.
    #[schema(format = "uuid")]
    pub org_id: String,
    /// That one's short name.
    pub org_slug: String,
    /// Name for people.
    pub name: String,
    /// Short name, unique in the organisation.
    pub slug: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// Whether it is an account's own.
    pub personal: bool,
    /// What who asks may do in it: `team_admin`, `developer` or `viewer`.
    #[schema(pattern = "^(team_admin|developer|viewer)$")]
    pub role: String,
}

/// `POST /api/orgs/{orgId}/teams`.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CreateTeam {
    /// Name for people.
    #[schema(min_length = 1, max_length = 64, example = "Acme")]
    pub name: String,
    /// Short name; made of the name if absent.
    #[schema(
        min_length = 2,
        max_length = 40,
        pattern = "^[a-z0-9][a-z0-9-]*[a-z0-9]$",
        example = "acme"
    )]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slug: Option<String>,
}

/// `POST /api/teams/{teamId}/keys`.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CreateKey {
    /// What it is for, for people.
    #[schema(min_length = 1, max_length = 64, example = "CI")]
    pub name: String,
    /// What it may do, such as `deployments:read`.
    #[schema(schema_with = asked_scopes)]
    pub scopes: Vec<String>,
    /// Days until it ends, 1 to 365; 90 if absent.
    #[schema(minimum = 1, maximum = 365, default = 90)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_in_days: Option<i64>,
    /// The account's password: a key outlives the token that it is asked with.
    #[schema(value_type = String, format = "password")]
    #[serde(serialize_with = "exposed")]
    pub password: Secret,
    /// One-time code, where the account has TOTP enabled.
    #[schema(value_type = Option<String>, example = "123456")]
    #[serde(default, skip_serializing_if = "Option::is_none", serialize_with = "exposed_option")]
    pub totp_code: Option<Secret>,
}

/// The scopes a key may be given.
const OFFERED_SCOPES: [&str; 2] = ["deployments:read", "deployments:write"];

/// The scopes a key may have: those of an earlier version have more.
const KEY_SCOPES: [&str; 6] = [
    "deployments:read",
    "deployments:write",
    "templates:read",
    "templates:write",
    "secrets:read",
    "secrets:write",
];

fn scopes_of_a_key(words: &[&str]) -> ArrayBuilder {
    let scope =
        ObjectBuilder::new().schema_type(Type::String).enum_values(Some(words.iter().copied()));
    ArrayBuilder::new()
        .items(scope)
        .description(Some("What the key may do. Writing does not include reading."))
}

fn scopes() -> Schema {
    scopes_of_a_key(&KEY_SCOPES).build().into()
}

fn asked_scopes() -> Schema {
    scopes_of_a_key(&OFFERED_SCOPES).min_items(Some(1)).build().into()
}

/// An API key, without the key itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ApiKey {
    /// Key id.
    #[schema(format = "uuid")]
    pub id: String,
    /// The team whose deployments it opens.
    #[schema(format = "uuid")]
    pub team_id: String,
    /// What it is for.
    pub name: String,
    /// How it begins, to tell it from others.
    pub hint: String,
    /// What it may do.
    #[schema(schema_with = scopes)]
    pub scopes: Vec<String>,
    /// The account that made it.
    #[schema(format = "uuid")]
    pub created_by: String,
    /// When.
    pub created_at: Timestamp,
    /// When it ends.
    pub expires_at: Timestamp,
    /// When it was last used, within ten minutes; `null`: never.
    pub last_used_at: Option<Timestamp>,
}

/// 201 answer of `POST /api/teams/{teamId}/keys`.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct KeyCreated {
    /// What is known of it from now on.
    #[serde(flatten)]
    pub api_key: ApiKey,
    /// The key itself; shown this once.
    #[schema(value_type = String, pattern = "^buddo_key_[0-9A-Za-z]{36}$")]
    #[serde(serialize_with = "exposed")]
    pub key: Secret,
}

/// An entry of an organisation's audit log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct OrgActivity {
    /// The word for it, such as `member_removed`.
    pub action: String,
    /// The team that it was in.
    #[schema(format = "uuid")]
    pub team_id: Option<String>,
    /// Who did it; `null`: the platform.
    #[schema(format = "uuid")]
    pub actor_id: Option<String>,
    /// When.
    pub created_at: Timestamp,
    /// Ids of what it concerned.
    #[schema(value_type = Option<std::collections::BTreeMap<String, serde_json::Value>>)]
    pub details: Option<serde_json::Value>,
}
