//! The text of each mail, shared by the plain and HTML parts.

use std::fmt::Display;

use buddo_shared::model::secret::Secret;
use jiff::Timestamp;

use crate::domain::mailed_link::{ACCOUNT_CHANGE, INVITATION, VERIFICATION};
use crate::store::contract::MailKind;

const NOT_YOU: &str = "If this was not you, choose a new password at once (forgot password), \
                   and look through your sessions.";

/// A link that a mail carries.
pub(super) struct Button {
    /// The path it leads to; the token is appended as `?token=`.
    pub(super) path: &'static str,
    /// The text on it.
    pub(super) label: &'static str,
    pub(super) token: Secret,
}

pub(super) struct MailText {
    pub(super) subject: &'static str,
    /// Paragraphs before the link.
    pub(super) before: Vec<String>,
    pub(super) after: Vec<String>,
}

/// The path and label of the link in this kind of mail; `None`: it has no link.
pub(super) const fn link_of(kind: MailKind) -> Option<(&'static str, &'static str)> {
    match kind {
        MailKind::VerifyEmail => Some(("/verify-email", "Confirm my email address")),
        MailKind::ResetPassword => Some(("/reset-password", "Choose a new password")),
        MailKind::ChangeEmail => Some(("/confirm-email-change", "Confirm my new email address")),
        MailKind::Invitation => Some(("/invitation", "See the invitation")),
        _ => None,
    }
}

/// Who invites to what. No free text, which could be abused to mail strangers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Invited {
    /// Username of the inviter.
    pub(super) by: String,
    /// Short name of the organisation.
    pub(super) org: String,
    pub(super) role: &'static str,
}

/// The text of a mail. `at`: when the event it reports happened.
pub(super) fn text_of(kind: MailKind, at: Timestamp, invited: &Invited) -> MailText {
    let at = at.strftime("%Y-%m-%d at %H:%M UTC");
    let not_you = NOT_YOU;
    let (subject, before, after) = match kind {
        MailKind::VerifyEmail => (
            "Confirm your email address for Buddo",
            vec!["please confirm your email address for Buddo:".to_owned()],
            vec![format!(
                "The link works once, for {VERIFICATION}. If you did not make this account, \
                 ignore this mail."
            )],
        ),
        MailKind::ResetPassword => (
            "Choose a new password for Buddo",
            vec!["somebody, hopefully you, forgot the password of your account:".to_owned()],
            vec![
                format!(
                    "The link works once, for {ACCOUNT_CHANGE}. With the new password every \
                     session and token of your account ends."
                ),
                "If this was not you, ignore this mail: nothing has changed.".to_owned(),
            ],
        ),
        MailKind::ChangeEmail => (
            "Confirm your new email address for Buddo",
            vec!["please confirm that this is to be your account's email address:".to_owned()],
            vec![format!(
                "The link works once, for {ACCOUNT_CHANGE}. If you did not ask for this, ignore \
                 this mail: nothing has changed."
            )],
        ),
        MailKind::EmailChangeRequested => (
            "Your Buddo account is to get another email address",
            vec![format!("another email address was asked for, for your account, on {at}.")],
            vec![
                "It becomes the account's when the link that was mailed there is used.".to_owned(),
                not_you.to_owned(),
            ],
        ),
        MailKind::EmailChanged => (
            "The email address of your Buddo account was changed",
            vec![format!("the email address of your account was changed on {at}.")],
            vec![
                "If this was not you, answer this mail or write to the platform's support: \
                 this address no longer opens the account."
                    .to_owned(),
            ],
        ),
        MailKind::PasswordChanged => (
            "The password of your Buddo account was changed",
            vec![format!("the password of your account was changed on {at}.")],
            vec![not_you.to_owned()],
        ),
        MailKind::TotpEnabled => (
            "One-time codes are enabled for your Buddo account",
            vec![format!("one-time codes were enabled on {at}; a login takes one from now on.")],
            vec![
                "Keep the recovery codes in a safe place, apart from the device with the app."
                    .to_owned(),
                not_you.to_owned(),
            ],
        ),
        MailKind::TotpDisabled => (
            "One-time codes are disabled for your Buddo account",
            vec![format!("one-time codes were disabled on {at}; a login takes none from now on.")],
            vec![not_you.to_owned()],
        ),
        MailKind::RecoveryCodeUsed => (
            "A recovery code of your Buddo account was used",
            vec![format!("a recovery code stood in for a one-time code on {at}.")],
            vec![
                "If the device with your app is lost, disable one-time codes and enable them again."
                    .to_owned(),
                not_you.to_owned(),
            ],
        ),
        MailKind::Invitation | MailKind::ApiKeyMade => return of_teams(kind, &at, invited),
        MailKind::AccountDeleted => (
            "Your Buddo account is deleted",
            vec![format!(
                "your account was deleted on {at}. Its deployments are destroyed, and what was \
                 known of you is erased."
            )],
            vec!["This is the last mail about it.".to_owned()],
        ),
    };
    MailText { subject, before, after }
}

/// The mails about organisations and keys.
fn of_teams(kind: MailKind, at: &impl Display, invited: &Invited) -> MailText {
    let (subject, before, after) = if kind == MailKind::Invitation {
        (
            "You are invited to an organisation on Buddo",
            vec![
                format!(
                    "{} invites you to the organisation {} on Buddo, as {}.",
                    invited.by, invited.org, invited.role
                ),
                "Log in to the account with this email address, or make one with it, then open \
                 the link:"
                    .to_owned(),
            ],
            vec![format!(
                "The link works once, for {INVITATION}, and for this address alone. If you do \
                 not know who invites you, ignore this mail: nothing happens."
            )],
        )
    } else {
        (
            "An API key of your Buddo account was made",
            vec![format!("an API key was made with your account on {at}.")],
            vec![
                "It opens the deployments of a team of yours until it ends or is revoked \
                 (buddo keys list)."
                    .to_owned(),
                NOT_YOU.to_owned(),
            ],
        )
    };
    MailText { subject, before, after }
}
