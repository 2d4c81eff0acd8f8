//! Tiers. A change applies to deployments made after it; existing ones keep their limits.

use crate::domain::field_error::FieldError;
use buddo_shared::model::limits::Limits;
use buddo_shared::model::spec::TierSlug;
use serde_json::json;

use super::accounts::find;
use super::tier_form::{NewTier, TierChange, TierRecord};
use super::{AdminContext, AdminError};
use crate::crypto::random;
use crate::store::contract::{Account, Tier};
use crate::store::{StoreError, Tables};

const POINTS: &str = "buddo_points";
const BITCOIN: &str = "bitcoin";

pub async fn tiers(context: &AdminContext) -> Result<Vec<Tier>, StoreError> {
    context.store.read(|tables| tables.tiers()).await
}

/// Allows an account to deploy on a closed tier.
pub async fn allow_tier(
    context: &AdminContext,
    slug: &str,
    name: &str,
) -> Result<Account, AdminError> {
    decide(context, slug, name, "tier_allow", |tables, context, tier, account| {
        let new = tables.allow_tier(&tier.id, account.id, context.now)?;
        if new {
            Ok(())
        } else {
            Err(AdminError::Conflict("the account is already allowed to use it"))
        }
    })
    .await
}

/// Revokes that. Running apps go on, but cannot be restarted or rolled back.
pub async fn deny_tier(
    context: &AdminContext,
    slug: &str,
    name: &str,
) -> Result<Account, AdminError> {
    decide(context, slug, name, "tier_deny", |tables, _, tier, account| {
        let gone = tables.deny_tier(&tier.id, account.id)?;
        if gone {
            Ok(())
        } else {
            Err(AdminError::Conflict("the account is not allowed to use it"))
        }
    })
    .await
}

async fn decide(
    context: &AdminContext,
    slug: &str,
    name: &str,
    act: &'static str,
    work: impl Fn(&mut dyn Tables, &AdminContext, &Tier, &Account) -> Result<(), AdminError>
    + Send
    + 'static,
) -> Result<Account, AdminError> {
    let (slug, name) = (slug.to_owned(), name.to_owned());
    context
        .write(move |tables, context| {
            let tier = named(tables, &slug)?;
            let account = find(tables, &name)?;
            work(tables, context, &tier, &account)?;
            let details = json!({ "tier": tier.slug.as_str(), "account": account.id });
            tables.insert_admin_act(act, context.now, context.actor, &details)?;
            Ok(account)
        })
        .await
}

/// A page of the accounts allowed on a tier, and whether there are more.
pub async fn tier_accounts(
    context: &AdminContext,
    slug: &str,
    after: i64,
    limit: u32,
) -> Result<(Vec<Account>, bool), AdminError> {
    let slug = slug.to_owned();
    context
        .store
        .read(move |tables| {
            let tier = named(tables, &slug)?;
            let mut found = tables.tier_accounts(&tier.id, after, limit.saturating_add(1))?;
            let more = found.len() > limit as usize;
            found.truncate(limit as usize);
            Ok((found, more))
        })
        .await
}

fn named(tables: &dyn Tables, slug: &str) -> Result<Tier, AdminError> {
    let absent = || AdminError::NoTier(slug.to_owned());
    let parsed = TierSlug::parse(slug).map_err(|_| absent())?;
    tables.tier(&parsed)?.ok_or_else(absent)
}

pub async fn add_tier(context: &AdminContext, new: NewTier) -> Result<Tier, AdminError> {
    let payment_method = new.payment_method.clone();
    if ![POINTS, BITCOIN].contains(&payment_method.as_str()) {
        return Err(AdminError::field("/payment_method", "must be buddo_points or bitcoin"));
    }
    // Points can be paid already; money is not taken yet.
    let open_to_all = payment_method == POINTS;
    let tier = Tier {
        id: random::uuid(&*context.random).to_string(),
        name: new.slug.to_string(),
        slug: new.slug.clone(),
        payment_method,
        monthly_cost_points: None,
        monthly_cost_sats: None,
        limits: Limits { memory_mb: 0, cpu_millicores: 0, pids: 256 },
        custom_domain_allowed: false,
        monthly_stipend_points: 0,
        ad_reach_multiplier: 1.0,
        max_per_account: None,
        open_to_all,
    };
    let tier = changed(tier, new.fields())?;
    context
        .write(move |tables, context| {
            if tables.tier(&tier.slug)?.is_some() {
                return Err(AdminError::field(
                    "/slug",
                    "is taken; choose another, or change that tier",
                ));
            }
            tables.insert_tier(&tier)?;
            let details = json!({ "tier": tier.slug.as_str(), "now": TierRecord::from(&tier) });
            tables.insert_admin_act("tier_add", context.now, context.actor, &details)?;
            Ok(tier.clone())
        })
        .await
}

