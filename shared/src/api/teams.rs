//! `/api/orgs`, `/api/teams` and their API keys. Fields are in camel case, as the published pages
//! of organisations write them.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::secret::{Secret, exposed};

/// An organisation, as one of its members sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Org {
    /// Organisation id.
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
    pub payer_id: String,
    /// The role of who asks: `org_owner`, `org_admin` or `org_member`.
    pub role: String,
}

/// `POST /api/orgs`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CreateOrg {
    /// Name for people.
    pub name: String,
    /// Short name; made of the name if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slug: Option<String>,
}

/// `PUT /api/orgs/{orgId}`, `PUT /api/teams/{teamId}`. What is absent stays.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Rename {
    /// Name for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Short name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slug: Option<String>,
}

/// A member of an organisation or a team.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Member {
    /// Account id.
    pub account_id: String,
    /// Public name.
    pub username: String,
    /// Its role there.
    pub role: String,
    /// Since when.
    pub joined_at: Timestamp,
}

/// `PUT …/members/{accountId}`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SetRole {
    /// Of an organisation: `org_owner`, `org_admin`, `org_member`; of a team: `team_admin`,
    /// `developer`, `viewer`.
    pub role: String,
}

/// `POST /api/orgs/{orgId}/invitations`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Invite {
    /// Where the mail goes. Only the account that has confirmed this address can accept.
    pub email: String,
    /// Role in the organisation; `org_member` if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// A team to join at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub team_id: Option<String>,
    /// Role in that team; `developer` if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub team_role: Option<String>,
}

/// An invitation that nobody has accepted yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Invitation {
    /// Invitation id.
    pub id: String,
    /// Where the mail went.
    pub email: String,
    /// Role in the organisation.
    pub role: String,
    /// A team to join at once.
    pub team_id: Option<String>,
    /// Role in that team.
    pub team_role: Option<String>,
    /// The account that invites.
    pub invited_by: String,
    /// When.
    pub created_at: Timestamp,
    /// When it ends by itself.
    pub expires_at: Timestamp,
}

/// `POST /api/invitations/accept`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AcceptInvitation {
    /// The token of the mail's link; single use, 7 days.
    #[serde(serialize_with = "exposed")]
    pub token: Secret,
}

/// A team, as somebody who may look into it sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Team {
    /// Team id.
    pub id: String,
    /// The organisation that it is part of.
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
    pub role: String,
}

/// `POST /api/orgs/{orgId}/teams`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CreateTeam {
    /// Name for people.
    pub name: String,
    /// Short name; made of the name if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slug: Option<String>,
}

/// `POST /api/teams/{teamId}/keys`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CreateKey {
    /// What it is for, for people.
    pub name: String,
    /// What it may do, such as `deployments:read`.
    pub scopes: Vec<String>,
    /// Days until it ends, 1 to 365; 90 if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_in_days: Option<i64>,
}

/// An API key, without the key itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ApiKey {
    /// Key id.
    pub id: String,
    /// The team whose deployments it opens.
    pub team_id: String,
    /// What it is for.
    pub name: String,
    /// How it begins, to tell it from others.
    pub hint: String,
    /// What it may do.
    pub scopes: Vec<String>,
    /// The account that made it.
    pub created_by: String,
    /// When.
    pub created_at: Timestamp,
    /// When it ends.
    pub expires_at: Timestamp,
    /// When it was last used, within ten minutes; `null`: never.
    pub last_used_at: Option<Timestamp>,
}

/// 201 answer of `POST /api/teams/{teamId}/keys`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KeyCreated {
    /// What is known of it from now on.
    #[serde(flatten)]
    pub api_key: ApiKey,
    /// The key itself; shown this once.
    #[serde(serialize_with = "exposed")]
    pub key: Secret,
}

/// An entry of an organisation's audit log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OrgActivity {
    /// The word for it, such as `member_removed`.
    pub action: String,
    /// The team that it was in.
    pub team_id: Option<String>,
    /// Who did it; `null`: the platform.
    pub actor_id: Option<String>,
    /// When.
    pub created_at: Timestamp,
    /// Ids of what it concerned.
    pub details: Option<serde_json::Value>,
}
