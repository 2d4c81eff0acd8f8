//! Errors of the use cases on organisations, teams and keys.

use crate::domain::field_error::FieldError;

use crate::auth::access::Refused;
use crate::domain::mailed_link::INVITATION;
use crate::store::StoreError;

/// A refusal. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum TeamError {
    /// Some fields are invalid; each is named.
    #[error("the request has invalid fields")]
    Invalid(Vec<FieldError>),
    /// It does not exist, or the caller may not know of it.
    #[error("there is no such {0}, or you are not in it")]
    NotFound(&'static str),
    /// The role is not sufficient.
    #[error("{0}")]
    Role(String),
    /// A confirmed address is required.
    #[error("the account's email address is not verified; open the link in the verification mail")]
    EmailUnverified,
    /// The invitation is for another address.
    #[error(
        "the invitation was sent to another address; log in to the account with that address, or \
         ask for an invitation to yours"
    )]
    OtherAddress,
    /// The link of a mail was used, is too old, was revoked, or is invalid.
    #[error(
        "the invitation was already used, was revoked, is older than {INVITATION}, or its link is \
         incomplete; ask for another one"
    )]
    SpentInvitation,
    /// The limit is reached.
    #[error("there can be at most {limit} {of}; remove one that is not needed")]
    Limit { limit: u32, of: &'static str },
    /// Something else must be changed or removed first.
    #[error("{0}")]
    InUse(&'static str),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl TeamError {
    /// One field is invalid.
    pub(super) fn field(pointer: &'static str, detail: impl ToString) -> Self {
        Self::Invalid(vec![FieldError::new(pointer, detail)])
    }

    /// For `map_err`: the refusal of a check on a `what`.
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
