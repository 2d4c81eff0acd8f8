//! Why a use case on accounts refuses.

use buddo_shared::api::problem::FieldError;

use crate::password::HashError;
use crate::store::StoreError;
use crate::token::jwt::JwtError;

/// A refusal. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum AccountError {
    /// Fields are wrong; every one is named.
    #[error("the request has invalid fields")]
    Invalid(Vec<FieldError>),
    /// No account has this address and this password.
    #[error("email or password is wrong; check both and try again")]
    Credentials,
    /// The login was made void, or its account is gone.
    #[error("the login is no longer valid; log in again")]
    Void,
    /// The link of a verification mail was used, is too old, or never was one.
    #[error(
        "the verification link was used already, is older than 24 hours, or is incomplete; \
         ask for a new one with POST /api/auth/send-verification"
    )]
    Link,
    /// The password could not be hashed or compared.
    #[error("cannot check the password")]
    Password(#[from] HashError),
    /// The login's token could not be made.
    #[error("cannot make a login")]
    Token(#[from] JwtError),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}
