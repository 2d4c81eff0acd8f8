//! Authorization for an answer that outlasts its request.

use super::{Credential, DeployCheck, Principal, Right, recognise};
use crate::auth::authentication::Authentication;

/// What a request to a deploy endpoint was admitted with, kept so that it can be rechecked while
/// the answer goes on. Only [`admit`](Self::admit) makes one, initially and at each recheck.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamAuthorization {
    check: DeployCheck,
    credential: Credential,
    right: Right,
}

impl StreamAuthorization {
    /// As [`DeployCheck::admit`].
    pub(super) fn admit(principal: &Principal, right: Right) -> Option<Result<Self, &'static str>> {
        let (check, credential) = (DeployCheck::admit(principal, right)?, principal.credential()?);
        Some(check.map(|check| Self { check, credential, right }))
    }

    /// What it allows. Ownership of the deployment is checked against this, each time.
    pub fn check(self) -> DeployCheck {
        self.check
    }

    /// Whether the same request would still be admitted, as the same principal. `false` if that
    /// cannot be looked up.
    pub async fn holds(self, auth: &Authentication) -> bool {
        let Ok(principal) = recognise(auth, self.credential).await else { return false };
        matches!(Self::admit(&principal, self.right), Some(Ok(now)) if now == self)
    }
}
