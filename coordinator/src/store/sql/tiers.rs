//! Tiers.

use buddo_shared::model::id::AccountId;
use buddo_shared::model::limits::Limits;
use buddo_shared::model::spec::TierSlug;

use super::column::{get, parsed, text};
use super::{Row, Tx, params};
use crate::store::contract::{Result, Tier, Tiers};

impl Tiers for Tx<'_> {
    fn tiers(&self) -> Result<Vec<Tier>> {
        self.all("list tiers", "SELECT * FROM tiers ORDER BY position", [], read)
    }

    fn tier(&self, slug: &TierSlug) -> Result<Option<Tier>> {
        self.first("read a tier", "SELECT * FROM tiers WHERE slug = ?1", [slug.as_str()], read)
    }

    fn closed_tier(&self, tier_id: &str, account: AccountId) -> Result<Option<TierSlug>> {
        let sql = "SELECT slug FROM tiers t WHERE id = ?1 AND open_to_all = 0 AND NOT EXISTS
                       (SELECT 1 FROM tier_grants WHERE tier_id = t.id AND account_id = ?2)";
        let params = params![tier_id, text(&account)];
        self.first("look up who may use a tier", sql, params, |row| parsed(row, "slug"))
    }
}

fn read(row: &Row<'_>) -> Result<Tier> {
    Ok(Tier {
        id: get(row, "id")?,
        slug: parsed(row, "slug")?,
        name: get(row, "name")?,
        payment_method: get(row, "payment_method")?,
        monthly_cost_points: get(row, "monthly_cost_points")?,
        monthly_cost_sats: get(row, "monthly_cost_sats")?,
        limits: limits(row)?,
        custom_domain_allowed: get(row, "custom_domain_allowed")?,
        monthly_stipend_points: get(row, "monthly_stipend_points")?,
        ad_reach_multiplier: get(row, "ad_reach_multiplier")?,
        max_per_account: get(row, "max_per_account")?,
        open_to_all: get(row, "open_to_all")?,
    })
}

/// The limits of a tier, or of a deployment: both tables use the same column names.
pub(super) fn limits(row: &Row<'_>) -> Result<Limits> {
    Ok(Limits {
        memory_mb: get(row, "memory_limit_mb")?,
        cpu_millicores: get(row, "cpu_limit_millicores")?,
        pids: get(row, "pids_limit")?,
    })
}
