//! Watching a deploy until it ends.
//!
//! ```text
//! Connect ─► Stream ─► (ends, breaks) ─► Poll once ─► Connect …
//!    └─ the API has no stream ─────────► Poll, Poll, …
//! ```
//!
//! The stream is quick, the poll is reliable: after each break one poll fetches what was missed.

use std::pin::pin;
use std::time::Duration;

use backon::{BackoffBuilder as _, ExponentialBackoff, ExponentialBuilder};
use buddo_shared::api::deploy::{Deployment, Status, StatusAnswer, StatusProgress};
use buddo_shared::host_wire::report::Phase;
use buddo_shared::model::id::DeploymentId;

use super::transitions::{ARROW, Outcome, Path, outcome};
use super::{Context, resolve};
use crate::args::FollowArgs;
use crate::client::{Api, ClientError, Events};
use crate::error::{CliError, Kind};

/// Follows a deploy that has just begun, unless `--no-follow` is given.
pub(super) async fn or_not(
    context: &mut Context<'_>,
    deployment: &Deployment,
    args: &FollowArgs,
) -> Result<(), CliError> {
    if !args.no_follow {
        return run(context, deployment, args).await;
    }
    if context.ui.is_json() {
        return context.ui.json(deployment);
    }
    context.ui.field("Status", deployment.status.as_str())?;
    context.ui.hint(&format!("look again with: buddo status {}", deployment.subdomain));
    Ok(())
}

/// Shows the statuses of `deployment` until its deploy has ended, then its address.
async fn run(
    context: &mut Context<'_>,
    deployment: &Deployment,
    follow: &FollowArgs,
) -> Result<(), CliError> {
    let id = resolve::id_of(deployment)?;
    let name = &deployment.subdomain;
    let mut path = Path::new(deployment.status);
    let show = Show::new(context, deployment.status)?;
    let ended = {
        let mut watch = Watch::new(&context.api, id);
        let watching = async {
            loop {
                match watch.next().await? {
                    Seen::Trouble(error) => show.trouble(&error),
                    Seen::Status(answer) => {
                        show.statuses(context.ui, &path.advance(answer.status))?;
                        show.progress(&path, answer.progress.as_ref());
                        if let Some(outcome) = outcome(&answer) {
                            return Ok(outcome);
                        }
                    }
                }
            }
        };
        let mut watching = pin!(watching);
        tokio::select! {
            ended = &mut watching => ended,
            () = tokio::time::sleep(Duration::from_secs(follow.timeout)) => Err(still_going(name, follow.timeout)),
            _ = tokio::signal::ctrl_c() => Err(interrupted(name)),
        }
    };
    show.end(context, &path)?;
    match ended? {
        Outcome::Live { warning } => {
            live(context, id, deployment).await?;
            // With --json it is in the deployment.
            if let Some(warning) = warning.filter(|_| !context.ui.is_json()) {
                context.ui.warning(&warning.cause);
                context.ui.hint(&warning.fix);
            }
            Ok(())
        }
        Outcome::Failed { cause, fix } => Err(failed(name, &cause, fix)),
    }
}

async fn live(
    context: &mut Context<'_>,
    id: DeploymentId,
    deployment: &Deployment,
) -> Result<(), CliError> {
    if context.ui.is_json() {
        let deployment = context.api.deployment(id).await?;
        return context.ui.json(&deployment);
    }
    context.ui.line(&format!("Live at: {}", deployment.url))
}

fn failed(name: &str, cause: &str, fix: Option<String>) -> CliError {
    CliError::new(Kind::DeployFailed, format!("the deploy of {name:?} failed: {cause}"))
        .code("deploy_failed")
        .hint(fix.unwrap_or_else(|| format!("see its audit log with: buddo deploy logs {name}")))
}

fn still_going(name: &str, seconds: u64) -> CliError {
    CliError::new(
        Kind::StillGoing,
        format!("{name:?} is not live after {seconds} s; the deploy goes on"),
    )
    .hint(format!("look again with: buddo status {name}"))
}

fn interrupted(name: &str) -> CliError {
    CliError::new(Kind::Interrupted, format!("stopped watching; the deploy of {name:?} goes on"))
        .hint(format!("look again with: buddo status {name}"))
}

/// The display name of a phase.
pub(super) fn in_words(progress: &StatusProgress) -> String {
    let phase = match progress.phase {
        Phase::Accepted => "accepted by the host",
        Phase::Pulling => "pulling",
        Phase::Starting => "starting",
        Phase::Probing => "probing",
        Phase::Routing => "certificate",
        Phase::Live => "live",
        Phase::Stopping => "stopping",
        Phase::Stopped => "stopped",
        Phase::Failed => "failed",
    };
    match progress.percent {
        Some(percent) => format!("{phase} {percent} %"),
        None => phase.to_owned(),
    }
}

/// How progress is shown: on a terminal a spinner, and the whole line at the end; in a pipe the
/// line grows as it happens; with `--json` nothing but the result.
struct Show {
    spinner: crate::ui::Spinner,
    grows: bool,
}

