//! The command line.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

/// Buddo's coordinator: accounts, tiers, deployments, and signed intent for hosts.
#[derive(Debug, Parser)]
#[command(name = "buddo-coordinator", version)]
pub struct Args {
    /// Configuration file (TOML). Without it, every setting has its default.
    #[arg(long, global = true, env = "BUDDO_COORDINATOR_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve operators and hosts until SIGTERM or SIGINT.
    Serve,
    /// Add and list hosts; works while the coordinator serves.
    #[command(subcommand)]
    Host(HostCommand),
    /// The epoch of what hosts are told; works while the coordinator serves.
    #[command(subcommand)]
    Epoch(EpochCommand),
    /// The certificate authority of hosts and of the API's own certificate.
    #[command(subcommand)]
    Ca(CaCommand),
    /// Print a completion script for a shell.
    Completions {
        /// Which shell.
        shell: clap_complete::Shell,
    },
}

/// What to do with hosts.
#[derive(Debug, Subcommand)]
pub enum HostCommand {
    /// Print a one-time token, valid for 15 minutes, by which a host joins under NAME.
    Add {
        /// Name of the host: 1-63 of a-z, 0-9 and hyphens.
        name: String,
    },
    /// List the hosts and whether they can be reached.
    List,
}

/// What to do with the epoch.
#[derive(Debug, Clone, Copy, Subcommand)]
pub enum EpochCommand {
    /// Raise it, after the database was restored from a backup: hosts hold newer documents than
    /// the backup knows, and refuse what it asks for until then.
    Raise,
}

/// What to do with the certificate authority.
#[derive(Debug, Subcommand)]
pub enum CaCommand {
    /// Print its certificate (PEM), for clients such as curl --cacert.
    Show,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Args::command().debug_assert();
    }
}
