//! The queue of mails.

use buddo_shared::model::id::{AccountId, InvitationId};
use jiff::Timestamp;

use super::Result;
use crate::domain::identity::Email;

/// Kind of a mail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MailKind {
    /// A link that confirms the account's address.
    VerifyEmail,
    /// A link to choose a new password.
    ResetPassword,
    /// A link that confirms a new address, sent there.
    ChangeEmail,
    /// Notifies the current address that a change was requested.
    EmailChangeRequested,
    /// Notifies the former address that it no longer belongs to the account.
    EmailChanged,
    /// Notifies of a changed password.
    PasswordChanged,
    /// Notifies that logins now require a one-time code.
    TotpEnabled,
    /// Notifies that logins no longer require a one-time code.
    TotpDisabled,
    /// Notifies of a used recovery code.
    RecoveryCodeUsed,
    /// Notifies of the account's deletion.
    AccountDeleted,
    /// A link to join an organisation. The account is the inviting one.
    Invitation,
    /// Notifies of a new API key.
    ApiKeyMade,
}

impl MailKind {
    pub const ALL: [Self; 12] = [
        Self::VerifyEmail,
        Self::ResetPassword,
        Self::ChangeEmail,
        Self::EmailChangeRequested,
        Self::EmailChanged,
        Self::PasswordChanged,
        Self::TotpEnabled,
        Self::TotpDisabled,
        Self::RecoveryCodeUsed,
        Self::AccountDeleted,
        Self::Invitation,
        Self::ApiKeyMade,
    ];

    /// The word in the store.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::VerifyEmail => "verify_email",
            Self::ResetPassword => "reset_password",
            Self::ChangeEmail => "change_email",
            Self::EmailChangeRequested => "email_change_requested",
            Self::EmailChanged => "email_changed",
            Self::PasswordChanged => "password_changed",
            Self::TotpEnabled => "totp_enabled",
            Self::TotpDisabled => "totp_disabled",
            Self::RecoveryCodeUsed => "recovery_code_used",
            Self::AccountDeleted => "account_deleted",
            Self::Invitation => "invitation",
            Self::ApiKeyMade => "api_key_made",
        }
    }
}

/// A text that is not a kind of mail.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a kind of mail")]
pub struct UnknownMail(String);

impl std::str::FromStr for MailKind {
    type Err = UnknownMail;

    fn from_str(text: &str) -> std::result::Result<Self, UnknownMail> {
        let found = Self::ALL.into_iter().find(|kind| kind.as_str() == text);
        found.ok_or_else(|| UnknownMail(text.to_owned()))
    }
}

/// A queued mail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueuedMail {
    /// Its number in the queue.
    pub seq: i64,
    pub account: AccountId,
    pub kind: MailKind,
    /// The recipient; `None`: the account's address at the time of sending.
    pub recipient: Option<Email>,
    /// The invitation that it contains.
    pub invitation: Option<InvitationId>,
    /// Number of failed attempts.
    pub attempts: u32,
    /// When it was queued.
    pub created_at: Timestamp,
}

/// Access to the queue of mails.
pub trait MailQueue {
    /// Queues a mail, due at once; if the same one is already waiting, it is moved up instead.
    fn queue_mail(
        &mut self,
        account: AccountId,
        kind: MailKind,
        recipient: Option<&Email>,
        at: Timestamp,
    ) -> Result<()>;
    /// Queues the mail of an invitation, due at once.
    fn queue_invitation(
        &mut self,
        inviter: AccountId,
        to: &Email,
        invitation: InvitationId,
        at: Timestamp,
    ) -> Result<()>;
    /// The mail that has been due the longest.
    fn due_mail(&self, now: Timestamp) -> Result<Option<QueuedMail>>;
    /// When the next mail is due.
    fn next_mail_due(&self) -> Result<Option<Timestamp>>;
    /// Records a failed attempt, and when to retry.
    fn postpone_mail(&mut self, seq: i64, due_at: Timestamp) -> Result<()>;
    /// Removes a mail from the queue.
    fn drop_mail(&mut self, seq: i64) -> Result<()>;
    /// Removes the account's mails of a kind from the queue.
    fn drop_mails(&mut self, account: AccountId, kind: MailKind) -> Result<()>;
}
