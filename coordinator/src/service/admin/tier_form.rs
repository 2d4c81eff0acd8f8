//! A tier as its administrator describes it, and as the audit log records it. The names of the
//! fields are those of `buddo-coordinator admin tier`.

use buddo_shared::model::spec::TierSlug;
use serde::{Deserialize, Serialize};

use crate::store::contract::Tier;

/// A tier to be added.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewTier {
    pub slug: TierSlug,
    pub payment_method: String,
    #[serde(default)]
    pub name: Option<String>,
    #[serde(default)]
    pub monthly_cost_points: Option<i64>,
    #[serde(default)]
    pub monthly_cost_sats: Option<i64>,
    pub memory_limit_mb: u32,
    pub cpu_limit_millicores: u32,
    #[serde(default)]
    pub pids_limit: Option<u32>,
    #[serde(default)]
    pub custom_domain_allowed: Option<bool>,
    #[serde(default)]
    pub monthly_stipend_points: Option<i64>,
    #[serde(default)]
    pub ad_reach_multiplier: Option<f64>,
    #[serde(default)]
    pub max_per_account: Option<u32>,
    #[serde(default)]
    pub open_to_all: Option<bool>,
}

impl NewTier {
    /// Its fields that can be changed later.
    pub(super) fn fields(&self) -> TierChange {
        TierChange {
            name: self.name.clone(),
            monthly_cost_points: self.monthly_cost_points,
            monthly_cost_sats: self.monthly_cost_sats,
            memory_limit_mb: Some(self.memory_limit_mb),
            cpu_limit_millicores: Some(self.cpu_limit_millicores),
            pids_limit: self.pids_limit,
            custom_domain_allowed: self.custom_domain_allowed,
            monthly_stipend_points: self.monthly_stipend_points,
            ad_reach_multiplier: self.ad_reach_multiplier,
            max_per_account: self.max_per_account,
            open_to_all: self.open_to_all,
        }
    }
}

/// What changes in a tier; `None`: nothing.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TierChange {
    pub name: Option<String>,
    pub monthly_cost_points: Option<i64>,
    pub monthly_cost_sats: Option<i64>,
    pub memory_limit_mb: Option<u32>,
    pub cpu_limit_millicores: Option<u32>,
    pub pids_limit: Option<u32>,
    pub custom_domain_allowed: Option<bool>,
    pub monthly_stipend_points: Option<i64>,
    pub ad_reach_multiplier: Option<f64>,
    /// 0: no limit of its own.
    pub max_per_account: Option<u32>,
    pub open_to_all: Option<bool>,
}

/// A tier, whole.
#[derive(Debug, Serialize)]
pub struct TierRecord<'a> {
    id: &'a str,
    slug: &'a str,
    name: &'a str,
    payment_method: &'a str,
    monthly_cost_points: Option<i64>,
    monthly_cost_sats: Option<i64>,
    memory_limit_mb: u32,
    cpu_limit_millicores: u32,
    pids_limit: u32,
    custom_domain_allowed: bool,
    monthly_stipend_points: i64,
    ad_reach_multiplier: f64,
    max_per_account: Option<u32>,
    open_to_all: bool,
}

impl<'a> From<&'a Tier> for TierRecord<'a> {
    fn from(tier: &'a Tier) -> Self {
        Self {
            id: &tier.id,
            slug: tier.slug.as_str(),
            name: &tier.name,
            payment_method: &tier.payment_method,
            monthly_cost_points: tier.monthly_cost_points,
            monthly_cost_sats: tier.monthly_cost_sats,
            memory_limit_mb: tier.limits.memory_mb,
            cpu_limit_millicores: tier.limits.cpu_millicores,
            pids_limit: tier.limits.pids,
            custom_domain_allowed: tier.custom_domain_allowed,
            monthly_stipend_points: tier.monthly_stipend_points,
            ad_reach_multiplier: tier.ad_reach_multiplier,
            max_per_account: tier.max_per_account,
            open_to_all: tier.open_to_all,
        }
    }
}
