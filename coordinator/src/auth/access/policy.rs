//! What each route requires of a request. A route that is not listed here serves nobody.
//!
//! The outcome of this table for every kind of principal is in the access snapshot of
//! `api/tests/access`, which is reviewed with each change.

use super::{AdminCheck, ClientCheck, MemberCheck, Principal, Right, StreamAuthorization};
use crate::auth::session::Session;
use crate::domain::identity::Scope;

/// What a route requires.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// Nothing: it is public, or the request carries its own proof (a mailed token, a form token, a
    /// client secret). Rate-limited by address.
    Public,
    /// The account's owner: the JWT of a login, or the cookie of a logged-in browser.
    Owner,
    /// As [`Owner`](Self::Owner), but rate-limited by the handler.
    OwnerCountedApart,
    /// The account acting directly: as [`Owner`](Self::Owner), or its command line.
    Member,
    /// An OAuth client that was allowed this.
    Client(Scope),
    /// An OAuth client that was allowed to deploy, or an API key.
    Deploy(Right),
    /// An administrator, by a login; the handler also requires a recent one with a one-time code.
    Admin,
    /// A host: by its join token, or by the key of its certificate.
    Host,
}

/// What a principal may do on a route.
#[derive(Debug, Clone)]
pub enum Admitted {
    /// [`Rule::Owner`].
    Owner(Session),
    /// [`Rule::Member`].
    Member(MemberCheck),
    /// [`Rule::Client`].
    Client(ClientCheck),
    /// [`Rule::Deploy`].
    Deploy(StreamAuthorization),
    /// [`Rule::Admin`].
    Admin(AdminCheck),
}

/// Why a principal is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Denied {
    /// The route is not for this kind of principal.
    WrongKind,
    /// The account is not a platform administrator.
    NotAdmin,
    /// It lacks a scope.
    Scope(&'static str),
}

impl Rule {
    /// What `principal` may do where this is the rule.
    pub fn admit(self, principal: Principal) -> Result<Admitted, Denied> {
        let admitted = match self {
            // These routes do not ask for an identity.
            Self::Public | Self::Host => None,
            Self::Owner | Self::OwnerCountedApart => match principal {
                Principal::Login(session) | Principal::Browser(session) => {
                    Some(Ok(Admitted::Owner(session)))
                }
                Principal::Client { .. } | Principal::Key(_) => None,
            },
            Self::Member => MemberCheck::admit(&principal).map(|check| check.map(Admitted::Member)),
            Self::Client(scope) => {
                ClientCheck::admit(&principal, scope).map(|check| check.map(Admitted::Client))
            }
            Self::Admin => return AdminCheck::admit(principal).map(Admitted::Admin),
            Self::Deploy(right) => StreamAuthorization::admit(&principal, right)
                .map(|admitted| admitted.map(Admitted::Deploy)),
        };
        admitted.ok_or(Denied::WrongKind)?.map_err(Denied::Scope)
    }
}

const READ: Rule = Rule::Deploy(Right::Read);
const WRITE: Rule = Rule::Deploy(Right::Write);

