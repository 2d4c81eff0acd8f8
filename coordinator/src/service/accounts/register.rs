//! Registration: one transaction creates the account and queues its verification mail.

use crate::domain::field_error::FieldError;
use buddo_shared::model::id::AccountId;
use serde_json::json;

use super::{AccountError, hints};
use crate::auth::password::Password;
use crate::crypto::random::{self, Random};
use crate::domain::identity::{Email, Username};
use crate::service::teams;
use crate::state::AppState;
use crate::store::contract::{AccountAct, MailKind, NewAccount};

/// Who wants an account.
#[derive(Debug)]
pub struct Registration {
    pub email: Email,
    pub username: Username,
    pub password: Password,
    /// Another account's, as typed.
    pub referral_code: Option<String>,
}

/// The new account.
#[derive(Debug)]
pub struct Registered {
    pub id: AccountId,
    pub email: Email,
    pub username: Username,
    pub referral_code: String,
    /// Counts accounts in the order in which they registered.
    pub number: i64,
}

/// Creates an account and queues its verification mail.
pub async fn register(
    state: &AppState,
    registration: Registration,
) -> Result<Registered, AccountError> {
    let Registration { email, username, password, referral_code } = registration;
    let password = state.auth.hasher.choose(password, hints(&email, &username)).await;
    let password = password.map_err(AccountError::chosen("/password"))?;
    let account = NewAccount {
        id: AccountId::new(random::uuid(&*state.random)),
        email,
        username,
        password,
        referral_code: referral_code_of(&*state.random),
        referred_by: None,
        created_at: state.clock.now(),
    };
    let registered = state
        .store
        .write(move |tables| {
            let mut account = account.clone();
            let mut errors = Vec::new();
            if tables.account_by_email(&account.email)?.is_some() {
                let detail = "already has an account; log in, or use another address";
                errors.push(FieldError::new("/email", detail));
            }
            if tables.is_username_taken(&account.username)? {
                errors.push(FieldError::new("/username", "is taken; choose another name"));
            }
            if let Some(code) = &referral_code {
                account.referred_by =
                    tables.account_by_referral(&code.trim().to_ascii_uppercase())?;
                if account.referred_by.is_none() {
                    let detail = "is not a known code; check it, or leave the field out";
                    errors.push(FieldError::new("/referral_code", detail));
                }
            }
            if !errors.is_empty() {
                return Err(AccountError::Invalid(errors));
            }
            let number = tables.insert_account(&account)?;
            teams::make_own(tables, &account)?;
            let (id, at) = (account.id, account.created_at);
            tables.queue_mail(id, MailKind::VerifyEmail, None, at)?;
            let details = account.referred_by.map(|by| json!({ "referred_by": by }));
            tables.insert_account_act(id, AccountAct::Registered, at, details.as_ref())?;
            let NewAccount { id, email, username, referral_code, .. } = account;
            Ok(Registered { id, email, username, referral_code, number })
        })
        .await?;
    state.mail_due.notify_one();
    Ok(registered)
}

/// Ten of 32 letters and digits that cannot be confused with one another: 50 bits, so that codes do
/// not collide.
fn referral_code_of(random: &dyn Random) -> String {
    const ALPHABET: &[u8; 32] = b"ABCDEFGHJKLMNPQRSTUVWXYZ23456789";
    random::bytes::<10>(random)
        .iter()
        .map(|byte| char::from(ALPHABET[usize::from(byte % 32)]))
        .collect()
}
