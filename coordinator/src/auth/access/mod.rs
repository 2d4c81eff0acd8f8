//! Access control: the only place where it is decided who may do what.
//!
//! ```text
//! request ─ api::extract ─► Presented ─ identify ─► Principal ─ policy ─► check ─► use case
//!             (headers)                  (store)           (the route's rule)           │
//!                                           role in the team, in its transaction ◄──────┘
//! ```
//!
//! [`policy`] says for each route what a request has to show; a route that it does not list serves
//! nobody. The result is a value ([`DeployCheck`], [`MemberCheck`],
//! [`Session`](crate::auth::session::Session)) that cannot be made elsewhere, and that use cases
//! take instead of an account id. What depends on the object (whose deployment, which role in which
//! team) is asked of that value in the same transaction that acts on the answer, so that a role
//! revoked meanwhile does not count. An answer that outlasts its request holds a
//! [`StreamAuthorization`], and repeats all checks before each part.

mod admin;
mod client;
mod deploy;
mod identify;
mod member;
pub mod policy;
mod stream_authorization;

pub use admin::{AdminCheck, administers};
pub use client::ClientCheck;
pub use deploy::{DeployCheck, DeployTarget};
use identify::{Credential, recognise};
pub use identify::{KeyHolder, Presented, Principal, Unknown, identify};
pub use member::{MemberCheck, OrgGrant, TeamGrant};
use policy::Denied;
pub use stream_authorization::StreamAuthorization;

use buddo_shared::model::id::{AccountId, TeamId};

use crate::domain::identity::{OrgRole, TeamRole};
use crate::store::StoreError;

/// What a request wants to do. Reading counts as acting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Right {
    Read,
    Write,
}

impl Right {
    /// The team role that it requires.
    const fn role(self) -> TeamRole {
        match self {
            Self::Read => TeamRole::Viewer,
            Self::Write => TeamRole::Developer,
        }
    }
}

/// Why an action on an object is refused.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// The object does not exist, or the principal may not know that it does.
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

/// An account's own team, which has the same id as the account.
pub fn own_team(account: AccountId) -> TeamId {
    TeamId::new(*account.as_uuid())
}
