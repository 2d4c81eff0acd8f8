//! `buddo deploy --name … --image …`.

use buddo_shared::api::deploy::{CreateDeployment, Tier};
use buddo_shared::model::spec::AppSpec;

use super::teams::team_id;
use super::{Context, follow, list};
use crate::args::{Create, FollowArgs};
use crate::client::IdempotencyKey;
use crate::env_vars;
use crate::error::{CliError, Kind};
use crate::explain::bad_fields;
use crate::ui::Ui;

/// The preselected tier.
const FIRST_CHOICE: &str = "buddo-starter";

pub(super) async fn run(
    context: &mut Context<'_>,
    args: Create,
    wait: &FollowArgs,
) -> Result<(), CliError> {
    let file = args.env_file.as_deref();
    let vars = env_vars::gather(file, args.env, |key| std::env::var(key).ok())?;
    let team = args.team;
    let mut request = CreateDeployment {
        subdomain: Some(args.name),
        image: Some(args.image),
        tier: args.tier,
        port: args.port,
        custom_domain: args.domain,
        env_vars: (!vars.is_empty()).then_some(vars),
        strategy: args.strategy,
    };
    check(&request)?;
    if request.tier.is_none() {
        let tiers = context.api.tiers().await?;
        request.tier = Some(choose_tier(context.ui, &tiers)?);
    }
    let team = match team {
        Some(team) => Some(team_id(context, Some(&team)).await?),
        None => None,
    };
    let name = request.subdomain.as_deref().unwrap_or_default();
    let creating = format!("Creating deployment \"{name}\"...");
    if !context.ui.is_json() {
        context.ui.line(&creating)?;
    }
    let deployment =
        context.api.create(&request, team.as_deref(), IdempotencyKey(rand::random())).await?;
    if !context.ui.is_json() {
        context.ui.line(&format!("Deployment ID: {}", deployment.id))?;
    }
    follow::or_not(context, &deployment, wait).await
}

/// Refuses what the API would refuse for its form, before anything is sent or asked. A tier that
/// has not been chosen yet is not an error; which registries are allowed, the platform says.
fn check(request: &CreateDeployment) -> Result<(), CliError> {
    let Err(mut errors) = AppSpec::parse(request.clone()) else {
        return Ok(());
    };
    errors.retain(|error| request.tier.is_some() || error.pointer != "/tier");
    if errors.is_empty() { Ok(()) } else { Err(bad_fields(&errors)) }
}

fn choose_tier(ui: &mut Ui, tiers: &[Tier]) -> Result<String, CliError> {
    let slugs = || tiers.iter().map(|tier| tier.slug.as_str()).collect::<Vec<_>>().join(", ");
    let first = tiers.iter().position(|tier| tier.slug == FIRST_CHOICE).unwrap_or(0);
    match ui.ask() {
        _ if tiers.is_empty() => {
            Err(CliError::new(Kind::NotFound, "the API offers no tier to deploy on")
                .hint("ask its administrator"))
        }
        Some(ask) => {
            let options: Vec<String> = tiers.iter().map(describe).collect();
            let chosen = ask.choose("Tier:", &options, first)?;
            Ok(tiers[chosen].slug.clone())
        }
        None => Err(CliError::new(Kind::Usage, "no tier given, and no terminal to ask on")
            .hint(format!("add --tier with one of: {}", slugs()))),
    }
}

fn describe(tier: &Tier) -> String {
    let domain = if tier.custom_domain_allowed { ", own domain" } else { "" };
    let (memory, cpu) = (tier.memory_limit_mb, tier.cpu_limit_millicores);
    let text =
        format!("{}: {} a month, {memory} MB, {cpu} m CPU{domain}", tier.slug, list::price(tier));
    crate::ui::clean(&text).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::testing::tier;
    use crate::ui::testing::{Answers, Screen, ui, ui_with};

    fn request() -> CreateDeployment {
        CreateDeployment {
            subdomain: Some("my-app".to_owned()),
            image: Some("docker.io/library/nginx:latest".to_owned()),
            port: Some(80),
            ..CreateDeployment::default()
        }
    }

    #[test]
    fn the_tier_may_be_omitted_but_not_malformed() {
        check(&request()).unwrap();
        let error = check(&CreateDeployment { tier: Some("Big One".to_owned()), ..request() });
        let error = error.unwrap_err();
        assert_eq!(error.kind, Kind::Refused);
        assert!(error.details[0].starts_with("--tier: is not a valid tier slug"), "{error:?}");
    }

    #[test]
    fn the_tier_prompt_on_a_terminal_defaults_to_starter() {
        let tiers = [tier("bitcoin-pro"), tier("buddo-starter")];
        let answers = Answers::new(["no such option"]);
        let (mut ui, _) = ui_with(Screen::Terminal, Some(answers));
        assert_eq!(choose_tier(&mut ui, &tiers).unwrap(), "buddo-starter");
        let (mut ui, _) = ui_with(Screen::Terminal, Some(Answers::new(["bitcoin"])));
        assert_eq!(choose_tier(&mut ui, &tiers).unwrap(), "bitcoin-pro");
    }

    #[test]
    fn without_a_terminal_the_error_lists_the_tiers() {
        let (mut ui, _) = ui(Screen::Piped);
        let error =
            choose_tier(&mut ui, &[tier("bitcoin-pro"), tier("buddo-starter")]).unwrap_err();
        assert_eq!(error.kind, Kind::Usage);
        assert_eq!(error.hint.unwrap(), "add --tier with one of: bitcoin-pro, buddo-starter");
        assert_eq!(choose_tier(&mut ui, &[]).unwrap_err().kind, Kind::NotFound);
    }
}
