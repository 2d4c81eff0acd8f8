//! What connected apps may read of an account.

use buddo_shared::model::id::AccountId;

use super::Principal;
use crate::domain::identity::Scope;

/// Proof that an app may act for an account within a scope. Only [`admit`](Self::admit) makes one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AppCheck {
    account: AccountId,
}

impl AppCheck {
    /// Checks that `principal` is an app with `scope`; the error is the missing scope. `None`: it
    /// is not an app.
    pub(super) fn admit(principal: &Principal, scope: Scope) -> Option<Result<Self, &'static str>> {
        let Principal::App { account, scopes, .. } = principal else { return None };
        let has = scopes.contains(scope);
        Some(if has { Ok(Self { account: *account }) } else { Err(scope.as_str()) })
    }

    /// The account that the app acts for.
    pub fn account(self) -> AccountId {
        self.account
    }
}
