//! What administrators do: `/api/admin/*`.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

/// An account as administrators see it.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct AdminAccount {
    /// Identifier.
    #[schema(format = "uuid")]
    pub id: String,
    /// The how-manieth it is; also where a page goes on.
    #[schema(minimum = 1)]
    pub registration_number: i64,
    /// Mail address.
    pub email: String,
    /// Public name.
    pub username: String,
    /// Account tier.
    pub tier: String,
    /// Buddo points.
    pub points: i64,
    /// Whether it administers the platform.
    pub is_admin: bool,
    /// Whether the address is confirmed.
    pub email_verified: bool,
    /// Whether its logins want a one-time code.
    pub totp_enabled: bool,
    /// Since when it may not act.
    pub suspended_at: Option<Timestamp>,
    /// Why, as its owner is told.
    pub suspended_for: Option<String>,
    /// When it was made.
    pub inserted_at: Timestamp,
    /// Its deployments that are not destroyed; where one account alone is shown.
    #[schema(nullable = false)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deployments: Option<u32>,
}

/// One account.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct AdminAccountEnvelope {
    /// The account.
    pub account: AdminAccount,
}

/// A page of accounts.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct AdminAccountList {
    /// The accounts, by registration number.
    #[schema(max_items = 100)]
    pub accounts: Vec<AdminAccount>,
}

/// `POST /api/admin/accounts/{id}/suspend`.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Suspend {
    /// What its owner is told; 200 characters.
    #[schema(
        max_length = 200,
        pattern = r"^[^\u0000-\u001f\u007f-\u009f]*$",
        example = "phishing"
    )]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// What a tier is paid in.
#[expect(dead_code, reason = "a schema alone")]
#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
enum PaymentMethod {
    BuddoPoints,
    Bitcoin,
}

/// A tier, whole.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct AdminTier {
    /// Identifier.
    pub id: String,
    /// Name in requests.
    #[schema(example = "buddo-starter")]
    pub slug: String,
    /// Name for people.
    pub name: String,
    /// `buddo_points` or `bitcoin`.
    #[schema(value_type = PaymentMethod)]
    pub payment_method: String,
    /// Monthly cost in Buddo points.
    pub monthly_cost_points: Option<i64>,
    /// Monthly cost in satoshis.
    pub monthly_cost_sats: Option<i64>,
    /// MiB of one container.
    pub memory_limit_mb: u32,
    /// Thousandths of a core of one container.
    pub cpu_limit_millicores: u32,
    /// Processes and threads of one container.
    pub pids_limit: u32,
    /// Whether a custom domain may be bound.
    pub custom_domain_allowed: bool,
    /// Points given back each month.
    pub monthly_stipend_points: i64,
    /// Multiplier of ad campaign reach.
    pub ad_reach_multiplier: f64,
    /// How many deployments one account may have on it; null: as many as the account may have.
    pub max_per_account: Option<u32>,
    /// Whether every account may deploy on it; else those alone that an administrator allowed.
    pub open_to_all: bool,
}

/// One tier.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct AdminTierEnvelope {
    /// The tier.
    pub tier: AdminTier,
}

/// All tiers.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct AdminTierList {
    /// The tiers, cheapest first.
    pub tiers: Vec<AdminTier>,
}

/// `PATCH /api/admin/tiers/{slug}`: what is absent stays.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ChangeTier {
    /// Name for people.
    #[schema(
        min_length = 1,
        max_length = 60,
        pattern = r"^[^\u0000-\u001f\u007f-\u009f]*[^\s\u0000-\u001f\u007f-\u009f][^\u0000-\u001f\u007f-\u009f]*$"
    )]
    pub name: Option<String>,
    /// Monthly cost in Buddo points.
    #[schema(minimum = 0, maximum = 1_000_000_000)]
    pub monthly_cost_points: Option<i64>,
    /// Monthly cost in satoshis.
    #[schema(minimum = 0, maximum = 1_000_000_000)]
    pub monthly_cost_sats: Option<i64>,
    /// MiB of one container.
    #[schema(minimum = 16, maximum = 1_048_576)]
    pub memory_limit_mb: Option<u32>,
    /// Thousandths of a core of one container.
    #[schema(minimum = 10, maximum = 256_000)]
    pub cpu_limit_millicores: Option<u32>,
    /// Processes and threads of one container.
    #[schema(minimum = 16, maximum = 32_768)]
    pub pids_limit: Option<u32>,
    /// Whether a custom domain may be bound.
    pub custom_domain_allowed: Option<bool>,
    /// Points given back each month.
    #[schema(minimum = 0, maximum = 1_000_000_000)]
    pub monthly_stipend_points: Option<i64>,
    /// Multiplier of ad campaign reach.
    #[schema(minimum = 0, maximum = 1000)]
    pub ad_reach_multiplier: Option<f64>,
    /// How many deployments one account may have on it; 0: as many as the account may have.
    #[schema(minimum = 0, maximum = 4_294_967_295_u32)]
    pub max_per_account: Option<u32>,
    /// Whether every account may deploy on it; else those alone that an administrator allowed.
    pub open_to_all: Option<bool>,
}

