//! Errors of the account use cases.

use std::time::Duration;

use crate::domain::field_error::FieldError;

use crate::auth::guesses::TooSoon;
use crate::auth::password::{ChooseError, HashError};
use crate::auth::session::{SessionError, suspended};
use crate::auth::token::jwt::JwtError;
use crate::auth::totp::TotpError;
use crate::crypto::vault::VaultError;
use crate::domain::mailed_link::{ACCOUNT_CHANGE, VERIFICATION};
use crate::service::deployments::DeployError;
use crate::service::teams::TeamError;
use crate::store::StoreError;

/// A refusal. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum AccountError {
    /// Some fields are invalid; each is named.
    #[error("the request has invalid fields")]
    Invalid(Vec<FieldError>),
    /// No account has this address and this password.
    #[error("email or password is wrong; check both and try again")]
    Credentials,
    /// The password is right, and the account requires a one-time code as well.
    #[error(
        "the account wants a one-time code; send the app's code or a recovery code as totp_code"
    )]
    TotpRequired,
    /// The one-time code is wrong, too old, or already used.
    #[error("the one-time code is wrong or was used; each works once: wait for the app's next one")]
    TotpCode,
    /// The repeated password is wrong.
    #[error("the password is wrong; type the account's current one")]
    Reauthentication,
    /// The repeated password is right, and a one-time code is required as well.
    #[error("the account wants a one-time code for this; send it as totp_code")]
    CodeMissing,
    /// The repeated one-time code is wrong, too old, or already used.
    #[error("the one-time code is wrong or was used; wait for the app's next one")]
    CodeWrong,
    /// Too many wrong passwords or codes in a row.
    #[error("too many wrong tries; wait {} seconds, then try again", seconds(*.0))]
    TooSoon(Duration),
    /// The login was revoked, or its account is gone.
    #[error("the login is no longer valid; log in again")]
    Void,
    /// An administrator suspended the account.
    #[error("{}", suspended(.0.as_deref()))]
    Suspended(Option<String>),
    /// The link of a verification mail was used, is too old, or is invalid.
    #[error(
        "the verification link was already used, is older than {VERIFICATION}, or is incomplete; \
         ask for a new one with POST /api/auth/send-verification"
    )]
    Link,
    /// Another mailed link was used, is too old, was replaced, or is invalid.
    #[error(
        "the link was already used, is older than {ACCOUNT_CHANGE}, or is incomplete; ask for a \
         new one"
    )]
    SpentLink,
    /// A confirmed address is required.
    #[error("the account's email address is not verified; open the link in the verification mail")]
    EmailUnverified,
    /// A second factor already exists.
    #[error("one-time codes are already enabled; disable them first")]
    TotpEnabled,
    /// There is no second factor, or its enrolment was not started.
    #[error("one-time codes are not enabled; begin with POST /api/auth/totp/enroll")]
    TotpMissing,
    /// The account has no such login.
    #[error("there is no such session; GET /api/auth/sessions lists them")]
    NoSession,
    /// The password could not be hashed or verified.
    #[error("cannot check the password")]
    Password(#[from] HashError),
    /// The login's token could not be signed.
    #[error("cannot make a login")]
    Token(#[from] JwtError),
    /// The stored TOTP secret cannot be read.
    #[error("cannot read the secret of one-time codes")]
    Vault(#[from] VaultError),
    /// The TOTP secret cannot be used.
    #[error("cannot check one-time codes")]
    Totp(#[from] TotpError),
    /// The account's deployments could not be destroyed.
    #[error("cannot destroy the account's deployments")]
    Deployments(#[from] DeployError),
    /// The account cannot leave its organisations.
    #[error(transparent)]
    Teams(#[from] TeamError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl AccountError {
    /// For `map_err`: a new password, at `pointer` in the request, was refused.
    pub(super) fn chosen(pointer: &'static str) -> impl FnOnce(ChooseError) -> Self {
        move |error| match error {
            ChooseError::Rule(rule) => Self::field(pointer, rule),
            ChooseError::Hash(error) => Self::Password(error),
        }
    }

    /// One field is invalid.
    pub(super) fn field(pointer: &'static str, detail: impl ToString) -> Self {
        Self::Invalid(vec![FieldError::new(pointer, detail)])
    }
}

impl From<SessionError> for AccountError {
    fn from(error: SessionError) -> Self {
        match error {
            SessionError::Void => Self::Void,
            SessionError::Suspended(reason) => Self::Suspended(reason),
            SessionError::Token(error) => Self::Token(error),
            SessionError::Store(error) => Self::Store(error),
        }
    }
}

impl From<TooSoon> for AccountError {
    fn from(TooSoon(wait): TooSoon) -> Self {
        Self::TooSoon(wait)
    }
}

/// Whole seconds, rounded up, so that waiting that long is enough.
pub(crate) fn seconds(wait: Duration) -> u64 {
    wait.as_secs() + u64::from(wait.subsec_nanos() > 0)
}
