//! Who administers the platform.

use buddo_shared::model::id::AccountId;

use super::{Denied, Principal};
use crate::auth::session::Session;
use crate::store::contract::Account;
use crate::store::{StoreError, Tables};

/// Proof that an administrator acts, by a login. Only [`admit`](Self::admit) makes one.
#[derive(Debug, Clone)]
pub struct AdminCheck(Session);

impl AdminCheck {
    /// Checks that `principal` is an administrator's login. A browser cookie is not enough: the
    /// browser also sends it with requests that other sites trigger (CSRF).
    pub(super) fn admit(principal: Principal) -> Result<Self, Denied> {
        match principal {
            Principal::Login(session) if may_administer(&session.account) => Ok(Self(session)),
            Principal::Login(_) => Err(Denied::NotAdmin),
            Principal::Browser(_) | Principal::Client { .. } | Principal::Key(_) => {
                Err(Denied::WrongKind)
            }
        }
    }

    /// The session that acts.
    pub fn session(&self) -> &Session {
        &self.0
    }

    pub fn into_session(self) -> Session {
        self.0
    }
}

/// Whether an admitted account is still an administrator: checked in the transaction that acts.
pub fn administers(tables: &dyn Tables, account: AccountId) -> Result<bool, StoreError> {
    Ok(tables.account(account)?.is_some_and(|account| may_administer(&account)))
}

fn may_administer(account: &Account) -> bool {
    account.is_admin && account.suspended.is_none()
}
