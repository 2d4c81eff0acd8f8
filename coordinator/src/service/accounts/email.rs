//! Change of the mail address: requested with the password, confirmed by a link sent to the new
//! address.

use super::AccountError;
use super::proof::{self, Repeated};
use crate::auth::session::Session;
use crate::auth::token::{PlainToken, PlainTokenKind};
use crate::domain::identity::Email;
use crate::state::AppState;
use crate::store::contract::{AccountAct, MailKind, Purpose};

const TAKEN: &str = "already has an account; use another address";

/// Requests a change of address, which takes effect when the link mailed there is used. The current
/// address is notified at once, and again then.
pub async fn change_email(
    state: &AppState,
    session: Session,
    repeated: Repeated,
    email: &str,
) -> Result<(), AccountError> {
    let account = session.account;
    let new = Email::parse(email).map_err(|error| AccountError::field("/email", error))?;
    if new.key() == account.email.key() {
        return Err(AccountError::field("/email", "is already the account's address"));
    }
    proof::again(state, &account, repeated).await?;
    let now = state.clock.now();
    state
        .store
        .write(move |tables| {
            if tables.account_by_email(&new)?.is_some() {
                return Err(AccountError::field("/email", TAKEN));
            }
            let id = account.id;
            // Only the last requested address can become the account's.
            tables.drop_links(id, Some(Purpose::ChangeEmail))?;
            tables.drop_mails(id, MailKind::ChangeEmail)?;
            tables.queue_mail(id, MailKind::ChangeEmail, Some(&new), now)?;
            let present = Some(&account.email);
            tables.queue_mail(id, MailKind::EmailChangeRequested, present, now)?;
            tables.insert_account_act(id, AccountAct::EmailChangeRequested, now, None)?;
            Ok(())
        })
        .await?;
    state.mail_due.notify_one();
    Ok(())
}

/// Uses the link mailed to the new address.
pub async fn confirm_email_change(state: &AppState, token: &str) -> Result<(), AccountError> {
    let token = PlainToken::parse(PlainTokenKind::EmailChange, token.trim());
    let hash = token.ok_or(AccountError::SpentLink)?.hashed();
    let now = state.clock.now();
    state
        .store
        .write(move |tables| {
            let link = tables.link(&hash, Purpose::ChangeEmail)?;
            let link = link.filter(|link| now < link.expires_at).ok_or(AccountError::SpentLink)?;
            let account = tables.account(link.account)?.ok_or(AccountError::SpentLink)?;
            if tables.account_by_email(&link.email)?.is_some() {
                return Err(AccountError::field("/email", TAKEN));
            }
            let id = account.id;
            tables.set_email(id, &link.email, now)?;
            // Links to the former address are void: whoever reads mail there must not use them any more.
            tables.drop_links(id, None)?;
            tables.drop_mails(id, MailKind::ResetPassword)?;
            tables.drop_mails(id, MailKind::VerifyEmail)?;
            tables.queue_mail(id, MailKind::EmailChanged, Some(&account.email), now)?;
            tables.insert_account_act(id, AccountAct::EmailChanged, now, None)?;
            Ok(())
        })
        .await?;
    state.mail_due.notify_one();
    Ok(())
}
