//! The queue of mails.

use buddo_shared::id::{AccountId, InvitationId};
use jiff::Timestamp;

use super::Result;
use crate::domain::identity::Email;

/// What a mail is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MailKind {
    /// A link that confirms the account's address.
    VerifyEmail,
    /// A link to choose a new password.
    ResetPassword,
    /// A link that confirms a new address, sent there.
    ChangeEmail,
    /// Tells the present address that another one was asked for.
    EmailChangeRequested,
    /// Tells the former address that it is the account's no more.
    EmailChanged,
    /// Tells that the password was changed.
    PasswordChanged,
    /// Tells that logins want a one-time code from now on.
    TotpEnabled,
    /// Tells that logins want none any more.
    TotpDisabled,
    /// Tells that a recovery code was used.
    RecoveryCodeUsed,
    /// Tells that the account is deleted.
    AccountDeleted,
    /// A link that lets its reader join an organisation. The account is the one that invites.
    Invitation,
    /// Tells that an API key was made.
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

/// A text that names no kind of mail.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no kind of mail")]
pub struct UnknownMail(String);

impl std::str::FromStr for MailKind {
    type Err = UnknownMail;

    fn from_str(text: &str) -> std::result::Result<Self, UnknownMail> {
        let found = Self::ALL.into_iter().find(|kind| kind.as_str() == text);
        found.ok_or_else(|| UnknownMail(text.to_owned()))
    }
}

/// A mail that is to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueuedMail {
    /// Its number in the queue.
    pub seq: i64,
    pub account: AccountId,
    pub kind: MailKind,
    /// To whom; `None`: to the account's address at the time of sending.
    pub recipient: Option<Email>,
    /// The invitation that it is about.
    pub invitation: Option<InvitationId>,
    /// How often it was tried.
    pub attempts: u32,
    /// When it was asked for.
    pub created_at: Timestamp,
}

/// Access to the queue of mails.
pub trait MailQueue {
    /// Asks for a mail, at once; the same one that already waits is moved up instead.
    fn queue_mail(
        &mut self,
        account: AccountId,
        kind: MailKind,
        recipient: Option<&Email>,
        at: Timestamp,
    ) -> Result<()>;
    /// Asks for the mail of an invitation, at once.
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
    /// Notes that a try failed, and when to try again.
    fn postpone_mail(&mut self, seq: i64, due_at: Timestamp) -> Result<()>;
    /// Takes a mail off the queue.
    fn drop_mail(&mut self, seq: i64) -> Result<()>;
    /// Takes the account's mails of a kind off the queue.
    fn drop_mails(&mut self, account: AccountId, kind: MailKind) -> Result<()>;
}
