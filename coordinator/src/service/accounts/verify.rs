//! Confirmation of the mail address.

use buddo_shared::model::id::AccountId;

use super::AccountError;
use crate::auth::token::{PlainToken, PlainTokenKind};
use crate::state::AppState;
use crate::store::contract::{AccountAct, MailKind};

/// Uses the token of a verification mail. It works once, for a limited time, and only for the address it
/// was sent to.
pub async fn verify_email(state: &AppState, token: &str) -> Result<(), AccountError> {
    let token = PlainToken::parse(PlainTokenKind::EmailVerification, token.trim());
    let hash = token.ok_or(AccountError::Link)?.hashed();
    let now = state.clock.now();
    let confirmed = state
        .store
        .write(move |tables| {
            let Some(link) = tables.take_email_token(&hash)? else { return Ok(false) };
            let account = tables.account(link.account)?;
            let current = account.is_some_and(|account| account.email.key() == link.email_key);
            let confirmed = current && now < link.expires_at;
            if confirmed {
                tables.confirm_email(link.account, now)?;
                tables.insert_account_act(link.account, AccountAct::EmailVerified, now, None)?;
            }
            // An expired link is used up as well: the transaction commits either way.
            Ok::<bool, AccountError>(confirmed)
        })
        .await?;
    if confirmed { Ok(()) } else { Err(AccountError::Link) }
}

/// Requests another verification mail. `false`: the address is already confirmed.
pub async fn send_verification(state: &AppState, id: AccountId) -> Result<bool, AccountError> {
    let now = state.clock.now();
    let queued = state
        .store
        .write(move |tables| {
            let account = tables.account(id)?.ok_or(AccountError::Void)?;
            if account.email_verified_at.is_some() {
                return Ok(false);
            }
            tables.queue_mail(id, MailKind::VerifyEmail, None, now)?;
            Ok::<bool, AccountError>(true)
        })
        .await?;
    state.mail_due.notify_one();
    Ok(queued)
}
