//! Who may do what to deployments.

use buddo_shared::model::id::{AccountId, ApiKeyId, DeploymentId, TeamId};

use super::{Principal, Refused, Right, own_team};
use crate::domain::deployment::Deployment;
use crate::domain::identity::{KeyScope, Scope};
use crate::store::Tables;
use crate::store::contract::Membership;

/// Proof that a principal may act on deployments, within bounds. Only [`admit`](Self::admit) makes
/// one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct DeployCheck {
    actor: AccountId,
    reach: Reach,
    right: Right,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Reach {
    /// The account's own team: what it allowed an app that asked for "your deployments".
    Own,
    /// Every team of the account: the account itself, through its command line.
    Every,
    /// The team of an API key, and the account that pays for it.
    Key(ApiKeyId, TeamId, AccountId),
}

/// Where a new deployment goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeployTarget {
    pub team: TeamId,
    /// The account that pays for it.
    pub payer: AccountId,
}

impl DeployCheck {
    /// What `principal` may do on an endpoint that requires `right`; the error is the missing
    /// scope. `None`: these endpoints do not serve this kind of principal.
    pub(super) fn admit(principal: &Principal, right: Right) -> Option<Result<Self, &'static str>> {
        let (actor, reach, scope, has) = match principal {
            Principal::Client { account, scopes, is_cli, .. } => {
                let reach = if *is_cli { Reach::Every } else { Reach::Own };
                let scope = Scope::DeployManage;
                (*account, reach, scope.as_str(), scopes.contains(scope))
            }
            Principal::Key(key) => {
                let scope = match right {
                    Right::Read => KeyScope::DeploymentsRead,
                    Right::Write => KeyScope::DeploymentsWrite,
                };
                let reach = Reach::Key(key.id, key.team, key.payer);
                (key.account, reach, scope.as_str(), key.scopes.contains(scope))
            }
            Principal::Login(_) | Principal::Browser(_) => return None,
        };
        Some(if has { Ok(Self { actor, reach, right }) } else { Err(scope) })
    }

    /// The account that acts, or that the acting key belongs to.
    pub fn actor(self) -> AccountId {
        self.actor
    }

    /// The API key that acts, if one does.
    pub fn key(self) -> Option<ApiKeyId> {
        match self.reach {
            Reach::Key(id, ..) => Some(id),
            Reach::Own | Reach::Every => None,
        }
    }

    /// The account whose keys share a budget, if a key acts: all keys of all teams that one account
    /// pays for.
    pub fn keys_of(self) -> Option<AccountId> {
        match self.reach {
            Reach::Key(_, _, payer) => Some(payer),
            Reach::Own | Reach::Every => None,
        }
    }

    /// The deployment, if the principal may act on it: the only place where that is decided.
    pub fn deployment(
        self,
        tables: &dyn Tables,
        id: DeploymentId,
        needs: Right,
    ) -> Result<Deployment, Refused> {
        let deployment = tables.deployment(id)?.ok_or(Refused::NotFound)?;
        let team = deployment.team.ok_or(Refused::NotYours)?;
        self.in_team(tables, team, needs)?;
        Ok(deployment)
    }

    /// Where a new deployment goes: the named team, or else the team of the key or the account.
    pub fn target(
        self,
        tables: &dyn Tables,
        named: Option<TeamId>,
    ) -> Result<DeployTarget, Refused> {
        let team = named.unwrap_or(match self.reach {
            Reach::Key(_, team, _) => team,
            Reach::Own | Reach::Every => own_team(self.actor),
        });
        let membership = self.in_team(tables, team, Right::Write)?;
        Ok(DeployTarget { team, payer: membership.org.payer })
    }

    /// The teams whose deployments may be listed: the named one, or all.
    pub fn teams(self, tables: &dyn Tables, named: Option<TeamId>) -> Result<Vec<TeamId>, Refused> {
        let one = match (named, self.reach) {
            (Some(team), _) | (None, Reach::Key(_, team, _)) => team,
            (None, Reach::Own) => own_team(self.actor),
            (None, Reach::Every) => {
                let all = tables.memberships_of(self.actor)?;
                // What the role allows is decided here; the list is only where to look.
                let may = |role| role >= Right::Read.role();
                let all = all.into_iter().filter(|membership| membership.role().is_some_and(may));
                return Ok(all.map(|membership| membership.team.id).collect());
            }
        };
        self.in_team(tables, one, Right::Read)?;
        Ok(vec![one])
    }

    /// The account's membership of `team`, if it is within reach and sufficient. A key can never do
    /// more than its creator can right now.
    fn in_team(
        self,
        tables: &dyn Tables,
        team: TeamId,
        needs: Right,
    ) -> Result<Membership, Refused> {
        let within = match self.reach {
            Reach::Own => team == own_team(self.actor),
            Reach::Every => true,
            Reach::Key(_, own, _) => team == own,
        };
        if !within || self.right < needs {
            return Err(Refused::NotYours);
        }
        let membership = tables.membership(self.actor, team)?.ok_or(Refused::NotYours)?;
        let role = membership.role().ok_or(Refused::NotYours)?;
        if role < needs.role() { Err(Refused::TeamRole(needs.role())) } else { Ok(membership) }
    }
}

#[cfg(test)]
impl DeployCheck {
    /// The account by its command line.
    pub(crate) fn of(account: AccountId) -> Self {
        Self { actor: account, reach: Reach::Every, right: Right::Write }
    }
}
