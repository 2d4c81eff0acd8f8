//! What an account's owner does to it: `/api/auth/*` beside the published endpoints.

use jiff::Timestamp;
use serde::{Deserialize, Serialize, Serializer};
use utoipa::ToSchema;

use crate::model::secret::{Secret, exposed};

/// `POST /api/auth/forgot-password`.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ForgotPassword {
    /// The account's mail address.
    #[schema(example = "you@example.com")]
    pub email: String,
}

/// `POST /api/auth/reset-password`.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ResetPassword {
    /// The token of the mail's link; single use, 1 h.
    #[schema(value_type = String)]
    #[serde(serialize_with = "exposed")]
    pub token: Secret,
    /// The new password.
    #[schema(value_type = String, format = "password", min_length = 8, max_length = 128)]
    #[serde(serialize_with = "exposed")]
    pub password: Secret,
}

/// `POST /api/auth/change-password`.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ChangePassword {
    /// The present one.
    #[schema(value_type = String, format = "password")]
    #[serde(serialize_with = "exposed")]
    pub current_password: Secret,
    /// The new one.
    #[schema(value_type = String, format = "password", min_length = 8, max_length = 128)]
    #[serde(serialize_with = "exposed")]
    pub new_password: Secret,
    /// One-time code, where the account has TOTP enabled.
    #[schema(value_type = Option<String>, example = "123456")]
    #[serde(default, skip_serializing_if = "Option::is_none", serialize_with = "exposed_option")]
    pub totp_code: Option<Secret>,
    /// Whether the account's API keys, and what it allowed apps, outlive the old password. If not,
    /// they end: who knew it may have made or allowed some.
    #[schema(default = false)]
    #[serde(default)]
    pub keep_keys_and_apps: bool,
}

/// `POST /api/auth/change-email`.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ChangeEmail {
    /// The new address.
    #[schema(format = "email", max_length = 254, example = "you@example.com")]
    pub email: String,
    /// The account's password.
    #[schema(value_type = String, format = "password")]
    #[serde(serialize_with = "exposed")]
    pub password: Secret,
    /// One-time code, where the account has TOTP enabled.
    #[schema(value_type = Option<String>, example = "123456")]
    #[serde(default, skip_serializing_if = "Option::is_none", serialize_with = "exposed_option")]
    pub totp_code: Option<Secret>,
}

/// `POST /api/auth/confirm-email-change`.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ConfirmEmailChange {
    /// The token of the mail's link; single use, 1 h.
    #[schema(value_type = String)]
    #[serde(serialize_with = "exposed")]
    pub token: Secret,
}

/// What the owner repeats: `POST /api/auth/totp/enroll`, `…/disable`, `…/recovery-codes`,
/// `POST /api/auth/delete-account`.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Reauthentication {
    /// The account's password.
    #[schema(value_type = String, format = "password")]
    #[serde(serialize_with = "exposed")]
    pub password: Secret,
    /// One-time code, where the account has TOTP enabled.
    #[schema(value_type = Option<String>, example = "123456")]
    #[serde(default, skip_serializing_if = "Option::is_none", serialize_with = "exposed_option")]
    pub totp_code: Option<Secret>,
}

/// Answer of `POST /api/auth/totp/enroll`; shown this once.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct TotpEnrolment {
    /// The secret as it is typed into an app: base32.
    #[schema(value_type = String, pattern = "^[A-Z2-7]+$")]
    #[serde(serialize_with = "exposed")]
    pub secret: Secret,
    /// The same as a link: `otpauth://totp/…`.
    #[schema(value_type = String, format = "uri")]
    #[serde(serialize_with = "exposed")]
    pub otpauth_uri: Secret,
    /// The link as a QR code: an SVG document.
    #[schema(value_type = String)]
    #[serde(serialize_with = "exposed")]
    pub qr_svg: Secret,
}

/// `POST /api/auth/totp/confirm`.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ConfirmTotp {
    /// The app's present code.
    #[schema(value_type = String, pattern = "^[0-9]{6}$", example = "123456")]
    #[serde(serialize_with = "exposed")]
    pub code: Secret,
}

/// Codes that each stand in for a one-time code once; shown this once.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct RecoveryCodes {
    /// The codes.
    #[schema(value_type = Vec<String>, min_items = 10, max_items = 10)]
    #[serde(serialize_with = "exposed_list")]
    pub recovery_codes: Vec<Secret>,
}

/// Answer of `GET /api/auth/sessions`.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct SessionList {
    /// Last used first.
    #[schema(max_items = 100)]
    pub sessions: Vec<SessionView>,
}

/// One login.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct SessionView {
    /// Its id, for `DELETE /api/auth/sessions/{id}`.
    #[schema(format = "uuid")]
    pub id: String,
    /// Whether this request was made with it.
    pub current: bool,
    /// The address that it came from.
    pub ip_address: String,
    /// The program that it came from, as it named itself.
    #[schema(max_length = 200)]
    pub user_agent: Option<String>,
    /// When.
    pub inserted_at: Timestamp,
    /// When it was last used, within ten minutes.
    pub last_used_at: Timestamp,
    /// When it ends by itself.
    pub expires_at: Timestamp,
}

/// Answer of `GET /api/auth/activity`.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Activity {
    /// Newest first.
    #[schema(max_items = 100)]
    pub activity: Vec<ActivityEntry>,
}

/// What was done to the account.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct ActivityEntry {
    /// The word for it, such as `password_changed`.
    pub action: String,
    /// When.
    pub inserted_at: Timestamp,
    /// Ids of what it concerned.
    #[schema(value_type = Option<std::collections::BTreeMap<String, serde_json::Value>>)]
    pub details: Option<serde_json::Value>,
}

#[expect(clippy::ref_option, reason = "serde hands over a reference to the field")]
fn exposed_option<S: Serializer>(
    secret: &Option<Secret>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    secret.as_ref().map(Secret::expose).serialize(serializer)
}

fn exposed_list<S: Serializer>(secrets: &[Secret], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(secrets.iter().map(Secret::expose))
}
