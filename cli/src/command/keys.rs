//! `buddo keys`.

use buddo_shared::api::teams::{ApiKey, CreateKey};

use super::status::time;
use super::teams::{name_of, one, said};
use super::{Context, login};
use crate::args::KeysAction;
use crate::client::Api;
use crate::error::{CliError, Kind};
use crate::ui::Table;

/// Default scopes of a key: what deploying requires.
const SCOPES: [&str; 2] = ["deployments:read", "deployments:write"];

pub(super) async fn run(context: &mut Context<'_>, action: KeysAction) -> Result<(), CliError> {
    match action {
        KeysAction::List(of) => {
            let team = one(context, of.team.as_deref()).await?;
            let keys = context.api.api_keys(&team.id).await?;
            list(context, &keys)
        }
        KeysAction::Create { name, scopes, expires, totp_code, of } => {
            let team = one(context, of.team.as_deref()).await?;
            let scopes = if scopes.is_empty() { SCOPES.map(str::to_owned).into() } else { scopes };
            let make = async |api: &Api, password, totp_code| {
                let (name, scopes) = (name.clone(), scopes.clone());
                let expires_in_days = Some(expires);
                let request = CreateKey { name, scopes, expires_in_days, password, totp_code };
                api.create_key(&team.id, &request).await
            };
            let made = login::with_proof(context, totp_code, make).await?;
            if context.ui.is_json() {
                return context.ui.json(&made);
            }
            // Only the key is the result, so that it can be piped to a secret store.
            context.ui.line(made.key.expose())?;
            let ApiKey { name, scopes, expires_at, .. } = made.api_key;
            let (team, until) = (name_of(&team), time(expires_at));
            let scopes = scopes.join(", ");
            context.ui.note(&format!("API key {name:?} of {team}: {scopes}; until {until}"));
            context.ui.hint("keep it now, it is not shown again; buddo uses it as BUDDO_API_KEY");
            Ok(())
        }
        KeysAction::Revoke { key, of } => {
            let team = one(context, of.team.as_deref()).await?;
            let id = key_id(context, &team.id, &key).await?;
            let message = context.api.revoke_key(&team.id, &id).await?;
            said(context, &message)
        }
    }
}

fn list(context: &mut Context<'_>, keys: &[ApiKey]) -> Result<(), CliError> {
    if context.ui.is_json() {
        return context.ui.json(&keys);
    }
    if keys.is_empty() {
        context.ui.note("No API keys.");
        context.ui.hint("make one with: buddo keys create NAME");
        return Ok(());
    }
    let mut table = Table::new(["Name", "Key", "Scopes", "Last used", "Until", "Id"]);
    for key in keys {
        let used = key.last_used_at.map_or_else(|| "never".to_owned(), time);
        table.row([
            key.name.clone(),
            format!("{}...", key.hint),
            key.scopes.join(" "),
            used,
            time(key.expires_at),
            key.id.clone(),
        ]);
    }
    context.ui.table(&table)
}

/// The id of the key that `text` names: its id, or its name if only one key has it.
async fn key_id(context: &Context<'_>, team: &str, text: &str) -> Result<String, CliError> {
    let keys = context.api.api_keys(team).await?;
    let mut found = keys.into_iter().filter(|key| key.id == text || key.name == text);
    match (found.next(), found.next()) {
        (Some(key), None) => Ok(key.id),
        (Some(_), Some(_)) => {
            Err(CliError::new(Kind::Refused, format!("several keys are named {text:?}"))
                .hint("name it by its id: buddo keys list"))
        }
        (None, _) => Err(CliError::new(Kind::NotFound, format!("there is no API key {text:?}"))
            .hint("see which there are with: buddo keys list")),
    }
}
