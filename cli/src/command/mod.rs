//! One file per verb. A command reads its arguments, calls the API and prints; it decides nothing
//! that the API decides.

mod account;
mod browser;
mod create;
mod follow;
mod generate;
mod keys;
mod list;
mod login;
mod login_browser;
mod logs;
mod orgs;
mod resolve;
mod revisions;
mod status;
mod teams;
#[cfg(test)]
mod testing;
mod transitions;
mod verbs;

use std::sync::Arc;

use crate::args::{Cli, Command, Deploy, DeployAction};
use crate::client::Api;
use crate::clock::SystemClock;
use crate::config::Config;
use crate::error::{CliError, Kind};
use crate::ui::Ui;

/// What a command works with.
pub(crate) struct Context<'a> {
    pub(crate) ui: &'a mut Ui,
    pub(crate) api: Api,
}

pub(crate) async fn run(cli: Cli, ui: &mut Ui) -> Result<(), CliError> {
    // These two work without any configuration.
    match &cli.command {
        Command::Completions { shell } => return generate::completions(ui, *shell),
        Command::Man { directory } => return generate::manual(ui, directory),
        _ => {}
    }
    let config = Config::load(&cli.global)?;
    let api = Api::new(config, Arc::new(SystemClock))?;
    let mut context = Context { ui, api };
    let context = &mut context;
    match cli.command {
        Command::Completions { .. } | Command::Man { .. } => Ok(()),
        Command::Login(args) => login::run(context, args).await,
        Command::Logout => account::log_out(context).await,
        Command::Whoami => account::who_am_i(context).await,
        Command::Status { target } => status::run(context, &target).await,
        Command::List { team } => list::deployments(context, team.as_deref()).await,
        Command::Keys { action } => keys::run(context, action).await,
        Command::Orgs { action } => orgs::run(context, action).await,
        Command::Teams { action } => teams::run(context, action).await,
        Command::Tiers => list::tiers(context).await,
        Command::Revisions { target } => revisions::list(context, &target).await,
        Command::Rollback { target, revision, follow } => {
            revisions::roll_back(context, &target, revision, &follow).await
        }
        Command::Open { target } => browser::open(context, &target).await,
        Command::Deploy(Deploy { action, create, follow }) => {
            match (action, create) {
                (Some(DeployAction::Logs { target }), _) => logs::run(context, &target).await,
                (Some(DeployAction::Stop { target }), _) => verbs::stop(context, &target).await,
                (Some(DeployAction::Restart { target, follow }), _) => {
                    verbs::restart(context, &target, &follow).await
                }
                (Some(DeployAction::Destroy { target, yes }), _) => {
                    verbs::destroy(context, &target, yes).await
                }
                (None, Some(args)) => create::run(context, args, &follow).await,
                // Without a verb, clap requires the options of a create.
                (None, None) => Err(CliError::new(Kind::Usage, "nothing to deploy")
                    .hint("see: buddo deploy --help")),
            }
        }
    }
}