impl Show {
    fn new(context: &mut Context<'_>, first: Status) -> Result<Self, CliError> {
        let quiet = context.ui.is_json();
        let grows = !quiet && !context.ui.err_is_terminal();
        let spinner = context.ui.spinner();
        spinner.say(&format!("Status: {first}"));
        if grows {
            context.ui.part(&format!("Status: {first}"))?;
        }
        Ok(Self { spinner, grows })
    }

    fn statuses(&self, ui: &mut crate::ui::Ui, added: &[Status]) -> Result<(), CliError> {
        if self.grows {
            for status in added {
                ui.part(&format!("{ARROW}{status}"))?;
            }
        }
        Ok(())
    }

    fn progress(&self, path: &Path, progress: Option<&StatusProgress>) {
        match progress {
            Some(progress) => self.spinner.say(&format!("Status: {path} ({})", in_words(progress))),
            None => self.spinner.say(&format!("Status: {path}")),
        }
    }

    fn trouble(&self, error: &ClientError) {
        self.spinner.say(&format!("{error}; trying again"));
    }

    fn end(self, context: &mut Context<'_>, path: &Path) -> Result<(), CliError> {
        drop(self.spinner);
        if self.grows {
            context.ui.end_line()
        } else if context.ui.is_json() {
            Ok(())
        } else {
            context.ui.line(&format!("Status: {path}"))
        }
    }
}

enum Seen {
    Status(Box<StatusAnswer>),
    /// A problem that may be temporary.
    Trouble(ClientError),
}

enum Mode {
    Connect,
    Stream(Box<Events>),
    Poll { then_connect: bool },
}

/// Statuses of one deployment, from the stream or by polling.
struct Watch<'a> {
    api: &'a Api,
    id: DeploymentId,
    mode: Mode,
    last_event: Option<String>,
    pauses: ExponentialBackoff,
    /// The next pause, if the API asked for one.
    asked: Option<Duration>,
}

const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// With these pauses there are at most 15 polls a minute; the API allows 30 reads.
const PAUSES: ExponentialBuilder = ExponentialBuilder::new()
    .with_min_delay(Duration::from_secs(1))
    .with_factor(1.5)
    .with_max_delay(LONGEST_PAUSE)
    .without_max_times();

/// If the API asks us to wait without saying how long.
const RATE_LIMIT_PAUSE: Duration = Duration::from_secs(10);

impl<'a> Watch<'a> {
    fn new(api: &'a Api, id: DeploymentId) -> Self {
        Self { api, id, mode: Mode::Connect, last_event: None, pauses: PAUSES.build(), asked: None }
    }

    /// The next status, or a problem to show; an error ends the watch.
    async fn next(&mut self) -> Result<Seen, CliError> {
        loop {
            match &mut self.mode {
                Mode::Connect => match self.api.events(self.id, self.last_event.as_deref()).await {
                    Ok(events) => self.mode = Mode::Stream(Box::new(events)),
                    Err(error) => {
                        // A refused stream does not mean a refused status: the poll decides.
                        let has_stream = error.status().is_none_or(|s| s >= 500 || s == 429);
                        self.mode = Mode::Poll { then_connect: has_stream };
                        if error.is_transient() {
                            return Ok(Seen::Trouble(error));
                        }
                    }
                },
                Mode::Stream(events) => {
                    if let Ok(Some(answer)) = self.api.next_event(events).await {
                        self.pauses = PAUSES.build();
                        return Ok(Seen::Status(Box::new(answer)));
                    }
                    let (last_event, wait) = events.resume();
                    self.last_event = last_event.or(self.last_event.take());
                    self.asked = wait.map(|wait| wait.min(LONGEST_PAUSE));
                    self.mode = Mode::Poll { then_connect: true };
                }
                Mode::Poll { then_connect } => {
                    let then_connect = *then_connect;
                    let pause = self.asked.take().or_else(|| self.pauses.next());
                    tokio::time::sleep(pause.unwrap_or(LONGEST_PAUSE)).await;
                    let polled = self.poll().await?;
                    if then_connect && matches!(polled, Seen::Status(_)) {
                        self.mode = Mode::Connect;
                    }
                    return Ok(polled);
                }
            }
        }
    }

    async fn poll(&mut self) -> Result<Seen, CliError> {
        match self.api.status(self.id).await {
            Ok(answer) => Ok(Seen::Status(Box::new(answer))),
            Err(error) if error.status() == Some(429) => {
                self.asked = Some(error.retry_after().unwrap_or(RATE_LIMIT_PAUSE));
                Ok(Seen::Trouble(error))
            }
            Err(error) if error.is_transient() => Ok(Seen::Trouble(error)),
            Err(error) => Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phases_in_words() {
        let words = |phase, percent| in_words(&StatusProgress { phase, percent });
        assert_eq!(words(Phase::Pulling, Some(43)), "pulling 43 %");
        assert_eq!(words(Phase::Probing, None), "probing");
        assert_eq!(words(Phase::Routing, None), "certificate");
    }

    #[test]
    fn polling_stays_within_the_rate_limit() {
        let mut elapsed = Duration::ZERO;
        let polls = PAUSES.build().take_while(|pause| {
            elapsed += *pause;
            elapsed <= Duration::from_mins(1)
        });
        let polls = polls.count();
        assert!(polls <= 15, "{polls}");
    }
}