/// Every route: method, path as the router has it, rule.
pub const TABLE: &[(&str, &str, Rule)] = &[
    ("GET", "/api/deploy/apps/{id}/status", READ),
    ("GET", "/api/deploy/apps/{id}", READ),
    ("DELETE", "/api/deploy/apps/{id}", WRITE),
    ("GET", "/api/deploy/apps", READ),
    ("POST", "/api/deploy/apps", WRITE),
    ("GET", "/api/deploy/apps/{id}/events", READ),
    ("GET", "/api/deploy/apps/{id}/logs", READ),
    ("GET", "/api/deploy/apps/{id}/revisions", READ),
    ("POST", "/api/deploy/apps/{id}/restart", WRITE),
    ("POST", "/api/deploy/apps/{id}/rollback", WRITE),
    ("POST", "/api/deploy/apps/{id}/stop", WRITE),
    ("GET", "/api/deploy/registries", READ),
    ("GET", "/api/deploy/tiers", READ),
    // Liveness.
    ("GET", "/health", Rule::Public),
    ("GET", "/readyz", Rule::Public),
    // The API's description of itself.
    ("GET", "/.well-known/openapi.json", Rule::Public),
    ("GET", "/docs", Rule::Public),
    ("GET", "/docs/errors", Rule::Public),
    // Accounts.
    ("POST", "/api/auth/register", Rule::Public),
    ("POST", "/api/auth/login", Rule::Public),
    ("POST", "/api/auth/verify-email", Rule::Public),
    ("POST", "/api/auth/forgot-password", Rule::Public),
    ("POST", "/api/auth/reset-password", Rule::Public),
    ("POST", "/api/auth/confirm-email-change", Rule::Public),
    ("POST", "/api/auth/send-verification", Rule::OwnerCountedApart),
    ("GET", "/api/auth/me", Rule::Owner),
    ("POST", "/api/auth/change-password", Rule::Owner),
    ("POST", "/api/auth/change-email", Rule::Owner),
    ("POST", "/api/auth/totp/enroll", Rule::Owner),
    ("POST", "/api/auth/totp/confirm", Rule::Owner),
    ("POST", "/api/auth/totp/disable", Rule::Owner),
    ("POST", "/api/auth/totp/recovery-codes", Rule::Owner),
    ("GET", "/api/auth/sessions", Rule::Owner),
    ("DELETE", "/api/auth/sessions", Rule::Owner),
    ("DELETE", "/api/auth/sessions/{id}", Rule::Owner),
    ("POST", "/api/auth/logout", Rule::Owner),
    ("GET", "/api/auth/activity", Rule::Owner),
    ("POST", "/api/auth/delete-account", Rule::Owner),
    // Pages. Their forms carry a token that is bound to the browser.
    ("GET", "/verify-email", Rule::Public),
    ("POST", "/verify-email", Rule::Public),
    ("GET", "/reset-password", Rule::Public),
    ("POST", "/reset-password", Rule::Public),
    ("GET", "/confirm-email-change", Rule::Public),
    ("POST", "/confirm-email-change", Rule::Public),
    ("GET", "/device", Rule::Public),
    ("POST", "/device", Rule::Public),
    ("POST", "/device/login", Rule::Public),
    ("GET", "/login", Rule::Public),
    ("POST", "/login", Rule::Public),
    ("POST", "/logout", Rule::Public),
    ("GET", "/invitation", Rule::Public),
    ("POST", "/invitation", Rule::Public),
    // OAuth. Clients authenticate as in RFC 6749, 2.3.
    ("GET", "/.well-known/oauth-authorization-server", Rule::Public),
    ("GET", "/api/oauth/authorize", Rule::Public),
    ("POST", "/api/oauth/authorize/login", Rule::Public),
    ("POST", "/api/oauth/authorize/consent", Rule::Public),
    ("POST", "/api/oauth/device_authorization", Rule::Public),
    ("POST", "/api/oauth/token", Rule::Public),
    ("POST", "/api/oauth/revoke", Rule::Public),
    ("POST", "/api/oauth/introspect", Rule::Public),
    ("GET", "/api/oauth/apps/{client_id}", Rule::Public),
    ("DELETE", "/api/oauth/apps/{client_id}", Rule::Owner),
    ("PATCH", "/api/oauth/apps/{client_id}", Rule::Owner),
    ("POST", "/api/oauth/apps", Rule::OwnerCountedApart),
    ("POST", "/api/oauth/apps/{client_id}/secret", Rule::Owner),
    ("GET", "/api/oauth/my-apps", Rule::Owner),
    // Connected apps.
    ("GET", "/api/user/connected-apps", Rule::Owner),
    ("DELETE", "/api/user/connected-apps/{app_id}", Rule::Owner),
    ("GET", "/api/external/user", Rule::Client(Scope::ProfileRead)),
    // Organisations, teams, keys. The role in each is checked in the use case's transaction.
    ("GET", "/api/orgs", Rule::Member),
    ("POST", "/api/orgs", Rule::Member),
    ("GET", "/api/orgs/{org_id}", Rule::Member),
    ("PUT", "/api/orgs/{org_id}", Rule::Member),
    ("DELETE", "/api/orgs/{org_id}", Rule::Member),
    ("POST", "/api/orgs/{org_id}/take-over", Rule::Member),
    ("GET", "/api/orgs/{org_id}/activity", Rule::Member),
    ("GET", "/api/orgs/{org_id}/members", Rule::Member),
    ("PUT", "/api/orgs/{org_id}/members/{account_id}", Rule::Member),
    ("DELETE", "/api/orgs/{org_id}/members/{account_id}", Rule::Member),
    ("GET", "/api/orgs/{org_id}/invitations", Rule::Member),
    ("POST", "/api/orgs/{org_id}/invitations", Rule::Member),
    ("DELETE", "/api/orgs/{org_id}/invitations/{invitation_id}", Rule::Member),
    ("POST", "/api/invitations/accept", Rule::Member),
    ("GET", "/api/orgs/{org_id}/teams", Rule::Member),
    ("POST", "/api/orgs/{org_id}/teams", Rule::Member),
    ("GET", "/api/teams", Rule::Member),
    ("GET", "/api/teams/{team_id}", Rule::Member),
    ("PUT", "/api/teams/{team_id}", Rule::Member),
    ("DELETE", "/api/teams/{team_id}", Rule::Member),
    ("GET", "/api/teams/{team_id}/members", Rule::Member),
    ("PUT", "/api/teams/{team_id}/members/{account_id}", Rule::Member),
    ("DELETE", "/api/teams/{team_id}/members/{account_id}", Rule::Member),
    ("GET", "/api/teams/{team_id}/keys", Rule::Member),
    ("POST", "/api/teams/{team_id}/keys", Rule::Member),
    ("DELETE", "/api/teams/{team_id}/keys/{key_id}", Rule::Member),
    // Administration.
    ("GET", "/api/admin/accounts", Rule::Admin),
    ("GET", "/api/admin/accounts/{id}", Rule::Admin),
    ("POST", "/api/admin/accounts/{id}/suspend", Rule::Admin),
    ("POST", "/api/admin/accounts/{id}/resume", Rule::Admin),
    ("POST", "/api/admin/accounts/{id}/promote", Rule::Admin),
    ("POST", "/api/admin/accounts/{id}/demote", Rule::Admin),
    ("POST", "/api/admin/accounts/{id}/clear-second-factor", Rule::Admin),
    ("GET", "/api/admin/tiers", Rule::Admin),
    ("POST", "/api/admin/tiers", Rule::Admin),
    ("PATCH", "/api/admin/tiers/{slug}", Rule::Admin),
    ("GET", "/api/admin/tiers/{slug}/accounts", Rule::Admin),
    ("PUT", "/api/admin/tiers/{slug}/accounts/{id}", Rule::Admin),
    ("DELETE", "/api/admin/tiers/{slug}/accounts/{id}", Rule::Admin),
    ("GET", "/api/admin/hosts", Rule::Admin),
    ("DELETE", "/api/admin/hosts/{name}", Rule::Admin),
    ("POST", "/api/admin/hosts/{name}/drain", Rule::Admin),
    ("POST", "/api/admin/hosts/{name}/undrain", Rule::Admin),
    ("POST", "/api/admin/hosts/{name}/evacuate", Rule::Admin),
    ("DELETE", "/api/admin/deployments/{id}", Rule::Admin),
    ("GET", "/api/admin/apps", Rule::Admin),
    ("POST", "/api/admin/apps/{client_id}/approve", Rule::Admin),
    ("POST", "/api/admin/apps/{client_id}/reject", Rule::Admin),
    ("GET", "/api/admin/audit", Rule::Admin),
    // The listener for hosts.
    ("POST", "/v1/join", Rule::Host),
    ("POST", "/v1/renew", Rule::Host),
];

/// The rule of a route. HEAD follows the rule for GET.
pub fn rule(method: &str, path: &str) -> Option<Rule> {
    let method = if method == "HEAD" { "GET" } else { method };
    let found = TABLE.iter().find(|(m, p, _)| *m == method && *p == path);
    found.map(|(_, _, rule)| *rule)
}
