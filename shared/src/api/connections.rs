//! `/api/user/connected-apps`, and `/api/external/*` for those apps.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Answer of `GET /api/user/connected-apps`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ConnectedApps {
    /// The apps that can act for the account now, the one that was used last first.
    pub connected_apps: Vec<ConnectedApp>,
}

/// An app that can act for the account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ConnectedApp {
    /// App id, as `DELETE /api/user/connected-apps/{app_id}` takes it.
    #[schema(format = "uuid")]
    pub app_id: String,
    /// Public client id.
    pub client_id: String,
    /// Name on the consent page.
    pub app_name: String,
    /// What the app does.
    pub app_description: Option<String>,
    /// Logo for the consent page.
    pub logo_url: Option<String>,
    /// The app's own page.
    pub website_url: Option<String>,
    /// What it may do, with the words of the consent page.
    pub scopes: Vec<GrantedScope>,
    /// Since when.
    pub connected_at: Timestamp,
    /// When it last got a token.
    pub last_token_at: Timestamp,
}

/// A permission.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct GrantedScope {
    /// The word in tokens.
    pub name: String,
    /// What it allows, for people.
    pub description: String,
}

/// Answer of `GET /api/external/user`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ExternalUser {
    /// The account that the app acts for.
    pub user: ExternalProfile,
}

/// An account as an app with `profile:read` sees it. Its mail address is no part of that.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ExternalProfile {
    /// Account id.
    #[schema(format = "uuid")]
    pub id: String,
    /// Public name.
    pub username: String,
    /// Account tier.
    pub tier: String,
    /// Whether the mail address is confirmed.
    pub email_verified: bool,
    /// When it was made.
    pub inserted_at: Timestamp,
}
