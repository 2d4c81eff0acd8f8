//! The kinds of principals.

use crate::domain::identity::{KeyScope, Scope};

/// Who is behind a request. All but the strangers belong to the organisation in question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Who {
    /// Owns it and pays for its deployments; made the apps and the keys.
    Owner,
    /// Administers it.
    OrgAdmin,
    /// Is in it, but in none of its teams.
    OrgMember,
    /// Administers the team.
    TeamAdmin,
    /// Deploys in the team.
    Developer,
    /// Looks into the team.
    Viewer,
    /// Is in another organisation, as its owner.
    Stranger,
    /// Administers the platform, and is in no organisation but its own.
    PlatformAdmin,
}

impl Who {
    pub(super) const ALL: [Self; 8] = [
        Self::Owner,
        Self::OrgAdmin,
        Self::OrgMember,
        Self::TeamAdmin,
        Self::Developer,
        Self::Viewer,
        Self::Stranger,
        Self::PlatformAdmin,
    ];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Owner => "owner",
            Self::OrgAdmin => "org-admin",
            Self::OrgMember => "org-member",
            Self::TeamAdmin => "team-admin",
            Self::Developer => "developer",
            Self::Viewer => "viewer",
            Self::Stranger => "stranger",
            Self::PlatformAdmin => "platform-admin",
        }
    }
}

/// The credential that a request shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shows {
    Nothing,
    /// A bearer token.
    Text(&'static str),
    Jwt(Who),
    /// A browser's cookie, from a page of ours or of another site.
    Cookie(Who, Site),
    /// The owner's access token for somebody else's app.
    App(Scope),
    /// An access token of the command line.
    Cli(Who, Scope),
    /// A key of the team, made by somebody.
    Key(Who, &'static [KeyScope]),
    /// A key of the stranger's own team.
    OtherTeamsKey,
    /// A key of the team that has ended.
    ExpiredKey,
    /// A host's TLS connection.
    Certificate,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Site {
    Ours,
    Another,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct CallerKind {
    pub(super) name: &'static str,
    pub(super) shows: Shows,
}

const fn kind(name: &'static str, shows: Shows) -> CallerKind {
    CallerKind { name, shows }
}

const BOTH: &[KeyScope] = &[KeyScope::DeploymentsRead, KeyScope::DeploymentsWrite];

pub(super) const KINDS: &[CallerKind] = &[
    kind("nobody", Shows::Nothing),
    kind("garbage", Shows::Text("x")),
    kind("garbage-jwt", Shows::Text("eyJhbGciOiJub25lIn0.e30.")),
    kind("garbage-key", Shows::Text("buddo_key_000000000000000000000000000000000000")),
    kind("jwt:owner", Shows::Jwt(Who::Owner)),
    kind("jwt:org-admin", Shows::Jwt(Who::OrgAdmin)),
    kind("jwt:org-member", Shows::Jwt(Who::OrgMember)),
    kind("jwt:team-admin", Shows::Jwt(Who::TeamAdmin)),
    kind("jwt:developer", Shows::Jwt(Who::Developer)),
    kind("jwt:viewer", Shows::Jwt(Who::Viewer)),
    kind("jwt:stranger", Shows::Jwt(Who::Stranger)),
    kind("jwt:platform-admin", Shows::Jwt(Who::PlatformAdmin)),
    kind("cookie:owner", Shows::Cookie(Who::Owner, Site::Ours)),
    kind("cookie:stranger", Shows::Cookie(Who::Stranger, Site::Ours)),
    kind("cookie:owner from another site", Shows::Cookie(Who::Owner, Site::Another)),
    kind("app:profile:read", Shows::App(Scope::ProfileRead)),
    kind("app:points:read", Shows::App(Scope::PointsRead)),
    kind("app:points:spend", Shows::App(Scope::PointsSpend)),
    kind("app:deploy:manage", Shows::App(Scope::DeployManage)),
    kind("app:app:balance:read", Shows::App(Scope::AppBalanceRead)),
    kind("cli:teams:manage owner", Shows::Cli(Who::Owner, Scope::TeamsManage)),
    kind("cli:teams:manage stranger", Shows::Cli(Who::Stranger, Scope::TeamsManage)),
    kind("cli:deploy:manage owner", Shows::Cli(Who::Owner, Scope::DeployManage)),
    kind("cli:deploy:manage org-admin", Shows::Cli(Who::OrgAdmin, Scope::DeployManage)),
    kind("cli:deploy:manage org-member", Shows::Cli(Who::OrgMember, Scope::DeployManage)),
    kind("cli:deploy:manage developer", Shows::Cli(Who::Developer, Scope::DeployManage)),
    kind("cli:deploy:manage viewer", Shows::Cli(Who::Viewer, Scope::DeployManage)),
    kind("cli:deploy:manage stranger", Shows::Cli(Who::Stranger, Scope::DeployManage)),
    kind("cli:deploy:manage platform-admin", Shows::Cli(Who::PlatformAdmin, Scope::DeployManage)),
    kind("key:deployments:read", Shows::Key(Who::Owner, &[KeyScope::DeploymentsRead])),
    kind("key:deployments:write", Shows::Key(Who::Owner, &[KeyScope::DeploymentsWrite])),
    kind("key:templates:read", Shows::Key(Who::Owner, &[KeyScope::TemplatesRead])),
    kind("key:templates:write", Shows::Key(Who::Owner, &[KeyScope::TemplatesWrite])),
    kind("key:secrets:read", Shows::Key(Who::Owner, &[KeyScope::SecretsRead])),
    kind("key:secrets:write", Shows::Key(Who::Owner, &[KeyScope::SecretsWrite])),
    kind("key:both of who is a viewer now", Shows::Key(Who::Viewer, BOTH)),
    kind("key:both of who left the team", Shows::Key(Who::OrgMember, BOTH)),
    kind("key:both of another team", Shows::OtherTeamsKey),
    kind("key:both, expired", Shows::ExpiredKey),
    kind("host-certificate", Shows::Certificate),
];
