//! `buddo login --web` and `--device`: the password is typed in a browser and never here.

use std::time::Duration;

use buddo_shared::api::oauth::{DeviceAuthorization, Tokens};
use tokio::time::{Instant, sleep, timeout};

use super::{Context, browser};
use crate::callback::{Callback, Outcome};
use crate::client::{ClientError, Polled};
use crate::error::{CliError, Kind};
use crate::pkce::Pkce;

/// How long somebody may take in the browser.
const PATIENCE: Duration = Duration::from_mins(10);

/// Added to the pause by a poll that came too early (RFC 8628, 3.5).
const SLOWER: Duration = Duration::from_secs(5);
/// Longest pause between two polls.
const LONGEST_PAUSE: Duration = Duration::from_mins(1);

/// Authorization code with PKCE, by a browser on this machine.
pub(super) async fn web(context: &mut Context<'_>) -> Result<(), CliError> {
    let issuer = context.api.issuer().await?;
    let callback = Callback::open(issuer).await.map_err(port_trouble)?;
    let (redirect_uri, pkce) = (callback.redirect_uri(), Pkce::generate());
    let url = context.api.authorization_url(&redirect_uri, callback.state(), &pkce);
    context.ui.note("Log in with your browser, on this machine, at:");
    context.ui.note(&url);
    if context.ui.err_is_terminal() {
        browser::show(context, &url);
    }
    let waiting = spinner(context, "waiting for the browser");
    let outcome = timeout(PATIENCE, callback.outcome()).await;
    drop(waiting);
    match outcome {
        Ok(Ok(Outcome::Code(code))) => {
            let tokens = context.api.redeem(code, &redirect_uri, pkce).await?;
            keep(context, tokens).await
        }
        Ok(Ok(Outcome::Refused { error, description })) => Err(refused(&error, &description)),
        Ok(Err(error)) => Err(port_trouble(error)),
        Err(_) => Err(too_late().hint("try again: buddo login --web")),
    }
}

/// A code to type in a browser anywhere (RFC 8628).
pub(super) async fn device(context: &mut Context<'_>) -> Result<(), CliError> {
    let device = context.api.start_device().await?;
    let DeviceAuthorization { verification_uri, verification_uri_complete, user_code, .. } =
        &device;
    context.ui.note(&format!("Open {verification_uri} in a browser, on any machine,"));
    context.ui.note(&format!("and type the code {user_code}"));
    context.ui.note(&format!("or open {verification_uri_complete}"));
    let waiting = spinner(context, "waiting for the browser");
    let tokens = wait_for_device(context, &device).await;
    drop(waiting);
    keep(context, tokens?).await
}

async fn wait_for_device(
    context: &Context<'_>,
    device: &DeviceAuthorization,
) -> Result<Tokens, CliError> {
    let life = Duration::from_secs(u64::try_from(device.expires_in).unwrap_or_default());
    let end = Instant::now() + life.min(6 * PATIENCE);
    let mut pause = Duration::from_secs(device.interval.unwrap_or(5).max(1).into());
    while Instant::now() < end {
        sleep(pause.min(LONGEST_PAUSE)).await;
        match context.api.poll_device(&device.device_code).await {
            Ok(Polled::Tokens(tokens)) => return Ok(*tokens),
            Ok(Polled::Pending) => {}
            Ok(Polled::SlowDown) => pause += SLOWER,
            // Others at this address poll as well.
            Err(error) if error.status() == Some(429) => pause += SLOWER,
            // RFC 8628, 3.5: poll less often after network trouble.
            Err(error) if error.is_transient() => pause *= 2,
            Err(ClientError::OAuth { error, .. }) => {
                return Err(refused(&error.error, &error.error_description));
            }
            Err(error) => return Err(error.into()),
        }
    }
    Err(too_late().hint("ask for another code: buddo login --device"))
}

async fn keep(context: &mut Context<'_>, tokens: Tokens) -> Result<(), CliError> {
    let account = context.api.log_in_with(tokens).await?;
    super::login::greet(context, &account)
}

fn spinner(context: &Context<'_>, text: &str) -> crate::ui::Spinner {
    let spinner = context.ui.spinner();
    spinner.say(text);
    spinner
}

fn refused(error: &str, description: &str) -> CliError {
    let kind = match error {
        "access_denied" => Kind::Forbidden,
        "expired_token" => return too_late().hint("ask for another code: buddo login --device"),
        _ => Kind::Failure,
    };
    let error = if error.is_empty() { "no reason was given" } else { error };
    let why = if description.is_empty() { error } else { description };
    CliError::new(kind, format!("the login was refused in the browser: {why}")).code(error)
}

fn too_late() -> CliError {
    CliError::new(Kind::NotLoggedIn, "nobody logged in with the browser in time")
}

fn port_trouble(error: std::io::Error) -> CliError {
    CliError::wrap(Kind::Failure, PortError(error))
        .hint("log in without a local port: buddo login --device")
}

/// The browser cannot reach this program.
#[derive(Debug, thiserror::Error)]
#[error("cannot wait for the browser on a loopback port")]
struct PortError(#[source] std::io::Error);
