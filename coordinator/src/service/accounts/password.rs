//! A new password: by a mailed link if it was forgotten, or with the old one.
//!
//! ```text
//! forgot ─► reset_requests (the same row for known and unknown) ─ 200, always
//!                │ the mail task: admit
//!                ▼
//!           the account's mail, 3 an hour ─► a link ─► reset: every login and token ends
//! ```

use buddo_shared::model::id::AccountId;
use buddo_shared::model::secret::Secret;
use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use super::proof::{self, Repeated};
use super::{AccountError, hints};
use crate::auth::password::Password;
use crate::auth::session::Session;
use crate::auth::token::{PlainToken, PlainTokenKind};
use crate::domain::identity::Email;
use crate::state::AppState;
use crate::store::contract::{Account, AccountAct, MailKind, MailedLink, Purpose};
use crate::store::{StoreError, Tables};

/// Maximum mails with a link per account within [`SPAN`].
const MAILS: u32 = 3;
const SPAN: SignedDuration = SignedDuration::from_hours(1);

/// Records a request for a password reset. Neither the answer nor its timing shows whether the
/// address has an account.
pub async fn forgot_password(state: &AppState, email: &str) -> Result<(), AccountError> {
    // An invalid address has no account, and gets the same answer.
    let key = Email::parse(email).map_or_else(|_| String::from("-"), |email| email.key());
    let now = state.clock.now();
    let noted: Result<(), StoreError> =
        state.store.write(move |tables| tables.request_reset(&key, now)).await;
    noted?;
    state.mail_due.notify_one();
    Ok(())
}

/// Turns recorded requests into mails, for addresses that have an account.
pub async fn admit_requests(state: &AppState) -> Result<(), StoreError> {
    loop {
        let waiting: Vec<String> = state.store.read(|tables| tables.reset_requests()).await?;
        if waiting.is_empty() {
            return Ok(());
        }
        let now = state.clock.now();
        let admitted: Result<(), StoreError> =
            state.store.write(move |tables| admit(tables, &waiting, now)).await;
        admitted?;
    }
}

fn admit(tables: &mut dyn Tables, waiting: &[String], now: Timestamp) -> Result<(), StoreError> {
    for key in waiting {
        tables.drop_reset_request(key)?;
        let Ok(email) = Email::parse(key) else { continue };
        let Some(account) = tables.account_by_email(&email)? else { continue };
        if tables.links_since(account.id, Purpose::ResetPassword, now - SPAN)? >= MAILS {
            continue;
        }
        tables.queue_mail(account.id, MailKind::ResetPassword, None, now)?;
        let act = AccountAct::PasswordResetRequested;
        tables.insert_account_act(account.id, act, now, None)?;
    }
    Ok(())
}

/// Sets a new password by a mailed link. All logins, browser sessions and tokens end, and all other
/// links become void. A second factor is kept.
pub async fn reset_password(
    state: &AppState,
    token: &str,
    password: Secret,
) -> Result<(), AccountError> {
    let token = PlainToken::parse(PlainTokenKind::PasswordReset, token.trim());
    let hash = token.ok_or(AccountError::SpentLink)?.hashed();
    let now = state.clock.now();
    let found: Result<Option<Account>, AccountError> = state
        .store
        .read(move |tables| {
            holder(tables.link(&hash, Purpose::ResetPassword)?, now, |id| tables.account(id))
        })
        .await;
    let account = found?.ok_or(AccountError::SpentLink)?;
    // A refused password does not use up the link.
    let password = Password::parse(password);
    let password = password.map_err(|rule| AccountError::field("/password", rule))?;
    let hashed = state.auth.hasher.choose(password, hints(&account.email, &account.username)).await;
    let hashed = hashed.map_err(AccountError::chosen("/password"))?;
    let account = state
        .store
        .write(move |tables| {
            // The same link may arrive twice concurrently.
            let link = tables.link(&hash, Purpose::ResetPassword)?;
            let account = holder(link, now, |id| tables.account(id))?;
            let account = account.ok_or(AccountError::SpentLink)?;
            let id = account.id;
            tables.set_password(id, &hashed)?;
            tables.end_everything(id, now)?;
            tables.drop_links(id, None)?;
            tables.drop_mails(id, MailKind::ResetPassword)?;
            tables.drop_mails(id, MailKind::ChangeEmail)?;
            // The link came by mail: its holder reads this address.
            tables.confirm_email(id, now)?;
            tables.queue_mail(id, MailKind::PasswordChanged, None, now)?;
            tables.insert_account_act(id, AccountAct::PasswordReset, now, None)?;
            Ok::<_, AccountError>(account)
        })
        .await?;
    state.auth.attempts.forgive(&account.email);
    state.mail_due.notify_one();
    Ok(())
}

/// The account whose password a link may still change: its address must be the one the link was
/// sent to.
fn holder(
    link: Option<MailedLink>,
    now: Timestamp,
    account: impl FnOnce(AccountId) -> Result<Option<Account>, StoreError>,
) -> Result<Option<Account>, AccountError> {
    let Some(link) = link.filter(|link| now < link.expires_at) else { return Ok(None) };
    let account = account(link.account)?;
    Ok(account.filter(|account| account.email.key() == link.email.key()))
}

/// What happens to API keys and app consents when the password changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Others {
    /// They end: someone who knew the old password may have made them.
    End,
    /// They are kept: nobody else knew the password, and programs go on.
    Stay,
}

/// Changes the password. All other logins end, with the CLI tokens made for them.
pub async fn change_password(
    state: &AppState,
    session: Session,
    repeated: Repeated,
    new: Secret,
    others: Others,
) -> Result<(), AccountError> {
    const FIELD: &str = "/new_password";
    let Session { account, id: login, .. } = session;
    let new = Password::parse(new).map_err(|rule| AccountError::field(FIELD, rule))?;
    proof::again(state, &account, repeated).await?;
    let hashed = state.auth.hasher.choose(new, hints(&account.email, &account.username)).await;
    let hashed = hashed.map_err(AccountError::chosen(FIELD))?;
    let (id, now) = (account.id, state.clock.now());
    state
        .store
        .write(move |tables| {
            // Another change or a reset may have come first.
            let current = tables.account(id)?.ok_or(AccountError::Void)?;
            if current.password != account.password || tables.login(login)?.is_none() {
                return Err(AccountError::Void);
            }
            tables.set_password(id, &hashed)?;
            tables.end_other_logins(id, login, now)?;
            if others == Others::End {
                tables.end_keys_and_apps(id, now)?;
            }
            tables.drop_links(id, None)?;
            tables.drop_mails(id, MailKind::ResetPassword)?;
            tables.drop_mails(id, MailKind::ChangeEmail)?;
            tables.queue_mail(id, MailKind::PasswordChanged, None, now)?;
            let details = json!({ "keys_and_apps_kept": others == Others::Stay });
            tables.insert_account_act(id, AccountAct::PasswordChanged, now, Some(&details))?;
            Ok(())
        })
        .await?;
    state.mail_due.notify_one();
    Ok(())
}
