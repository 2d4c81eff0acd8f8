//! The command line. Parsing only: nothing here acts.

mod teams;

use std::path::PathBuf;

use clap::{Args, CommandFactory, Parser, Subcommand, ValueHint};
use clap_complete::Shell;

use crate::env_vars::EnvArg;
use crate::error::Kind;
use crate::target::Target;

pub(crate) use teams::{Invite, KeysAction, OrgsAction, TeamsAction};

/// Deploy containers to Buddo hosting and look after them.
#[derive(Debug, Parser)]
#[command(
    name = "buddo",
    version = concat!("v", env!("CARGO_PKG_VERSION")),
    disable_help_subcommand = true,
    max_term_width = 100
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Options that every command takes.
#[derive(Debug, Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct Global {
    /// Address of the API, in place of the configuration file's
    #[arg(long, global = true, env = "BUDDO_API", hide_env_values = true, value_name = "URL")]
    pub(crate) api: Option<String>,
    /// Trust the certificates in this PEM file too, beside the system's own
    #[arg(
        long,
        global = true,
        env = "BUDDO_CA",
        hide_env_values = true,
        value_name = "FILE",
        value_hint = ValueHint::FilePath
    )]
    pub(crate) ca: Option<PathBuf>,
    /// Print the result, and any error, as JSON
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Log in with your Buddo credentials
    #[command(after_long_help = LOGIN_HELP)]
    Login(Login),
    /// Log out: end the session at the API and forget it here
    Logout,
    /// Show which account is logged in
    Whoami,
    /// Create a deployment, or act on one
    #[command(
        args_conflicts_with_subcommands = true,
        subcommand_negates_reqs = true,
        after_long_help = DEPLOY_HELP
    )]
    Deploy(Deploy),
    /// Show status and health of a deployment
    Status {
        /// Name or id of the deployment
        #[arg(value_name = "NAME")]
        target: Target,
    },
    /// List the deployments of all your teams
    List {
        /// Only those of this team: ORG/TEAM or id
        #[arg(long)]
        team: Option<String>,
    },
    /// Make API keys for programs, list and revoke them
    Keys {
        #[command(subcommand)]
        action: KeysAction,
    },
    /// Work with others: organisations, their members and invitations
    Orgs {
        #[command(subcommand)]
        action: OrgsAction,
    },
    /// The teams of organisations, and who is in them
    Teams {
        #[command(subcommand)]
        action: TeamsAction,
    },
    /// List the revisions of a deployment that are kept, newest first
    Revisions {
        /// Name or id of the deployment
        #[arg(value_name = "NAME")]
        target: Target,
    },
    /// Bring an earlier revision back, with exactly the bytes it ran
    #[command(after_long_help = ROLLBACK_HELP)]
    Rollback {
        /// Name or id of the deployment
        #[arg(value_name = "NAME")]
        target: Target,
        /// The revision; the newest other one that was live and stayed good if absent
        #[arg(value_name = "REV")]
        revision: Option<u32>,
        #[command(flatten)]
        follow: FollowArgs,
    },
    /// List the tiers a deployment can be made on, with their prices
    Tiers,
    /// Print the address of a deployment, and open it in a browser where there is one
    Open {
        /// Name or id of the deployment
        #[arg(value_name = "NAME")]
        target: Target,
    },
    /// Print a completion script for a shell
    #[command(after_long_help = COMPLETIONS_HELP)]
    Completions {
        /// The shell to print it for
        shell: Shell,
    },
    /// Write the manual pages into a folder
    Man {
        /// An existing folder, such as /usr/local/share/man/man1
        #[arg(value_name = "DIR", value_hint = ValueHint::DirPath)]
        directory: PathBuf,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Login {
    /// Mail address of the account; asked for, or the first line of standard input, if absent
    #[arg(long, env = "BUDDO_EMAIL", hide_env_values = true)]
    pub(crate) email: Option<String>,
    /// One-time code, where the account has two-factor login enabled
    #[arg(long, value_name = "CODE")]
    pub(crate) totp_code: Option<String>,
    /// Log in with a browser on this machine: buddo is never told the password
    #[arg(long, conflicts_with_all = ["device", "totp_code"])]
    pub(crate) web: bool,
    /// Log in by a code that is typed in a browser on any machine
    #[arg(long, conflicts_with = "totp_code")]
    pub(crate) device: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Deploy {
    #[command(subcommand)]
    pub(crate) action: Option<DeployAction>,
    #[command(flatten)]
    pub(crate) create: Option<Create>,
    // Beside `create` and not inside: clap cannot tell whether a struct with a flattened one in it
    // is present.
    #[command(flatten)]
    pub(crate) follow: FollowArgs,
}

#[derive(Debug, Args)]
pub(crate) struct Create {
    /// Name of the app, and of its address below buddocloud.com
    #[arg(long)]
    pub(crate) name: String,
    /// Container image in full form, such as ghcr.io/me/app:v1
    #[arg(long)]
    pub(crate) image: String,
    /// Port that the app listens on inside its container [default: 3000]
    #[arg(long, allow_negative_numbers = true)]
    pub(crate) port: Option<i64>,
    /// Slug of the tier, see `buddo tiers`; asked for on a terminal if absent
    #[arg(long, value_name = "SLUG")]
    pub(crate) tier: Option<String>,
    /// Environment variable; KEY alone takes the value from buddo's own environment. Repeatable
    #[arg(long, value_name = "KEY[=VALUE]")]
    pub(crate) env: Vec<EnvArg>,
    /// File with one KEY=VALUE a line; --env overrides it
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) env_file: Option<PathBuf>,
    /// Your own domain, where the tier allows it; point its CNAME at NAME.buddocloud.com
    #[arg(long)]
    pub(crate) domain: Option<String>,
    /// How a new version replaces the old one [default: rolling]. rolling: it is started beside it;
    /// recreate: the old one is stopped first, and requests wait
    #[arg(long, value_name = "rolling|recreate")]
    pub(crate) strategy: Option<String>,
    /// The team whose it is: ORG/TEAM or id; your own, or that of the API key, if absent
    #[arg(long)]
    pub(crate) team: Option<String>,
}

/// Whether to wait for the outcome, and for how long.
#[derive(Debug, Args)]
pub(crate) struct FollowArgs {
    /// Return once the API has accepted the request, without waiting for the outcome
    #[arg(long)]
    pub(crate) no_follow: bool,
    /// Give up waiting after this many seconds; the deploy itself goes on
    #[arg(long, value_name = "SECONDS", default_value_t = 900, conflicts_with = "no_follow",
        value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub(crate) timeout: u64,
}

#[derive(Debug, Subcommand)]
pub(crate) enum DeployAction {
    /// Show the audit log: who did what, and when
    Logs {
        /// Id or name of the deployment
        #[arg(value_name = "ID")]
        target: Target,
    },
    /// Stop a deployment; its name stays reserved
    Stop {
        /// Id or name of the deployment
        #[arg(value_name = "ID")]
        target: Target,
    },
    /// Start a stopped deployment, or bring the newest image of a running one live
    Restart {
        /// Id or name of the deployment
        #[arg(value_name = "ID")]
        target: Target,
        #[command(flatten)]
        follow: FollowArgs,
    },
    /// Remove a deployment, its container and its configuration for good
    Destroy {
        /// Id or name of the deployment
        #[arg(value_name = "ID")]
        target: Target,
        /// Do not ask for confirmation on a terminal
        #[arg(long, short)]
        yes: bool,
    },
}

const LOGIN_HELP: &str = "\
Examples:
  buddo login
  buddo login --web
  buddo login --device
  buddo login --email you@example.com < password-file
  printf '%s\\n' \"$EMAIL\" \"$PASSWORD\" | buddo login

Without a terminal the answers are read from standard input, one a line: the mail address unless
--email is given, the password unless BUDDO_PASSWORD is set, and the one-time code if one is needed.
With --web or --device they are not needed: the browser asks for them.
The session is kept in credentials.json (mode 0600) in the configuration folder. Later commands use
the API that was logged in to, unless --api, BUDDO_API or config.toml names another.";

const DEPLOY_HELP: &str = "\
Examples:
  buddo deploy --name my-app --image docker.io/library/nginx:latest --port 80
  buddo deploy --name api --image ghcr.io/me/api:v3 --port 8080 --tier buddo-starter \\
      --env NODE_ENV=production --env DATABASE_URL --env-file .env
  buddo deploy logs my-app
  buddo deploy restart my-app

A line of an --env-file is KEY=VALUE; `export` before it, blank lines and lines that begin with #
are allowed. A value may stand in 'single quotes' (as it is) or \"double quotes\" (with \\n, \\t,
\\\", \\\\ and \\$ as escapes). Nothing is expanded. Prefer --env-file or --env KEY for secrets: other
users of this machine can see a command line.";

const ROLLBACK_HELP: &str = "\
Examples:
  buddo revisions my-app
  buddo rollback my-app
  buddo rollback my-app 3

A rollback makes a new revision that has all of the earlier one: image, environment, port, domain.
Its image is fixed to the bytes that ran then, wherever its tag points now. `buddo deploy restart`
takes the newest image of the tag again.";

const COMPLETIONS_HELP: &str = "\
Examples:
  buddo completions bash > ~/.local/share/bash-completion/completions/buddo
  buddo completions zsh > \"${fpath[1]}/_buddo\"
  buddo completions fish > ~/.config/fish/completions/buddo.fish";

/// The whole command, for parsing, completions and manual pages.
pub(crate) fn command() -> clap::Command {
    use std::fmt::Write as _;

    let mut help = String::from(
        "Environment:\n  BUDDO_API, BUDDO_CA          as --api and --ca\n  \
         BUDDO_EMAIL, BUDDO_PASSWORD  credentials for `buddo login`; the password for `buddo keys create`\n  \
         BUDDO_API_KEY                an API key to use in place of the login\n  \
         NO_COLOR                     no colour if set\n\nExit codes:\n    0  success\n",
    );
    for kind in Kind::ALL {
        // Writing into a String cannot fail.
        let _ = writeln!(help, "  {:>3}  {}", kind.exit_code(), kind.meaning());
    }
    Cli::command().after_long_help(help)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Cli, clap::Error> {
        use clap::FromArgMatches as _;
        let matches = command().try_get_matches_from(line.split_whitespace())?;
        Cli::from_arg_matches(&matches)
    }

    #[test]
    fn the_command_definition_is_valid() {
        command().debug_assert();
    }

    #[test]
    fn deploy_creates_and_takes_subcommands() {
        let created = parse("buddo deploy --name a --image b --port 80").unwrap();
        assert!(matches!(
            created.command,
            Command::Deploy(Deploy {
                action: None,
                create: Some(Create { port: Some(80), .. }),
                ..
            })
        ));
        let acted = parse("buddo deploy logs my-app").unwrap();
        assert!(matches!(
            acted.command,
            Command::Deploy(Deploy { action: Some(DeployAction::Logs { .. }), create: None, .. })
        ));
    }

    #[test]
    fn creating_and_subcommands_cannot_be_combined() {
        let error = parse("buddo deploy --name a logs b").unwrap_err();
        assert!(error.use_stderr(), "{error}");
        for bare in ["buddo deploy", "buddo deploy --name a"] {
            let error = parse(bare).unwrap_err();
            assert_eq!(error.kind(), clap::error::ErrorKind::MissingRequiredArgument, "{bare}");
            assert!(error.to_string().contains("--image"), "{error}");
        }
    }
}
