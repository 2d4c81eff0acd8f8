//! Who administers the platform.

use super::{Denied, Principal};
use crate::service::accounts::Session;

/// That an administrator acts, by a login. Only [`admit`](Self::admit) makes one.
#[derive(Debug, Clone)]
pub struct AdminCheck(Session);

impl AdminCheck {
    /// Whether `principal` is an administrator's login. The cookie of a browser is not enough: it
    /// goes along with what others make the browser do.
    pub(super) fn admit(principal: Principal) -> Result<Self, Denied> {
        match principal {
            Principal::Login(session) if session.account.is_admin => Ok(Self(session)),
            Principal::Login(_) => Err(Denied::NotAdmin),
            Principal::Browser(_) | Principal::App { .. } | Principal::Key(_) => {
                Err(Denied::WrongKind)
            }
        }
    }

    /// The account that acts.
    pub fn session(&self) -> &Session {
        &self.0
    }

    /// The same, owned.
    pub fn into_session(self) -> Session {
        self.0
    }
}
