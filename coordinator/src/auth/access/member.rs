//! Who may do what in organisations and teams.

use buddo_shared::model::id::{AccountId, OrgId, TeamId};

use super::{Principal, Refused};
use crate::auth::session::Session;
use crate::domain::identity::{OrgRole, Scope, TeamRole};
use crate::store::Tables;
use crate::store::contract::{Membership, OrgRow};

/// Proof that an account acts directly: by a login, or by the command line that it logged in with.
/// Only [`admit`](Self::admit) makes one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemberCheck {
    account: AccountId,
}

/// Proof that an account has at least the required role in an organisation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrgGrant {
    actor: AccountId,
    role: OrgRole,
    org: OrgRow,
}

/// Proof that an account has at least the required role in a team.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TeamGrant {
    actor: AccountId,
    role: TeamRole,
    membership: Membership,
}

impl MemberCheck {
    /// Checks that `principal` is the account acting directly; the error is the missing scope.
    /// `None`: these endpoints do not serve this kind of principal.
    pub(super) fn admit(principal: &Principal) -> Option<Result<Self, &'static str>> {
        match principal {
            Principal::Login(session) | Principal::Browser(session) => {
                Some(Ok(Self { account: session.account.id }))
            }
            Principal::Client { account, scopes, .. } => {
                let scope = Scope::TeamsManage;
                let has = scopes.contains(scope);
                Some(if has { Ok(Self { account: *account }) } else { Err(scope.as_str()) })
            }
            Principal::Key(_) => None,
        }
    }

    /// The account by a login, which is proof enough: for pages, whose forms are not API requests.
    pub fn by_login(session: &Session) -> Self {
        Self { account: session.account.id }
    }

    /// The account that acts.
    pub fn account(self) -> AccountId {
        self.account
    }

    /// The organisation, if the account has at least this role in it. A non-member is not told that
    /// it exists.
    pub fn org(self, tables: &dyn Tables, id: OrgId, needs: OrgRole) -> Result<OrgGrant, Refused> {
        let role = tables.org_role(id, self.account)?.ok_or(Refused::NotFound)?;
        let org = tables.org(id)?.ok_or(Refused::NotFound)?;
        if role < needs {
            return Err(Refused::OrgRole(needs));
        }
        Ok(OrgGrant { actor: self.account, role, org })
    }

    /// The team, if the account has at least this role in it. Somebody who may not see it is not
    /// told that it exists.
    pub fn team(
        self,
        tables: &dyn Tables,
        id: TeamId,
        needs: TeamRole,
    ) -> Result<TeamGrant, Refused> {
        let membership = tables.membership(self.account, id)?.ok_or(Refused::NotFound)?;
        let role = membership.role().ok_or(Refused::NotFound)?;
        if role < needs {
            return Err(Refused::TeamRole(needs));
        }
        Ok(TeamGrant { actor: self.account, role, membership })
    }
}

impl OrgGrant {
    pub fn actor(&self) -> AccountId {
        self.actor
    }

    pub fn role(&self) -> OrgRole {
        self.role
    }

    pub fn org(&self) -> &OrgRow {
        &self.org
    }
}

impl TeamGrant {
    pub fn actor(&self) -> AccountId {
        self.actor
    }

    /// The account's role in the team.
    pub fn role(&self) -> TeamRole {
        self.role
    }

    /// The team and the account's role in it.
    pub fn membership(&self) -> &Membership {
        &self.membership
    }
}
