//! Tiers: from the requests of the published API to domain values, and from those to its answers.

use buddo_shared::api::admin::{AddTier, AdminTier, ChangeTier};
use buddo_shared::model::spec::TierSlug;

use crate::api::problem::ApiError;
use crate::service::admin::{NewTier, TierChange};
use crate::store::contract::Tier;

pub(super) fn new_tier(request: AddTier) -> Result<NewTier, ApiError> {
    let slug = TierSlug::parse(&request.slug).map_err(|error| ApiError::field("/slug", error))?;
    Ok(NewTier {
        slug,
        payment_method: request.payment_method,
        name: request.name,
        monthly_cost_points: request.monthly_cost_points,
        monthly_cost_sats: request.monthly_cost_sats,
        memory_limit_mb: request.memory_limit_mb,
        cpu_limit_millicores: request.cpu_limit_millicores,
        pids_limit: request.pids_limit,
        custom_domain_allowed: request.custom_domain_allowed,
        monthly_stipend_points: request.monthly_stipend_points,
        ad_reach_multiplier: request.ad_reach_multiplier,
        max_per_account: request.max_per_account,
        open_to_all: request.open_to_all,
    })
}

pub(super) fn tier_change(request: ChangeTier) -> TierChange {
    TierChange {
        name: request.name,
        monthly_cost_points: request.monthly_cost_points,
        monthly_cost_sats: request.monthly_cost_sats,
        memory_limit_mb: request.memory_limit_mb,
        cpu_limit_millicores: request.cpu_limit_millicores,
        pids_limit: request.pids_limit,
        custom_domain_allowed: request.custom_domain_allowed,
        monthly_stipend_points: request.monthly_stipend_points,
        ad_reach_multiplier: request.ad_reach_multiplier,
        max_per_account: request.max_per_account,
        open_to_all: request.open_to_all,
    }
}

pub(super) fn tier(tier: Tier) -> AdminTier {
    AdminTier {
        id: tier.id,
        slug: tier.slug.to_string(),
        name: tier.name,
        payment_method: tier.payment_method,
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
