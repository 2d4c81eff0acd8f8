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
    /// OAuth apps: list them, approve them; works while the coordinator serves.
    #[command(subcommand)]
    App(AppCommand),
    /// The epoch of what hosts are told; works while the coordinator serves.
    #[command(subcommand)]
    Epoch(EpochCommand),
    /// The certificate authority of hosts and of the API's own certificate; works while the
    /// coordinator serves.
    #[command(subcommand)]
    Ca(CaCommand),
    /// The key that documents for hosts are signed with; works while the coordinator serves.
    #[command(subcommand)]
    Key(KeyCommand),
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
    /// Print a token by which one of two copies of NAME joins anew; the other stays locked out.
    Unlock {
        /// Name of the host.
        name: String,
    },
    /// Take NAME, which has no deployments any more, off the platform.
    Remove {
        /// Name of the host.
        name: String,
    },
}

/// What to do with OAuth apps.
#[derive(Debug, Subcommand)]
pub enum AppCommand {
    /// List the apps that accounts have made, and whether they are approved.
    List,
    /// Let an app ask everybody, and not its owner alone, for what it wants.
    Approve {
        /// Its client id.
        client_id: String,
    },
    /// Take that back: what others than its owner have allowed to it ends.
    Suspend {
        /// Its client id.
        client_id: String,
    },
    /// Print the audit log about an app: who let it do what, and who ended that.
    Log {
        /// Its client id.
        client_id: String,
    },
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
    /// Print its certificate (PEM), for clients such as curl --cacert; both while it is rolled over.
    Show,
    /// List the CAs and which hosts have moved to the newest.
    List,
    /// Begin a rollover: make the next CA, which hosts trust beside the old one and get their
    /// certificates from.
    Rotate,
    /// End a rollover: the old CA is trusted no longer.
    Retire(Retire),
}

/// What to do with the signing key.
#[derive(Debug, Subcommand)]
pub enum KeyCommand {
    /// List the keys and which hosts have moved to the newest.
    List,
    /// Begin a rotation: make the next key, which each host is told of by the old one.
    Rotate,
    /// End a rotation: the old key signs no longer.
    Retire(Retire),
}

/// What to retire.
#[derive(Debug, clap::Args)]
pub struct Retire {
    /// The old one, or the first 8 or more characters of it, as `list` prints it.
    pub old: String,
    /// Also where hosts have not moved: each of them must join again.
    #[arg(long)]
    pub force: bool,
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
