//! What OAuth clients may read of an account.

use buddo_shared::model::id::AccountId;

use super::Principal;
use crate::domain::identity::Scope;

/// Proof that an OAuth client may act for an account within a scope. Only [`admit`](Self::admit)
/// makes one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientCheck {
    account: AccountId,
}

impl ClientCheck {
    /// Checks that `principal` is an OAuth client with `scope`; the error is the missing scope.
    /// `None`: it is not one.
    pub(super) fn admit(principal: &Principal, scope: Scope) -> Option<Result<Self, &'static str>> {
        let Principal::Client { account, scopes, .. } = principal else { return None };
        let has = scopes.contains(scope);
        Some(if has { Ok(Self { account: *account }) } else { Err(scope.as_str()) })
    }

    /// The account that the client acts for.
    pub fn account(self) -> AccountId {
        self.account
    }
}
