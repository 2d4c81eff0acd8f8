//! `buddo orgs`, `buddo teams` and `buddo keys`.

use clap::{Args, Subcommand};

#[derive(Debug, Subcommand)]
pub(crate) enum OrgsAction {
    /// List the organisations that you are in
    List,
    /// Make an organisation to work in with others
    Create {
        /// Its name
        name: String,
        /// Short name for commands; made of the name if absent
        #[arg(long)]
        slug: Option<String>,
    },
    /// List who is in an organisation
    Members {
        /// Short name or id of the organisation
        org: String,
    },
    /// Invite somebody by mail
    Invite(Invite),
    /// List the invitations that nobody has accepted yet
    Invitations {
        /// Short name or id of the organisation
        org: String,
    },
    /// Take an invitation back
    Uninvite {
        /// Short name or id of the organisation
        org: String,
        /// Mail address, or id of the invitation
        invited: String,
    },
    /// Accept an invitation; its mail has a link that ends with the token
    Accept {
        /// The token, or the whole link; asked for, or the first line of standard input, if absent
        token: Option<String>,
    },
    /// Give a member another role
    Role {
        /// Short name or id of the organisation
        org: String,
        /// Username or account id of the member
        member: String,
        /// `org_owner`, `org_admin` or `org_member`
        role: String,
    },
    /// Remove a member; the API keys that they made there end
    Remove {
        /// Short name or id of the organisation
        org: String,
        /// Username or account id of the member
        member: String,
    },
    /// Leave an organisation; the API keys that you made there end
    Leave {
        /// Short name or id of the organisation
        org: String,
    },
    /// Answer for an organisation's deployments from now on, in place of another owner
    TakeOver {
        /// Short name or id of the organisation
        org: String,
    },
    /// Show what was done in an organisation, newest first
    Activity {
        /// Short name or id of the organisation
        org: String,
    },
    /// End an organisation that has no deployments left
    Delete {
        /// Short name or id of the organisation
        org: String,
        /// Do not ask for confirmation on a terminal
        #[arg(long, short)]
        yes: bool,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Invite {
    /// Short name or id of the organisation
    pub(crate) org: String,
    /// Where the mail goes; only the account with this address can accept
    pub(crate) email: String,
    /// `org_owner`, `org_admin` or `org_member` [default: `org_member`]
    #[arg(long)]
    pub(crate) role: Option<String>,
    /// A team to join at once: ORG/TEAM or id
    #[arg(long)]
    pub(crate) team: Option<String>,
    /// `team_admin`, `developer` or `viewer` in that team [default: developer]
    #[arg(long, requires = "team")]
    pub(crate) team_role: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum TeamsAction {
    /// List the teams that you may look into
    List,
    /// Make a team
    Create {
        /// Short name or id of the organisation
        org: String,
        /// Its name
        name: String,
        /// Short name for commands; made of the name if absent
        #[arg(long)]
        slug: Option<String>,
    },
    /// List who is in a team
    Members {
        /// ORG/TEAM or id of the team
        team: String,
    },
    /// Put a member of its organisation into a team, or give them another role there
    Add {
        /// ORG/TEAM or id of the team
        team: String,
        /// Username or account id of the member
        member: String,
        /// `team_admin`, `developer` or `viewer`
        #[arg(long, default_value = "developer")]
        role: String,
    },
    /// Take somebody out of a team; the API keys that they made in it end
    Remove {
        /// ORG/TEAM or id of the team
        team: String,
        /// Username or account id of the member
        member: String,
    },
    /// End a team that has no deployments left, with its API keys
    Delete {
        /// ORG/TEAM or id of the team
        team: String,
        /// Do not ask for confirmation on a terminal
        #[arg(long, short)]
        yes: bool,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum KeysAction {
    /// List the API keys of a team: all for its admins, for others those that they made
    List(OfTeam),
    /// Make an API key; it is shown this once
    #[command(after_long_help = CREATE_HELP)]
    Create {
        /// What it is for
        name: String,
        /// What it may do; repeatable [default: deployments:read and deployments:write]
        #[arg(long = "scope", value_name = "SCOPE")]
        scopes: Vec<String>,
        /// Days until it ends, 1 to 365
        #[arg(long, value_name = "DAYS", default_value_t = 90)]
        expires: i64,
        /// One-time code, where the account has two-factor login enabled
        #[arg(long, value_name = "CODE")]
        totp_code: Option<String>,
        #[command(flatten)]
        of: OfTeam,
    },
    /// End an API key at once
    Revoke {
        /// Id or name of the key
        key: String,
        #[command(flatten)]
        of: OfTeam,
    },
}

#[derive(Debug, Args)]
pub(crate) struct OfTeam {
    /// The team: ORG/TEAM or id; your own if absent
    #[arg(long, value_name = "TEAM")]
    pub(crate) team: Option<String>,
}

const CREATE_HELP: &str = "\
Examples:
  buddo keys create ci
  buddo keys create dashboard --scope deployments:read --expires 365 --team acme/web
  BUDDO_API_KEY=\"$(buddo keys create ci --json | jq -r .key)\" buddo list

Asks for the password unless BUDDO_PASSWORD is set, and for a one-time code if one is needed: a key
outlives the login that it is made with.

Scopes: deployments:read, deployments:write. A key can do no more than you can in the team, and ends
when you leave it. Send it as `Authorization: Bearer KEY`, or let buddo do so: BUDDO_API_KEY.";
