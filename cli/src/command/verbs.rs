//! `buddo deploy stop|restart|destroy`.

use super::{Context, follow, resolve};
use crate::args::FollowArgs;
use crate::error::{CliError, Kind};
use crate::target::Target;

pub(super) async fn stop(context: &mut Context<'_>, target: &Target) -> Result<(), CliError> {
    let id = resolve::id(context, target).await?;
    let deployment = context.api.stop(id).await?;
    if context.ui.is_json() {
        return context.ui.json(&deployment);
    }
    let name = &deployment.subdomain;
    context.ui.field("Deployment", &format!("{name} ({})", deployment.id))?;
    context.ui.field("Status", deployment.status.as_str())?;
    context
        .ui
        .hint(&format!("its name stays reserved; start it with: buddo deploy restart {name}"));
    Ok(())
}

pub(super) async fn restart(
    context: &mut Context<'_>,
    target: &Target,
    args: &FollowArgs,
) -> Result<(), CliError> {
    let id = resolve::id(context, target).await?;
    let deployment = context.api.restart(id).await?;
    if !context.ui.is_json() {
        context.ui.line(&format!("Restarting deployment \"{}\"...", deployment.subdomain))?;
    }
    follow::or_not(context, &deployment, args).await
}

pub(super) async fn destroy(
    context: &mut Context<'_>,
    target: &Target,
    yes: bool,
) -> Result<(), CliError> {
    // Always read first, to name what is destroyed before and after.
    let deployment = resolve::deployment(context, target).await?;
    let id = resolve::id_of(&deployment)?;
    let name = format!("{} ({id})", deployment.subdomain);
    if !yes && let Some(ask) = context.ui.ask() {
        let question = format!("Destroy {name} with its container and configuration, for good?");
        if !ask.confirm(&crate::ui::clean(&question))? {
            return Err(CliError::new(Kind::Failure, "not confirmed; nothing was changed"));
        }
    }
    let destroyed = context.api.destroy(id).await?;
    if context.ui.is_json() {
        return context.ui.json(&destroyed);
    }
    context.ui.line(&format!("{}: {name}", destroyed.message))
}
