//! `/api/oauth/*`. Errors of the token endpoint keep the JSON of RFC 6749, 5.2.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::model::secret::{Secret, exposed, exposed_option};

/// The scope that deploy endpoints want.
pub const DEPLOY_MANAGE: &str = "deploy:manage";

/// The scope that the profile wants.
pub const PROFILE_READ: &str = "profile:read";

/// The scope of organisations, teams and API keys; the command line's alone.
pub const TEAMS_MANAGE: &str = "teams:manage";

/// `grant_type` of a device's question (RFC 8628, 3.4).
pub const DEVICE_CODE: &str = "urn:ietf:params:oauth:grant-type:device_code";

/// `grant_type` of a token exchange (RFC 8693, 2.1).
pub const TOKEN_EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";

/// `subject_token_type` of a JWT (RFC 8693, 3).
pub const TOKEN_TYPE_JWT: &str = "urn:ietf:params:oauth:token-type:jwt";

/// `POST /api/oauth/apps`.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateApp {
    /// Name shown on the consent page.
    #[schema(value_type = String, required, min_length = 1, max_length = 100, example = "My App")]
    pub app_name: Option<String>,
    /// Where codes may be sent; compared exactly, save a loopback port.
    #[schema(value_type = Option<Vec<RedirectUri>>, max_items = 10)]
    pub redirect_uris: Option<Vec<String>>,
    /// Scopes wanted.
    #[schema(value_type = Option<Vec<ScopeWord>>, min_items = 1)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requested_scopes: Option<Vec<String>>,
    /// `none`: a public client, which gets no secret; else it is confidential (RFC 7591, 2).
    #[schema(value_type = Option<AuthMethod>)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_endpoint_auth_method: Option<String>,
    /// The flows it uses (RFC 7591, 2); `authorization_code` and `refresh_token` if absent.
    #[schema(value_type = Option<Vec<GrantTypeWord>>, min_items = 1)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grant_types: Option<Vec<String>>,
    /// What the app does.
    #[schema(max_length = 500)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app_description: Option<String>,
    /// Logo for the consent page.
    #[schema(
        format = "uri",
        max_length = 2048,
        pattern = "^https://",
        example = "https://app.example.com/logo.png"
    )]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub logo_url: Option<String>,
    /// The app's own page.
    #[schema(
        format = "uri",
        max_length = 2048,
        pattern = "^https://",
        example = "https://app.example.com"
    )]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub website_url: Option<String>,
}

/// `PATCH /api/oauth/apps/{client_id}`.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct EditApp {
    /// Where codes may be sent from now on: all of them.
    #[schema(value_type = Vec<RedirectUri>, min_items = 1, max_items = 10)]
    pub redirect_uris: Vec<String>,
}

/// Where codes may be sent: `https`, or `http` on a loopback address.
#[expect(dead_code, reason = "a schema alone")]
#[derive(ToSchema)]
#[schema(
    value_type = String,
    format = "uri",
    max_length = 2048,
    pattern = "^https?://[!-\\[\\]-~]+$",
    example = "https://app.example.com/callback"
)]
struct RedirectUri(String);

/// What an app may be allowed.
#[expect(dead_code, reason = "a schema alone")]
#[derive(ToSchema)]
enum ScopeWord {
    #[schema(rename = "profile:read")]
    ProfileRead,
    #[schema(rename = "points:read")]
    PointsRead,
    #[schema(rename = "points:spend")]
    PointsSpend,
    #[schema(rename = "deploy:manage")]
    DeployManage,
    #[schema(rename = "app:balance:read")]
    AppBalanceRead,
}

/// A flow (RFC 7591, 2).
#[expect(dead_code, reason = "a schema alone")]
#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
enum GrantTypeWord {
    AuthorizationCode,
    RefreshToken,
    #[schema(rename = "urn:ietf:params:oauth:grant-type:device_code")]
    DeviceCode,
}

/// How an app proves itself at the token endpoint (RFC 7591, 2).
#[expect(dead_code, reason = "a schema alone")]
#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
enum AuthMethod {
    ClientSecretBasic,
    ClientSecretPost,
    None,
}

/// 201 answer of app creation.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct AppCreated {
    /// The app, with its secret this one time.
    pub app: App,
}

/// An OAuth app.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct App {
    /// App id.
    #[schema(format = "uuid")]
    pub id: String,
    /// Public client id.
    pub client_id: String,
    /// Shown once, when the app is made.
    #[schema(value_type = Option<String>)]
    #[serde(default, skip_serializing_if = "Option::is_none", serialize_with = "exposed_option")]
    pub client_secret: Option<Secret>,
    /// Name on the consent page.
    pub app_name: String,
    /// What the app does.
    pub app_description: Option<String>,
    /// Logo for the consent page.
    pub logo_url: Option<String>,
    /// The app's own page.
    pub website_url: Option<String>,
    /// Where codes may be sent.
    pub redirect_uris: Vec<String>,
    /// Scopes granted to the app.
    pub approved_scopes: Vec<String>,
    /// The same, by its other published name.
    pub allowed_scopes: Vec<String>,
    /// Whether the app may serve others than its owner.
    pub is_approved: bool,
    /// `none` of a public client; a confidential one may use either of the two ways.
    pub token_endpoint_auth_method: String,
    /// The flows it uses.
    pub grant_types: Vec<String>,
    /// When it was made.
    pub inserted_at: Timestamp,
}

