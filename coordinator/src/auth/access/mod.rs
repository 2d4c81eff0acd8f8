//! Who may do what: the one place where that is decided.
//!
//! ```text
//! request ─ http::principal ─► what it shows ─ identify ─► Principal ─ policy ─► a check ─► use case
//!             (headers)                        (store)                (the route's rule)     │
//!                                                        role in the team, in its transaction ◄┘
//! ```
//!
//! [`policy`] says for each route what a request has to show; a route that it does not name serves
//! nobody. What comes of that is a value ([`DeployCheck`], [`MemberCheck`],
//! [`Session`](crate::auth::session::Session)) that nothing outside can make, and that use
//! cases take instead of an account's id. What depends on the object (whose deployment, which role
//! in which team) is asked of that value, in the transaction that acts on the answer, so that
//! nobody acts on a role that was taken back meanwhile. An answer that goes on after its request
//! holds a [`StreamAuthorization`], and asks all of it again before each part.

mod admin;
mod app;
mod deploy;
mod identify;
mod member;
mod pass;
pub mod policy;

pub use admin::{AdminCheck, administers};
pub use app::AppCheck;
pub use deploy::{DeployCheck, DeployTarget};
use identify::{Credential, recognise};
pub use identify::{KeyHolder, Presented, Principal, Unknown, identify};
pub use member::{MemberCheck, OrgGrant, TeamGrant};
pub use pass::StreamAuthorization;
use policy::Denied;

use buddo_shared::id::{AccountId, TeamId};

use crate::domain::identity::{OrgRole, TeamRole};
use crate::store::StoreError;

/// What a request wants to do. Acting includes looking.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Right {
    Read,
    Write,
}

impl Right {
    /// The role in a team that it takes.
    const fn role(self) -> TeamRole {
        match self {
            Self::Read => TeamRole::Viewer,
            Self::Write => TeamRole::Developer,
        }
    }
}

/// Why somebody may not do something to an object.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// There is no such object, or who asks may not know of it.
    #[error("there is no such thing")]
    NotFound,
    /// It is somebody else's.
    #[error("it belongs to somebody else")]
    NotYours,
    /// The role in the team does not allow it.
    #[error("your role in the team does not allow this; it takes the role {0}")]
    TeamRole(TeamRole),
    /// The role in the organisation does not allow it.
    #[error("your role in the organisation does not allow this; it takes the role {0}")]
    OrgRole(OrgRole),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The team that an account has to itself: it bears the account's id.
pub fn own_team(account: AccountId) -> TeamId {
    TeamId::new(*account.as_uuid())
}
