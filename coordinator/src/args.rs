//! The command line.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

/// Buddo's coordinator: accounts, tiers, deployments, and signed desired state for hosts.
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
    /// Accounts, tiers, hosts and OAuth apps; works while the coordinator serves.
    #[command(subcommand)]
    Admin(AdminCommand),
    /// OAuth apps: list them, approve them; works while the coordinator serves.
    #[command(subcommand)]
    App(AppCommand),
    /// The machine's clock, when it is doubted; works while the coordinator serves.
    #[command(subcommand)]
    Clock(ClockCommand),
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
    /// The key that secrets in the database are encrypted with; works while the coordinator serves.
    #[command(subcommand)]
    MasterKey(MasterKeyCommand),
    /// The audit logs; works while the coordinator serves.
    #[command(subcommand)]
    Audit(AuditCommand),
    /// Write a backup of the database to FILE; works while the coordinator serves. The keys are not
    /// in it.
    Backup {
        /// Where to; a file that is there already is left alone.
        file: PathBuf,
    },
    /// Put a backup of the database in place, while no coordinator serves. Hosts obey it at once;
    /// everybody has to log in again, and new API keys have to be made.
    Restore(Restore),
    /// Write the manual pages into a folder.
    Man {
        /// An existing folder.
        #[arg(value_name = "DIR")]
        directory: PathBuf,
    },
    /// Print a completion script for a shell.
    Completions {
        /// Which shell.
        shell: clap_complete::Shell,
    },
}

/// What to administer.
#[derive(Debug, Subcommand)]
pub enum AdminCommand {
    /// Accounts: who there is, who may act, who administers.
    #[command(subcommand)]
    Account(AccountCommand),
    /// Tiers: what a deployment may use and what it costs.
    #[command(subcommand)]
    Tier(TierCommand),
    /// Deployments of any account.
    #[command(subcommand)]
    Deployment(DeploymentCommand),
    /// The same as `buddo-coordinator host`.
    #[command(subcommand)]
    Host(HostCommand),
    /// The same as `buddo-coordinator app`.
    #[command(subcommand)]
    App(AppCommand),
}

/// What to do with accounts. ACCOUNT is an id or a mail address.
#[derive(Debug, Subcommand)]
pub enum AccountCommand {
    /// List the accounts.
    List {
        /// Only those whose mail address or name holds this.
        text: Option<String>,
    },
    /// Show one.
    Show {
        /// Which.
        account: String,
    },
    /// Refuse its logins and tokens, and park its apps.
    Suspend {
        /// Which.
        account: String,
        /// What its owner is told.
        #[arg(long)]
        reason: Option<String>,
    },
    /// Take that back: what ran runs again.
    Resume {
        /// Which.
        account: String,
    },
    /// Make it an administrator; it needs a verified address and one-time codes.
    Promote {
        /// Which.
        account: String,
    },
    /// Take that back.
    Demote {
        /// Which.
        account: String,
    },
    /// Take away one-time codes and recovery codes, whose owner lost both, and end its sessions. Make
    /// sure who asks.
    ClearSecondFactor {
        /// Which.
        account: String,
    },
}

/// What to do with tiers.
#[derive(Debug, Subcommand)]
pub enum TierCommand {
    /// List them as JSON, one a line.
    List,
    /// Add one, described as JSON.
    Add {
        /// As POST /api/admin/tiers takes it.
        json: String,
    },
    /// Change what is named of one, for deployments to come.
    Change {
        /// Its slug.
        slug: String,
        /// As PATCH /api/admin/tiers/{slug} takes it.
        json: String,
    },
    /// Let an account deploy on a tier that is not open to all.
    Allow {
        /// The tier's slug.
        slug: String,
        /// Which account: an id or a mail address.
        account: String,
    },
    /// Take that back: what runs goes on, and cannot be restarted.
    Deny {
        /// The tier's slug.
        slug: String,
        /// Which account: an id or a mail address.
        account: String,
    },
    /// List the accounts that are allowed a tier.
    Allowed {
        /// The tier's slug.
        slug: String,
    },
}

/// What to do with hosts.
#[derive(Debug, Subcommand)]
pub enum HostCommand {
    /// Print a one-time token, valid for 15 minutes, by which a host joins under NAME.
    Add {
        /// Name of the host: 1-63 of a-z, 0-9 and hyphens.
        name: String,
        /// Believe no more memory than this of it, whatever it says.
        #[arg(long, value_name = "MB")]
        max_memory_mb: Option<u64>,
    },
    /// List the hosts and whether they can be reached.
    List,
    /// Print a token by which one of two copies of NAME joins again; the other stays locked out.
    Unlock {
        /// Name of the host.
        name: String,
    },
    /// Believe no more memory than MB of NAME, whatever it says.
    Bound {
        /// Name of the host.
        name: String,
        /// How much at most; as much as it says if absent.
        #[arg(long, value_name = "MB")]
        max_memory_mb: Option<u64>,
    },
    /// Let NAME get no further deployments; those it has stay.
    Drain {
        /// Name of the host.
        name: String,
    },
    /// Take that back.
    Undrain {
        /// Name of the host.
        name: String,
    },
    /// Place the deployments of NAME on other hosts, as when it is lost for good; it gets no further
    /// ones. What they stored on it stays there.
    Evacuate {
        /// Name of the host.
        name: String,
    },
    /// Take NAME, which has no deployments any more, off the platform.
    Remove {
        /// Name of the host.
        name: String,
    },
}

/// What to do with deployments.
#[derive(Debug, Subcommand)]
pub enum DeploymentCommand {
    /// Destroy one for good; its owner sees that the platform did.
    Destroy {
        /// Its id or its subdomain.
        deployment: String,
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
    /// Do not, or not any more: what others than its owner have allowed to it ends.
    #[command(visible_alias = "reject")]
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

/// What to do about the clock.
#[derive(Debug, Clone, Copy, Subcommand)]
pub enum ClockCommand {
    /// Print the machine's time and the last one that a serving coordinator believed.
    Show,
    /// Say that the machine's clock is right: what waited for that is signed within seconds. Set
    /// the clock right first.
    Confirm,
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

/// What to do with the master key.
#[derive(Debug, Clone, Copy, Subcommand)]
pub enum MasterKeyCommand {
    /// Show which key encrypts, and whether a rotation is under way.
    Status,
    /// Make a new key, encrypt everything with it and forget the old one; run it again if it was
    /// stopped on its way.
    Rotate,
}

/// What to do with the audit logs.
#[derive(Debug, Subcommand)]
pub enum AuditCommand {
    /// Check that no entry of any log was changed, added, moved or removed from outside.
    Verify {
        /// A line that this command or the coordinator's log printed before (SEQ:HASH): what was
        /// there then must be there now.
        #[arg(long, value_name = "SEQ:HASH")]
        expect: Vec<String>,
    },
    /// Print the newest acts of administrators, newest first.
    List {
        /// How many.
        #[arg(long, default_value_t = 100)]
        limit: u32,
    },
}

/// What to restore.
#[derive(Debug, clap::Args)]
pub struct Restore {
    /// The backup.
    pub file: PathBuf,
    /// Also in the place of a database that is there; that one is kept beside it.
    #[arg(long)]
    pub force: bool,
    /// The master.key of the time of the backup, where it was rotated since.
    #[arg(long, value_name = "FILE")]
    pub master_key: Option<PathBuf>,
    /// Logins, tokens, API keys and invitations of the backup go on, also those that were ended after
    /// it.
    #[arg(long)]
    pub keep_sessions: bool,
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
