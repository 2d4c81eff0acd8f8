//! `buddo list` and `buddo tiers`.

use buddo_shared::api::deploy::{Deployment, Status, Tier};

use super::Context;
use super::teams::team_id;
use crate::error::CliError;
use crate::ui::Table;

pub(super) async fn deployments(
    context: &mut Context<'_>,
    team: Option<&str>,
) -> Result<(), CliError> {
    let team = match team {
        Some(team) => Some(team_id(context, Some(team)).await?),
        None => None,
    };
    let all: Vec<Deployment> = context.api.deployments(team.as_deref()).await?;
    if context.ui.is_json() {
        return context.ui.json(&all);
    }
    let mut table = Table::new(["Name", "Status", "Health", "Image", "URL"]);
    let mut shown = false;
    for app in all.into_iter().filter(|app| app.status != Status::Destroyed) {
        shown = true;
        let health = app.health_status.unwrap_or_else(|| "unknown".to_owned());
        table.row([app.subdomain, app.status.to_string(), health, app.container_image, app.url]);
    }
    if shown {
        return context.ui.table(&table);
    }
    context.ui.note("No deployments.");
    context.ui.hint("make one with: buddo deploy --name NAME --image IMAGE --port PORT");
    Ok(())
}

pub(super) async fn tiers(context: &mut Context<'_>) -> Result<(), CliError> {
    let tiers = context.api.tiers().await?;
    if context.ui.is_json() {
        return context.ui.json(&tiers);
    }
    let mut table =
        Table::new(["Slug", "Name", "Price a month", "Memory", "CPU", "Own domain", "Stipend"]);
    for tier in tiers {
        let price = price(&tier);
        let domain = if tier.custom_domain_allowed { "yes" } else { "no" };
        table.row([
            tier.slug,
            tier.name,
            price,
            format!("{} MB", tier.memory_limit_mb),
            format!("{} m", tier.cpu_limit_millicores),
            domain.to_owned(),
            format!("{} points", tier.monthly_stipend_points),
        ]);
    }
    context.ui.table(&table)
}

/// What a tier costs a month.
pub(super) fn price(tier: &Tier) -> String {
    match (tier.monthly_cost_points, tier.monthly_cost_sats) {
        (Some(points), _) => format!("{points} points"),
        (None, Some(sats)) => format!("{sats} sats"),
        (None, None) => "free".to_owned(),
    }
}
