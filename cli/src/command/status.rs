//! `buddo status NAME`.

use buddo_shared::api::deploy::{Deployment, Failure, Status, StatusAnswer};
use jiff::Timestamp;
use serde::Serialize;

use super::follow::in_words;
use super::{Context, resolve};
use crate::error::CliError;
use crate::target::Target;
use crate::ui::Ui;

/// A deployment, and the progress of its deploy while one is in progress.
#[derive(Serialize)]
struct Shown<'a> {
    #[serde(flatten)]
    deployment: &'a Deployment,
    #[serde(skip_serializing_if = "Option::is_none")]
    progress: Option<&'a buddo_shared::api::deploy::StatusProgress>,
}

pub(super) async fn run(context: &mut Context<'_>, target: &Target) -> Result<(), CliError> {
    let mut deployment = resolve::deployment(context, target).await?;
    let mut progress = None;
    if matches!(deployment.status, Status::Pending | Status::Deploying) {
        let id = resolve::id_of(&deployment)?;
        let newer = context.api.status(id).await?;
        progress.clone_from(&newer.progress);
        update(&mut deployment, newer);
    }
    if context.ui.is_json() {
        let progress = progress.as_ref();
        return context.ui.json(&Shown { deployment: &deployment, progress });
    }
    show(context.ui, &deployment)?;
    if let Some(progress) = &progress {
        context.ui.field("Progress", &in_words(progress))?;
    }
    show_failure(context.ui, "Error", deployment.failure.as_ref())?;
    show_failure(context.ui, "Waiting", deployment.waiting.as_ref())?;
    show_failure(context.ui, "Warning", deployment.warning.as_ref())
}

fn update(deployment: &mut Deployment, newer: StatusAnswer) {
    deployment.status = newer.status;
    deployment.health_status = newer.health_status;
    deployment.last_health_check = newer.last_health_check;
    deployment.last_error = newer.last_error;
    deployment.failure = newer.failure;
    deployment.warning = newer.warning;
    deployment.waiting = newer.waiting;
    deployment.restarts = newer.restarts;
}

fn show(ui: &mut Ui, deployment: &Deployment) -> Result<(), CliError> {
    let health = deployment.health_status.as_deref().unwrap_or("unknown");
    let checked = deployment.last_health_check.map_or_else(|| "never".to_owned(), time);
    ui.field("Deployment", &format!("{} ({})", deployment.subdomain, deployment.id))?;
    ui.field("Status", deployment.status.as_str())?;
    ui.field("Health", health)?;
    match deployment.restarts {
        0 => {}
        1 => ui.field("Restarts", "1 in the last minutes")?,
        times => ui.field("Restarts", &format!("{times} in the last minutes"))?,
    }
    ui.field("Last check", &checked)?;
    ui.field("URL", &deployment.url)?;
    match &deployment.custom_domain {
        Some(domain) => ui.field("Domain", &format!("https://{domain}")),
        None => Ok(()),
    }
}

/// The cause on one line, the fix on the next.
fn show_failure(ui: &mut Ui, what: &str, failure: Option<&Failure>) -> Result<(), CliError> {
    let Some(Failure { cause, fix, .. }) = failure else { return Ok(()) };
    ui.field(what, cause)?;
    ui.field("Fix", fix)
}

/// A time as the API writes it, to the second.
pub(super) fn time(at: Timestamp) -> String {
    format!("{at:.0}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::testing::deployment;
    use crate::ui::testing::{Screen, ui};

    fn failure(cause: &str, fix: &str) -> Failure {
        Failure { code: "x".to_owned(), cause: cause.to_owned(), fix: fix.to_owned() }
    }

    #[test]
    fn a_running_deployment_is_shown_as_documented() {
        let (mut ui, printed) = ui(Screen::Piped);
        show(&mut ui, &deployment("my-app", Status::Running)).unwrap();
        show_failure(&mut ui, "Error", None).unwrap();
        assert_eq!(
            printed.out(),
            "Deployment: my-app (550e8400-e29b-41d4-a716-446655440000)\n\
             Status: running\n\
             Health: healthy\n\
             Last check: 2026-05-21T10:05:00Z\n\
             URL: https://my-app.buddocloud.com\n"
        );
    }

    #[test]
    fn a_healthy_deployment_shows_its_recent_restarts() {
        let (mut ui, printed) = ui(Screen::Piped);
        let crashing = Deployment { restarts: 3, ..deployment("my-app", Status::Running) };
        show(&mut ui, &crashing).unwrap();
        let wanted = "Health: healthy\nRestarts: 3 in the last minutes\nLast check: ";
        assert!(printed.out().contains(wanted), "{}", printed.out());
    }

    #[test]
    fn a_failed_deployment_shows_cause_and_remedy() {
        let mut failed = deployment("my-app", Status::Stopped);
        failed.health_status = None;
        failed.last_health_check = None;
        let (mut ui, printed) = ui(Screen::Piped);
        show(&mut ui, &failed).unwrap();
        let why = failure("the image does not exist", "push it, then restart");
        show_failure(&mut ui, "Error", Some(&why)).unwrap();
        assert!(printed.out().ends_with(
            "Status: stopped\nHealth: unknown\nLast check: never\nURL: https://my-app.buddocloud.com\n\
             Error: the image does not exist\nFix: push it, then restart\n"
        ), "{}", printed.out());
    }

    #[test]
    fn a_lost_host_is_shown_as_a_warning_with_its_remedy() {
        let (mut ui, printed) = ui(Screen::Piped);
        let lost = failure("the host h1 is lost", "wait for it");
        show_failure(&mut ui, "Warning", Some(&lost)).unwrap();
        assert_eq!(printed.out(), "Warning: the host h1 is lost\nFix: wait for it\n");
    }
}
