//! `/api/auth/*`.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::model::secret::{Secret, exposed, exposed_option};

/// `POST /api/auth/register`.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Register {
    /// Where the verification mail goes.
    #[schema(format = "email", max_length = 254, example = "you@example.com")]
    pub email: String,
    /// The public name.
    #[schema(
        min_length = 3,
        max_length = 32,
        pattern = "^[A-Za-z0-9][A-Za-z0-9_-]{2,31}$",
        example = "myoperator"
    )]
    pub username: String,
    /// At least 8 characters.
    #[schema(value_type = String, format = "password", min_length = 8, max_length = 128, example = "a-strong-password")]
    #[serde(serialize_with = "exposed")]
    pub password: Secret,
    /// The code of the account that invited this one.
    #[schema(example = "ABCDEFGHJK")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub referral_code: Option<String>,
}

/// 201 answer of register.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Registered {
    /// The new account.
    pub user: RegisteredUser,
}

/// An account as register shows it.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct RegisteredUser {
    /// Account id.
    #[schema(format = "uuid")]
    pub id: String,
    /// Mail address.
    pub email: String,
    /// Public name.
    pub username: String,
    /// Account tier, `free` at first.
    pub tier: String,
    /// Buddo points.
    pub points: i64,
    /// Code to invite others with.
    pub referral_code: String,
    /// Whether the mail address is confirmed.
    pub email_verified: bool,
    /// The how-manieth account this is.
    pub registration_number: i64,
}

/// `POST /api/auth/login`. `Debug` shows the address alone.
#[derive(Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Login {
    /// Mail address.
    #[schema(example = "you@example.com")]
    pub email: String,
    /// Password.
    #[schema(value_type = String, format = "password", example = "a-strong-password")]
    #[serde(serialize_with = "exposed")]
    pub password: Secret,
    /// One-time code, where the account has TOTP enabled.
    #[schema(value_type = Option<String>, example = "123456")]
    #[serde(default, skip_serializing_if = "Option::is_none", serialize_with = "exposed_option")]
    pub totp_code: Option<Secret>,
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login").field("email", &self.email).finish_non_exhaustive()
    }
}

/// 200 answer of login.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct LoggedIn {
    /// A JWT for `/api/auth/*`, `/api/oauth/*` and `/api/user/*`.
    #[schema(value_type = String)]
    #[serde(serialize_with = "exposed")]
    pub token: Secret,
    /// The account.
    pub user: User,
}

/// An account as login shows it.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct User {
    /// Account id.
    #[schema(format = "uuid")]
    pub id: String,
    /// Mail address.
    pub email: String,
    /// Public name.
    pub username: String,
    /// Account tier.
    pub tier: String,
    /// Whether it administers the platform.
    pub is_admin: bool,
    /// Whether the mail address is confirmed.
    pub email_verified: bool,
    /// Whether login wants a one-time code.
    pub totp_enabled: bool,
}

/// Answer of `GET /api/auth/me`.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Me {
    /// The account.
    pub user: Profile,
}

/// An account as its owner sees it.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Profile {
    /// What login shows too.
    #[serde(flatten)]
    pub user: User,
    /// Buddo points.
    pub points: i64,
    /// Code to invite others with.
    pub referral_code: String,
    /// How many accounts were made with it.
    #[serde(default)]
    pub referrals: i64,
    /// Recovery codes that were not used yet; absent where login wants no one-time code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recovery_codes_left: Option<u32>,
    /// The how-manieth account this is.
    pub registration_number: i64,
    /// When it was made.
    pub inserted_at: Timestamp,
}

/// `POST /api/auth/verify-email`.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct VerifyEmail {
    /// The token of the mail's link; single use, 24 hours.
    #[schema(value_type = String)]
    #[serde(serialize_with = "exposed")]
    pub token: Secret,
}

/// An answer that is one sentence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Message {
    /// The sentence.
    pub message: String,
}
