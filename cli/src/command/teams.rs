//! `buddo teams`.

use buddo_shared::api::auth::Message;
use buddo_shared::api::teams::{CreateTeam, Member, SetRole, Team};

use super::Context;
use super::orgs::{member_id, org_id};
use super::status::time;
use crate::args::TeamsAction;
use crate::error::{CliError, Kind};
use crate::ui::Table;

pub(super) async fn run(context: &mut Context<'_>, action: TeamsAction) -> Result<(), CliError> {
    match action {
        TeamsAction::List => list(context).await,
        TeamsAction::Create { org, name, slug } => {
            let id = org_id(context, &org).await?;
            let team = context.api.create_team(&id, &CreateTeam { name, slug }).await?;
            if context.ui.is_json() {
                return context.ui.json(&team);
            }
            context.ui.field("Team", &format!("{} ({})", name_of(&team), team.id))
        }
        TeamsAction::Members { team } => {
            let id = team_id(context, Some(&team)).await?;
            let members = context.api.team_members(&id).await?;
            members_table(context, &members)
        }
        TeamsAction::Add { team, member, role } => {
            let team = one(context, Some(&team)).await?;
            let account = member_id(context, &team.org_id, &member).await?;
            let message = context.api.set_team_role(&team.id, &account, &SetRole { role }).await?;
            said(context, &message)
        }
        TeamsAction::Remove { team, member } => {
            let team = one(context, Some(&team)).await?;
            let account = member_id(context, &team.org_id, &member).await?;
            let message = context.api.remove_team_member(&team.id, &account).await?;
            said(context, &message)
        }
        TeamsAction::Delete { team, yes } => {
            let id = team_id(context, Some(&team)).await?;
            confirm(context, yes, &format!("End the team {team} with its API keys, for good?"))?;
            let message = context.api.delete_team(&id).await?;
            said(context, &message)
        }
    }
}

async fn list(context: &mut Context<'_>) -> Result<(), CliError> {
    let teams = context.api.teams().await?;
    if context.ui.is_json() {
        return context.ui.json(&teams);
    }
    let mut table = Table::new(["Team", "Name", "Your role", "Id"]);
    for team in teams {
        table.row([name_of(&team), team.name, team.role, team.id]);
    }
    context.ui.table(&table)
}

/// A team as commands accept it.
pub(super) fn name_of(team: &Team) -> String {
    format!("{}/{}", team.org_slug, team.slug)
}

/// The team that `text` names: its id or `ORG/TEAM`; without one, the account's own.
pub(super) async fn one(context: &Context<'_>, text: Option<&str>) -> Result<Team, CliError> {
    let mut teams = context.api.teams().await?.into_iter();
    let found = match text {
        Some(text) => teams.find(|team| name_of(team) == text || team.id == text),
        None => teams.find(|team| team.personal),
    };
    found.ok_or_else(|| {
        let what = text.map_or_else(|| "of your own".to_owned(), |text| format!("{text:?}"));
        CliError::new(Kind::NotFound, format!("there is no team {what} that you may view"))
            .hint("list yours with: buddo teams list")
    })
}

/// The id of the team that `text` names.
pub(super) async fn team_id(context: &Context<'_>, text: Option<&str>) -> Result<String, CliError> {
    Ok(one(context, text).await?.id)
}

pub(super) fn members_table(context: &mut Context<'_>, members: &[Member]) -> Result<(), CliError> {
    if context.ui.is_json() {
        return context.ui.json(&members);
    }
    let mut table = Table::new(["Member", "Role", "Since", "Account id"]);
    for member in members {
        let Member { account_id, username, role, joined_at } = member.clone();
        table.row([username, role, time(joined_at), account_id]);
    }
    context.ui.table(&table)
}

/// Prints what the API has done.
pub(super) fn said(context: &mut Context<'_>, message: &Message) -> Result<(), CliError> {
    if context.ui.is_json() {
        return context.ui.json(message);
    }
    context.ui.line(&message.message)
}

/// Asks for confirmation before an irreversible act, if somebody can answer.
pub(super) fn confirm(
    context: &mut Context<'_>,
    yes: bool,
    question: &str,
) -> Result<(), CliError> {
    if !yes
        && let Some(ask) = context.ui.ask()
        && !ask.confirm(&crate::ui::clean(question))?
    {
        return Err(CliError::new(Kind::Failure, "not confirmed; nothing was changed"));
    }
    Ok(())
}
