//! Why a use case on organisations, teams and keys refuses.

use buddo_shared::api::problem::FieldError;

use crate::auth::access::Refused;
use crate::store::StoreError;

/// A refusal. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum TeamError {
    /// Fields are wrong; every one is named.
    #[error("the request has invalid fields")]
    Invalid(Vec<FieldError>),
    /// There is none, or who asks may not know of it.
    #[error("there is no such {0}, or you are not in it")]
    NotFound(&'static str),
    /// The role does not allow it.
    #[error("{0}")]
    Role(String),
    /// It wants a confirmed address.
    #[error("the account's email address is not verified; open the link in the verification mail")]
    EmailUnverified,
    /// The invitation is for another address.
    #[error(
        "the invitation was sent to another address; log in to the account with that address, or \
         ask for an invitation to yours"
    )]
    OtherAddress,
    /// The link of a mail was used, is too old, was taken back, or never was one.
    #[error(
        "the invitation was used already, was taken back, is older than 7 days, or its link is \
         incomplete; ask for another one"
    )]
    SpentInvitation,
    /// As many as there may be.
    #[error("there can be at most {limit} {of}; remove one that is not needed")]
    Limit { limit: u32, of: &'static str },
    /// Something else has to go or change first.
    #[error("{0}")]
    InUse(&'static str),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl TeamError {
    /// One field is wrong.
    pub(super) fn field(pointer: &'static str, detail: impl ToString) -> Self {
        Self::Invalid(vec![FieldError::new(pointer, detail)])
    }

    /// For `map_err`: what a check refuses about a `what`.
    pub(super) fn refused(what: &'static str) -> impl FnOnce(Refused) -> Self {
        move |refused| match refused {
            Refused::NotFound | Refused::NotYours => Self::NotFound(what),
            Refused::Store(error) => Self::Store(error),
            refused @ (Refused::TeamRole(_) | Refused::OrgRole(_)) => {
                Self::Role(refused.to_string())
            }
        }
    }
}