/// Changes the named fields of a tier.
pub async fn change_tier(
    context: &AdminContext,
    slug: &str,
    change: TierChange,
) -> Result<Tier, AdminError> {
    let slug = TierSlug::parse(slug).map_err(|_| AdminError::NoTier(slug.to_owned()))?;
    context
        .write(move |tables, context| {
            let found = tables.tier(&slug)?;
            let before = found.ok_or_else(|| AdminError::NoTier(slug.to_string()))?;
            let tier = changed(before.clone(), change.clone())?;
            tables.update_tier(&tier)?;
            let details = json!({
                "tier": slug.as_str(),
                "before": TierRecord::from(&before), "now": TierRecord::from(&tier),
            });
            tables.insert_admin_act("tier_change", context.now, context.actor, &details)?;
            Ok(tier)
        })
        .await
}

/// The tier with the named fields changed, if the result is valid; otherwise every error.
fn changed(mut tier: Tier, change: TierChange) -> Result<Tier, AdminError> {
    let TierChange {
        name,
        monthly_cost_points,
        monthly_cost_sats,
        memory_limit_mb,
        cpu_limit_millicores,
        pids_limit,
        custom_domain_allowed,
        monthly_stipend_points,
        ad_reach_multiplier,
        max_per_account,
        open_to_all,
    } = change;
    tier.name = name.map_or(tier.name, |name| name.trim().to_owned());
    tier.monthly_cost_points = monthly_cost_points.or(tier.monthly_cost_points);
    tier.monthly_cost_sats = monthly_cost_sats.or(tier.monthly_cost_sats);
    tier.limits.memory_mb = memory_limit_mb.unwrap_or(tier.limits.memory_mb);
    tier.limits.cpu_millicores = cpu_limit_millicores.unwrap_or(tier.limits.cpu_millicores);
    tier.limits.pids = pids_limit.unwrap_or(tier.limits.pids);
    tier.custom_domain_allowed = custom_domain_allowed.unwrap_or(tier.custom_domain_allowed);
    tier.monthly_stipend_points = monthly_stipend_points.unwrap_or(tier.monthly_stipend_points);
    tier.ad_reach_multiplier = ad_reach_multiplier.unwrap_or(tier.ad_reach_multiplier);
    tier.open_to_all = open_to_all.unwrap_or(tier.open_to_all);
    // 0: no limit of its own.
    tier.max_per_account =
        max_per_account.map_or(tier.max_per_account, |most| Some(most).filter(|most| *most > 0));
    let errors = wrong(&tier);
    if errors.is_empty() { Ok(tier) } else { Err(AdminError::Invalid(errors)) }
}

fn wrong(tier: &Tier) -> Vec<FieldError> {
    let cost = |value: Option<i64>| value.is_some_and(|value| (0..=1_000_000_000).contains(&value));
    let by_points = tier.payment_method == POINTS;
    let rules = [
        (
            (1..=60).contains(&tier.name.chars().count())
                && !tier.name.chars().any(char::is_control),
            "/name",
            "must have 1 to 60 characters",
        ),
        (
            by_points == tier.monthly_cost_points.is_some()
                && (!by_points || cost(tier.monthly_cost_points)),
            "/monthly_cost_points",
            "must be 0 to 1000000000 on a tier that is paid in buddo_points, and absent on others",
        ),
        (
            by_points == tier.monthly_cost_sats.is_none()
                && (by_points || cost(tier.monthly_cost_sats)),
            "/monthly_cost_sats",
            "must be 0 to 1000000000 on a tier that is paid in bitcoin, and absent on others",
        ),
        (
            (16..=1_048_576).contains(&tier.limits.memory_mb),
            "/memory_limit_mb",
            "must be 16 to 1048576 (MiB)",
        ),
        (
            (10..=256_000).contains(&tier.limits.cpu_millicores),
            "/cpu_limit_millicores",
            "must be 10 to 256000",
        ),
        ((16..=32_768).contains(&tier.limits.pids), "/pids_limit", "must be 16 to 32768"),
        (
            (0..=1_000_000_000).contains(&tier.monthly_stipend_points),
            "/monthly_stipend_points",
            "must be 0 to 1000000000",
        ),
        (
            (0.0..=1000.0).contains(&tier.ad_reach_multiplier),
            "/ad_reach_multiplier",
            "must be 0 to 1000",
        ),
    ];
    let wrong = rules.into_iter().filter(|(holds, ..)| !holds);
    wrong.map(|(_, pointer, detail)| FieldError::new(pointer, detail)).collect()
}