/// `POST /api/admin/tiers`.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AddTier {
    /// Name in requests.
    #[schema(min_length = 1, max_length = 64, pattern = "^[a-z0-9-]+$", example = "buddo-large")]
    pub slug: String,
    /// `buddo_points` or `bitcoin`.
    #[schema(value_type = PaymentMethod)]
    pub payment_method: String,
    /// Name for people; the slug if absent.
    #[schema(
        min_length = 1,
        max_length = 60,
        pattern = r"^[^\u0000-\u001f\u007f-\u009f]*[^\s\u0000-\u001f\u007f-\u009f][^\u0000-\u001f\u007f-\u009f]*$"
    )]
    #[serde(default)]
    pub name: Option<String>,
    /// Monthly cost in Buddo points.
    #[schema(minimum = 0, maximum = 1_000_000_000)]
    #[serde(default)]
    pub monthly_cost_points: Option<i64>,
    /// Monthly cost in satoshis.
    #[schema(minimum = 0, maximum = 1_000_000_000)]
    #[serde(default)]
    pub monthly_cost_sats: Option<i64>,
    /// MiB of one container.
    #[schema(minimum = 16, maximum = 1_048_576)]
    pub memory_limit_mb: u32,
    /// Thousandths of a core of one container.
    #[schema(minimum = 10, maximum = 256_000)]
    pub cpu_limit_millicores: u32,
    /// Processes and threads of one container; 256 if absent.
    #[schema(minimum = 16, maximum = 32_768, default = 256)]
    #[serde(default)]
    pub pids_limit: Option<u32>,
    /// Whether a custom domain may be bound; not if absent.
    #[schema(default = false)]
    #[serde(default)]
    pub custom_domain_allowed: Option<bool>,
    /// Points given back each month; none if absent.
    #[schema(minimum = 0, maximum = 1_000_000_000, default = 0)]
    #[serde(default)]
    pub monthly_stipend_points: Option<i64>,
    /// Multiplier of ad campaign reach; 1 if absent.
    #[schema(minimum = 0, maximum = 1000, default = 1)]
    #[serde(default)]
    pub ad_reach_multiplier: Option<f64>,
    /// How many deployments one account may have on it.
    #[schema(minimum = 0, maximum = 4_294_967_295_u32)]
    #[serde(default)]
    pub max_per_account: Option<u32>,
    /// Whether every account may deploy on it; else those alone that an administrator allowed. If
    /// absent: yes where it is paid in points, and no where it is paid in bitcoin.
    #[serde(default)]
    pub open_to_all: Option<bool>,
}

/// A host.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct AdminHost {
    /// Identifier.
    #[schema(format = "uuid")]
    pub id: String,
    /// Name.
    pub name: String,
    /// Where its agent listens.
    pub address: String,
    /// Since when it cannot be reached.
    pub unreachable_since: Option<Timestamp>,
    /// When it was reached last.
    pub last_seen: Option<Timestamp>,
    /// Why it does not have its newest document.
    pub refusal: Option<String>,
    /// Since when it is locked, for there are two copies of it.
    pub locked_at: Option<Timestamp>,
    /// Since when it gets no further deployments.
    pub drained_at: Option<Timestamp>,
    /// MiB promised to its deployments.
    pub reserved_mb: u64,
    /// MiB that it says it has; null until it said so.
    pub memory_mb: Option<u64>,
    /// MiB of that which are believed at most; null: all.
    pub max_memory_mb: Option<u64>,
    /// What an administrator should know of it, one line each.
    pub warnings: Vec<String>,
}

/// One host.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct AdminHostEnvelope {
    /// The host.
    pub host: AdminHost,
}

/// Answer to the evacuation of a host.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Evacuation {
    /// The host; it is drained from now on.
    pub host: AdminHost,
    /// How many deployments were moved to other hosts.
    pub moved: u32,
    /// Those that are still on it: make room elsewhere and evacuate again, or destroy them.
    pub left: Vec<LeftBehind>,
}

/// A deployment that could not be moved.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct LeftBehind {
    /// Deployment id.
    #[schema(format = "uuid")]
    pub id: String,
    /// Name in the zone; the id where it cannot be read.
    pub subdomain: String,
    /// Why it stays.
    pub reason: String,
}

/// All hosts.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct AdminHostList {
    /// The hosts, by name.
    pub hosts: Vec<AdminHost>,
}

/// An OAuth app.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct AdminApp {
    /// Public name in protocol messages.
    pub client_id: String,
    /// Name for people.
    pub app_name: String,
    /// Who made it.
    #[schema(format = "uuid")]
    pub owner_id: Option<String>,
    /// Whether it may serve others than its owner.
    pub is_approved: bool,
    /// What it may ask for.
    pub scopes: Vec<String>,
    /// Where codes may be sent.
    pub redirect_uris: Vec<String>,
    /// Its page.
    pub website_url: Option<String>,
    /// When it was made.
    pub inserted_at: Timestamp,
}

/// One app.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct AdminAppEnvelope {
    /// The app.
    pub app: AdminApp,
}

/// A page of apps.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct AdminAppList {
    /// The apps, by client id.
    #[schema(max_items = 100)]
    pub apps: Vec<AdminApp>,
}

/// An act of an administrator.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct AdminAct {
    /// Its number; also where a page goes on.
    #[schema(minimum = 1)]
    pub number: i64,
    /// What was done.
    pub action: String,
    /// Which account did it; null: whoever may run commands on the machine, or the platform.
    #[schema(format = "uuid")]
    pub actor: Option<String>,
    /// When.
    pub inserted_at: Timestamp,
    /// To what, and how.
    #[schema(value_type = std::collections::BTreeMap<String, Value>)]
    pub details: Value,
}

/// A page of acts.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct AdminActList {
    /// The acts, newest first.
    #[schema(max_items = 100)]
    pub acts: Vec<AdminAct>,
}