/// `POST /api/oauth/apps/{client_id}/secret`. The answer is the app with its new secret.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RotateSecret {
    /// Seconds that the old secret works on, a day at most; not at all if absent.
    #[schema(minimum = 0, maximum = 86400)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep_old_seconds: Option<i64>,
}

/// Answer of `DELETE /api/oauth/apps/{client_id}`.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct AppRemoved {
    /// What was done.
    pub message: String,
}

/// `GET /api/oauth/my-apps`.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct AppList {
    /// The caller's apps.
    pub apps: Vec<App>,
}

/// `POST /api/oauth/token`, form or JSON, every grant type in one.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
pub struct TokenRequest {
    /// Which grant.
    #[schema(value_type = String, required, example = "authorization_code")]
    pub grant_type: Option<String>,
    /// The client, unless it authenticates by Basic.
    pub client_id: Option<String>,
    /// The client's secret, unless it authenticates by Basic or is public.
    #[schema(value_type = Option<String>, format = "password")]
    #[serde(default, skip_serializing_if = "Option::is_none", serialize_with = "exposed_option")]
    pub client_secret: Option<Secret>,
    /// Authorization code.
    #[schema(value_type = Option<String>)]
    #[serde(default, skip_serializing_if = "Option::is_none", serialize_with = "exposed_option")]
    pub code: Option<Secret>,
    /// The redirect URI of the authorization request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redirect_uri: Option<String>,
    /// PKCE verifier (RFC 7636).
    #[schema(value_type = Option<String>, min_length = 43, max_length = 128, pattern = "^[A-Za-z0-9._~-]+$")]
    #[serde(default, skip_serializing_if = "Option::is_none", serialize_with = "exposed_option")]
    pub code_verifier: Option<Secret>,
    /// Refresh token.
    #[schema(value_type = Option<String>)]
    #[serde(default, skip_serializing_if = "Option::is_none", serialize_with = "exposed_option")]
    pub refresh_token: Option<Secret>,
    /// Device code (RFC 8628, 3.4).
    #[schema(value_type = Option<String>)]
    #[serde(default, skip_serializing_if = "Option::is_none", serialize_with = "exposed_option")]
    pub device_code: Option<Secret>,
    /// Scopes wanted, separated by spaces.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<String>,
    /// The token to exchange (RFC 8693).
    #[schema(value_type = Option<String>)]
    #[serde(default, skip_serializing_if = "Option::is_none", serialize_with = "exposed_option")]
    pub subject_token: Option<Secret>,
    /// Its type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject_token_type: Option<String>,
}

/// 200 answer of the token endpoint (RFC 6749, 5.1).
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Tokens {
    /// For `/api/deploy/*`.
    #[schema(value_type = String)]
    #[serde(serialize_with = "exposed")]
    pub access_token: Secret,
    /// Always `Bearer`.
    #[schema(pattern = "^Bearer$")]
    pub token_type: String,
    /// Seconds the access token lives.
    pub expires_in: i64,
    /// Brings new tokens, once.
    #[schema(value_type = Option<String>)]
    #[serde(default, skip_serializing_if = "Option::is_none", serialize_with = "exposed_option")]
    pub refresh_token: Option<Secret>,
    /// Scopes granted.
    pub scope: String,
    /// Type of `access_token` (RFC 8693, 2.2.1), in answers to a token exchange.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issued_token_type: Option<String>,
}

/// 200 answer of `POST /api/oauth/device_authorization` (RFC 8628, 3.2).
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct DeviceAuthorization {
    /// What the device asks for its tokens with.
    #[schema(value_type = String)]
    #[serde(serialize_with = "exposed")]
    pub device_code: Secret,
    /// What the person types.
    pub user_code: String,
    /// Where.
    #[schema(format = "uri")]
    pub verification_uri: String,
    /// The same with the code in it, for those who can follow a link.
    #[schema(format = "uri")]
    pub verification_uri_complete: String,
    /// Seconds that both codes live.
    pub expires_in: i64,
    /// Seconds between two questions of the device; 5 if absent.
    pub interval: Option<u32>,
}

/// Error of the token endpoint (RFC 6749, 5.2).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct OAuthError {
    /// One of the registered words.
    pub error: String,
    /// What is wrong and what to do.
    pub error_description: String,
}
