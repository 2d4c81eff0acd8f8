//! Tiers: resource limits and prices of deployments.

use buddo_shared::model::id::AccountId;
use buddo_shared::model::limits::Limits;
use buddo_shared::model::spec::TierSlug;

use super::Result;

#[derive(Debug, Clone, PartialEq)]
pub struct Tier {
    pub id: String,
    pub slug: TierSlug,
    pub name: String,
    /// `buddo_points` or `bitcoin`.
    pub payment_method: String,
    /// Monthly cost in Buddo points.
    pub monthly_cost_points: Option<i64>,
    /// Monthly cost in satoshis.
    pub monthly_cost_sats: Option<i64>,
    /// Resource limits of one container.
    pub limits: Limits,
    /// Whether a custom domain may be bound.
    pub custom_domain_allowed: bool,
    /// Points given back each month.
    pub monthly_stipend_points: i64,
    /// Multiplier of ad campaign reach.
    pub ad_reach_multiplier: f64,
    /// Maximum deployments of one account on it; `None`: as many as the account may have.
    pub max_per_account: Option<u32>,
    /// Whether every account may deploy on it; if not, only those that an administrator allowed.
    pub open_to_all: bool,
}

pub trait Tiers {
    /// All tiers, cheapest first.
    fn tiers(&self) -> Result<Vec<Tier>>;
    /// The tier with this slug.
    fn tier(&self, slug: &TierSlug) -> Result<Option<Tier>>;
    /// The slug of the tier with this id, if it is closed to `account`.
    fn closed_tier(&self, tier_id: &str, account: AccountId) -> Result<Option<TierSlug>>;
}
