//! `buddo open NAME`.

use std::ffi::OsString;
use std::process::Stdio;

use reqwest::Url;

use super::{Context, resolve};
use crate::error::CliError;
use crate::target::Target;

const OPENER: &str = if cfg!(target_os = "macos") { "open" } else { "xdg-open" };

pub(super) async fn open(context: &mut Context<'_>, target: &Target) -> Result<(), CliError> {
    let deployment = resolve::deployment(context, target).await?;
    if context.ui.is_json() {
        return context.ui.json(&serde_json::json!({ "url": deployment.url }));
    }
    context.ui.line(&deployment.url)?;
    let url = deployment.url.clone();
    if context.ui.out_is_terminal() {
        show(context, &url);
    }
    Ok(())
}

/// Opens an address in a browser, if there is one.
pub(super) fn show(context: &mut Context<'_>, url: &str) {
    let display = std::env::var_os("WAYLAND_DISPLAY").or_else(|| std::env::var_os("DISPLAY"));
    let has_display = cfg!(target_os = "macos") || display.is_some_and(|d: OsString| !d.is_empty());
    if has_display && is_web_address(url) {
        // A separate process, no shell; it outlives us, and its output is discarded.
        let opened = tokio::process::Command::new(OPENER)
            .arg(url)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        if let Err(error) = opened {
            context.ui.hint(&format!("no browser was opened: {OPENER}: {error}"));
        }
    }
}

/// Only web addresses go to the opener: it would run other schemes' handlers too.
fn is_web_address(text: &str) -> bool {
    Url::parse(text).is_ok_and(|url| matches!(url.scheme(), "https" | "http"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_web_addresses_are_opened() {
        assert!(is_web_address("https://my-app.buddocloud.com"));
        for other in ["file:///etc/passwd", "javascript:alert(1)", "--help", ""] {
            assert!(!is_web_address(other), "{other}");
        }
    }
}
