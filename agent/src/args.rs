//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

/// The agent of one container host.
#[derive(Debug, Parser)]
#[command(name = "buddo-agent", version)]
pub struct Cli {
    /// The configuration [default: $XDG_CONFIG_HOME/buddo-agent/agent.toml, then
    /// /etc/buddo/agent.toml].
    #[arg(long, global = true, value_name = "PATH", env = "BUDDO_AGENT_CONFIG")]
    pub config: Option<PathBuf>,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What the agent can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the agent.
    Run,
    /// Answer Caddy's questions about who is live. A process of its own.
    Resolver,
    /// Join this host to a coordinator, with a token of `buddo-coordinator host add NAME`.
    Join(Join),
    /// Show how the host and its apps are.
    Status(Shown),
    /// Say in words why an app is in the state it is in, and what happens next.
    Explain {
        /// Its subdomain, host name or id.
        app: String,
        /// How it is shown.
        #[command(flatten)]
        shown: Shown,
    },
    /// Show the document in force.
    Document(Shown),
    /// Show the route files.
    Routes(Shown),
    /// Show what was reported since the agent started.
    Events(Shown),
    /// Check the host and say how to fix what is wrong.
    ///
    /// Also works if the agent is not running or half of the host is missing. The exit code is 0 if
    /// all is well, 1 if there are warnings, 2 if something keeps the host from doing its work.
    Doctor(Shown),
    /// Print the main Caddyfile that the routes need.
    Caddyfile {
        /// Write it to where the configuration wants it, with the folders it needs; on any error
        /// the previous file stays.
        #[arg(long)]
        write: bool,
    },
    /// Write the manual pages into a folder.
    Man {
        /// An existing folder.
        #[arg(value_name = "DIR")]
        directory: PathBuf,
    },
    /// Print shell completions.
    Completions {
        /// For which shell.
        shell: clap_complete::Shell,
    },
}

impl Command {
    /// Whether it runs until it is told to stop.
    pub fn serves(&self) -> bool {
        matches!(self, Self::Run | Self::Resolver)
    }
}

/// How to join.
#[derive(Debug, Args)]
pub struct Join {
    /// `https://HOST:PORT` of the coordinator's listener for hosts.
    #[arg(long, value_name = "URL")]
    pub coordinator: String,
    /// The one-time token.
    #[arg(long, value_name = "TOKEN", env = "BUDDO_JOIN_TOKEN", hide_env_values = true)]
    pub token: String,
    /// `HOST:PORT` where the coordinator reaches this agent.
    #[arg(long, value_name = "HOST:PORT")]
    pub advertise: String,
    /// Give up the identity that this host has already.
    #[arg(long)]
    pub force: bool,
}

/// How an answer is shown.
#[derive(Debug, Args, Clone, Copy)]
pub struct Shown {
    /// As JSON, for programs.
    #[arg(long)]
    pub json: bool,
}
