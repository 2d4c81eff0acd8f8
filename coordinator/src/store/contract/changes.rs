//! Changes to an account: mailed links, password, address, deletion, and the log of these.

use buddo_shared::model::id::AccountId;
use jiff::Timestamp;
use serde_json::Value;

use super::Result;
use crate::domain::identity::{Email, HashedToken, StoredHash};

/// Purpose of a mailed link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Choosing a new password.
    ResetPassword,
    /// Confirming a new address.
    ChangeEmail,
}

/// A mailed link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MailedLink {
    /// Hash of its token.
    pub hash: HashedToken,
    pub account: AccountId,
    pub purpose: Purpose,
    /// The address it was sent to.
    pub email: Email,
    /// When it was made.
    pub created_at: Timestamp,
    pub expires_at: Timestamp,
}

/// An act on an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AccountAct {
    Registered,
    /// Its address was confirmed.
    EmailVerified,
    LoggedIn,
    /// A login was ended.
    SessionRevoked,
    /// All other logins were ended.
    OtherSessionsRevoked,
    /// A password reset link was requested.
    PasswordResetRequested,
    /// A new password was set by such a link.
    PasswordReset,
    /// The password was changed.
    PasswordChanged,
    /// A change of address was requested.
    EmailChangeRequested,
    /// The address was changed.
    EmailChanged,
    /// Logins require a one-time code.
    TotpEnabled,
    /// Logins no longer require a one-time code.
    TotpDisabled,
    /// A recovery code was used.
    RecoveryCodeUsed,
    /// New recovery codes were made.
    RecoveryCodesReplaced,
    /// It made an API key.
    ApiKeyMade,
    /// A key that it made was ended.
    ApiKeyRevoked,
    /// Wrong passwords or codes were tried; the details say how many.
    LoginFailed,
    /// An administrator suspended it.
    Suspended,
    /// An administrator lifted the suspension.
    Resumed,
    /// It became an administrator.
    Promoted,
    /// It is no longer an administrator.
    Demoted,
    /// An administrator removed its one-time codes because its owner had lost them.
    TotpCleared,
    Deleted,
}

impl AccountAct {
    /// The word in the log.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Registered => "registered",
            Self::EmailVerified => "email_verified",
            Self::LoggedIn => "logged_in",
            Self::SessionRevoked => "session_revoked",
            Self::OtherSessionsRevoked => "other_sessions_revoked",
            Self::PasswordResetRequested => "password_reset_requested",
            Self::PasswordReset => "password_reset",
            Self::PasswordChanged => "password_changed",
            Self::EmailChangeRequested => "email_change_requested",
            Self::EmailChanged => "email_changed",
            Self::TotpEnabled => "totp_enabled",
            Self::TotpDisabled => "totp_disabled",
            Self::RecoveryCodeUsed => "recovery_code_used",
            Self::RecoveryCodesReplaced => "recovery_codes_replaced",
            Self::ApiKeyMade => "api_key_made",
            Self::ApiKeyRevoked => "api_key_revoked",
            Self::LoginFailed => "login_failed",
            Self::Suspended => "suspended",
            Self::Resumed => "resumed",
            Self::Promoted => "promoted",
            Self::Demoted => "demoted",
            Self::TotpCleared => "totp_cleared",
            Self::Deleted => "deleted",
        }
    }
}

/// An entry of an account's log.
#[derive(Debug, Clone, PartialEq)]
pub struct AccountActRow {
    pub action: String,
    pub at: Timestamp,
    /// Ids of what it concerned.
    pub details: Option<Value>,
}

/// Access to what changes an account.
pub trait Changes {
    /// Records a request to reset the password of [`Email::key`], whether or not an account has it.
    fn request_reset(&mut self, email_key: &str, at: Timestamp) -> Result<()>;
    /// The oldest of these requests, at most 100.
    fn reset_requests(&self) -> Result<Vec<String>>;
    /// Deletes such a request.
    fn drop_reset_request(&mut self, email_key: &str) -> Result<()>;
    fn insert_link(&mut self, link: &MailedLink) -> Result<()>;
    /// The link with this hash.
    fn link(&self, hash: &HashedToken, purpose: Purpose) -> Result<Option<MailedLink>>;
    /// How many links of the account were made since then.
    fn links_since(&self, account: AccountId, purpose: Purpose, since: Timestamp) -> Result<u32>;
    /// Voids the account's links of `purpose`, or of every purpose.
    fn drop_links(&mut self, account: AccountId, purpose: Option<Purpose>) -> Result<()>;
    /// Deletes links that expired by `now`, at most `most`; returns how many.
    fn purge_links(&mut self, now: Timestamp, most: u32) -> Result<usize>;
    /// Sets the account's password.
    fn set_password(&mut self, account: AccountId, password: &StoredHash) -> Result<()>;
    /// Sets the account's address, confirmed.
    fn set_email(&mut self, account: AccountId, email: &Email, at: Timestamp) -> Result<()>;
    /// How many accounts were made with this account's referral code.
    fn referrals_of(&self, account: AccountId) -> Result<i64>;
    /// Erases personal data: address, name, password, codes, apps, and the names in its
    /// deployments, which are destroyed. Its id and number are kept, and refer to nobody.
    fn erase_account(&mut self, account: AccountId, at: Timestamp) -> Result<()>;
    /// Adds to the account's log. `details`: ids only.
    fn insert_account_act(
        &mut self,
        account: AccountId,
        act: AccountAct,
        at: Timestamp,
        details: Option<&Value>,
    ) -> Result<()>;
    /// The newest `limit` entries of the account's log, newest first.
    fn account_acts(&self, account: AccountId, limit: u32) -> Result<Vec<AccountActRow>>;
}
