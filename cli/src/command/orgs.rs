//! `buddo orgs`.

use buddo_shared::api::teams::{AcceptInvitation, CreateOrg, Invitation, Invite, Org, SetRole};
use buddo_shared::model::secret::Secret;

use super::status::time;
use super::teams::{confirm, members_table, said, team_id};
use super::{Context, login};
use crate::args;
use crate::args::OrgsAction;
use crate::error::{CliError, Kind};
use crate::ui::Table;

pub(super) async fn run(context: &mut Context<'_>, action: OrgsAction) -> Result<(), CliError> {
    match action {
        OrgsAction::List => list(context).await,
        OrgsAction::Create { name, slug } => {
            let org = context.api.create_org(&CreateOrg { name, slug }).await?;
            shown(context, &org)?;
            context.ui.hint(&format!("make a team with: buddo teams create {} NAME", org.slug));
            Ok(())
        }
        OrgsAction::Members { org } => {
            let id = org_id(context, &org).await?;
            let members = context.api.org_members(&id).await?;
            members_table(context, &members)
        }
        OrgsAction::Invite(args) => invite(context, args).await,
        OrgsAction::Invitations { org } => invitations(context, &org).await,
        OrgsAction::Uninvite { org, invited } => {
            let id = org_id(context, &org).await?;
            let invitation = invitation_id(context, &id, &invited).await?;
            let message = context.api.uninvite(&id, &invitation).await?;
            said(context, &message)
        }
        OrgsAction::Accept { token } => accept(context, token).await,
        OrgsAction::Role { org, member, role } => {
            let id = org_id(context, &org).await?;
            let account = member_id(context, &id, &member).await?;
            let message = context.api.set_org_role(&id, &account, &SetRole { role }).await?;
            said(context, &message)
        }
        OrgsAction::Remove { org, member } => {
            let id = org_id(context, &org).await?;
            let account = member_id(context, &id, &member).await?;
            let message = context.api.remove_org_member(&id, &account).await?;
            said(context, &message)
        }
        OrgsAction::Leave { org } => {
            let id = org_id(context, &org).await?;
            let account = context.api.session()?.account.id;
            let message = context.api.remove_org_member(&id, &account).await?;
            said(context, &message)
        }
        OrgsAction::TakeOver { org } => {
            let id = org_id(context, &org).await?;
            let org = context.api.take_over(&id).await?;
            shown(context, &org)
        }
        OrgsAction::Activity { org } => activity(context, &org).await,
        OrgsAction::Delete { org, yes } => {
            let id = org_id(context, &org).await?;
            confirm(context, yes, &format!("End the organisation {org}, for good?"))?;
            let message = context.api.delete_org(&id).await?;
            said(context, &message)
        }
    }
}

async fn list(context: &mut Context<'_>) -> Result<(), CliError> {
    let orgs = context.api.orgs().await?;
    if context.ui.is_json() {
        return context.ui.json(&orgs);
    }
    let mut table = Table::new(["Organisation", "Name", "Your role", "Plan", "Id"]);
    for org in orgs {
        table.row([org.slug, org.name, org.role, org.plan, org.id]);
    }
    context.ui.table(&table)
}

fn shown(context: &mut Context<'_>, org: &Org) -> Result<(), CliError> {
    if context.ui.is_json() {
        return context.ui.json(org);
    }
    context.ui.field("Organisation", &format!("{} ({})", org.slug, org.id))?;
    context.ui.field("Name", &org.name)?;
    context.ui.field("Your role", &org.role)
}

async fn invite(context: &mut Context<'_>, args: args::Invite) -> Result<(), CliError> {
    let args::Invite { org, email, role, team, team_role } = args;
    let id = org_id(context, &org).await?;
    let team_id = match team {
        Some(team) => Some(team_id(context, Some(&team)).await?),
        None => None,
    };
    let request = Invite { email, role, team_id, team_role };
    let invitation = context.api.invite(&id, &request).await?;
    if context.ui.is_json() {
        return context.ui.json(&invitation);
    }
    let Invitation { email, role, expires_at, .. } = invitation;
    let until = time(expires_at);
    context.ui.line(&format!("A mail to {email} is on its way: {role} of {org}, until {until}"))
}

async fn invitations(context: &mut Context<'_>, org: &str) -> Result<(), CliError> {
    let id = org_id(context, org).await?;
    let all = context.api.invitations(&id).await?;
    if context.ui.is_json() {
        return context.ui.json(&all);
    }
    let mut table = Table::new(["Email", "Role", "Role in team", "Until", "Id"]);
    for one in all {
        let team_role = one.team_role.unwrap_or_else(|| "-".to_owned());
        table.row([one.email, one.role, team_role, time(one.expires_at), one.id]);
    }
    context.ui.table(&table)
}

/// A token on the command line would end up in the shell's history, so it can also be typed at a
/// prompt.
async fn accept(context: &mut Context<'_>, token: Option<String>) -> Result<(), CliError> {
    let given = match token {
        Some(text) => Secret::new(text),
        None => login::secret_line(context, "Token of the invitation:")?,
    };
    let text = given.expose().trim();
    let token = text.rsplit_once("token=").map_or(text, |(_, token)| token);
    let request = AcceptInvitation { token: Secret::new(token) };
    let org = context.api.accept(&request).await?;
    shown(context, &org)
}

async fn activity(context: &mut Context<'_>, org: &str) -> Result<(), CliError> {
    let id = org_id(context, org).await?;
    let all = context.api.org_activity(&id).await?;
    if context.ui.is_json() {
        return context.ui.json(&all);
    }
    let mut table = Table::new(["When", "Action", "By", "Details"]);
    for one in all {
        let by = one.actor_id.unwrap_or_else(|| "platform".to_owned());
        let details = one.details.map(|details| details.to_string()).unwrap_or_default();
        table.row([time(one.created_at), one.action, by, details]);
    }
    context.ui.table(&table)
}

/// The id of the organisation that `text` names: its id or its short name.
pub(super) async fn org_id(context: &Context<'_>, text: &str) -> Result<String, CliError> {
    let orgs = context.api.orgs().await?;
    let found = orgs.into_iter().find(|org| org.slug == text || org.id == text);
    found.map(|org| org.id).ok_or_else(|| {
        CliError::new(Kind::NotFound, format!("you are not in an organisation {text:?}"))
            .hint("see which there are with: buddo orgs list")
    })
}

/// The id of the member that `text` names: their account id or their username.
pub(super) async fn member_id(
    context: &Context<'_>,
    org: &str,
    text: &str,
) -> Result<String, CliError> {
    let members = context.api.org_members(org).await?;
    let same = |name: &str| name.eq_ignore_ascii_case(text);
    let found =
        members.into_iter().find(|member| same(&member.username) || member.account_id == text);
    found.map(|member| member.account_id).ok_or_else(|| {
        CliError::new(Kind::NotFound, format!("the organisation has no member {text:?}"))
            .hint("see who is in it with: buddo orgs members ORG")
    })
}

async fn invitation_id(context: &Context<'_>, org: &str, text: &str) -> Result<String, CliError> {
    let all = context.api.invitations(org).await?;
    let found = all.into_iter().find(|one| one.email.eq_ignore_ascii_case(text) || one.id == text);
    found.map(|one| one.id).ok_or_else(|| {
        CliError::new(Kind::NotFound, format!("nobody is invited as {text:?}"))
            .hint("see who is with: buddo orgs invitations ORG")
    })
}
