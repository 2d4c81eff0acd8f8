//! Tiers: what a deployment may use and what it costs.

use buddo_shared::id::AccountId;
use buddo_shared::limits::Limits;
use buddo_shared::spec::TierSlug;

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
    /// What one container may use.
    pub limits: Limits,
    /// Whether a custom domain may be bound.
    pub custom_domain_allowed: bool,
    /// Points given back each month.
    pub monthly_stipend_points: i64,
    /// Multiplier of ad campaign reach.
    pub ad_reach_multiplier: f64,
    /// How many deployments one account may have on it; `None`: as many as the account may have.
    pub max_per_account: Option<u32>,
    /// Whether every account may deploy on it; else those alone that an administrator allowed.
    pub open_to_all: bool,
}

pub trait Tiers {
    /// All tiers, cheapest first.
    fn tiers(&self) -> Result<Vec<Tier>>;
    /// The tier with this slug.
    fn tier(&self, slug: &TierSlug) -> Result<Option<Tier>>;
    /// The slug of the tier with this id if `account` may not deploy on it.
    fn closed_tier(&self, tier_id: &str, account: AccountId) -> Result<Option<TierSlug>>;
}
