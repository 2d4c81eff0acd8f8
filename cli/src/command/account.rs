//! `buddo logout` and `buddo whoami`.

use super::Context;
use crate::client::Me;
use crate::error::CliError;

pub(super) async fn log_out(context: &mut Context<'_>) -> Result<(), CliError> {
    let ended = context.api.log_out().await?;
    if let Some(Err(error)) = &ended {
        // The session is deleted on this machine either way; the rest expires by itself.
        context.ui.note(&format!("note: the API could not be told to end the session: {error}"));
    }
    if context.ui.is_json() {
        return context.ui.json(&serde_json::json!({ "logged_out": ended.is_some() }));
    }
    let api = context.api.url().as_str().to_owned();
    match ended {
        Some(_) => context.ui.line(&format!("Logged out of {api}")),
        None => context.ui.line(&format!("Was not logged in to {api}")),
    }
}

pub(super) async fn who_am_i(context: &mut Context<'_>) -> Result<(), CliError> {
    let profile = context.api.me().await?;
    if context.ui.is_json() {
        return context.ui.json(&profile);
    }
    let (username, email, verified) = match profile {
        Me::Owner(profile) => {
            (profile.user.username, Some(profile.user.email), profile.user.email_verified)
        }
        Me::External(profile) => (profile.username, None, profile.email_verified),
    };
    let api = context.api.url().as_str().to_owned();
    context.ui.field("Account", &username)?;
    if let Some(email) = email {
        context.ui.field("Email", &email)?;
    }
    context.ui.field("API", &api)?;
    if !verified {
        context.ui.hint("confirm the mail address: the link is in the mail that we sent you");
    }
    Ok(())
}
