//! Authentication: password, and one-time code if the account requires one.
//!
//! ```text
//! back-off ─► look up ─► Argon2 (of a decoy, if there is no account) ─► code, once ─► Account
//! ```

use std::net::IpAddr;

use buddo_shared::model::id::AccountId;
use buddo_shared::model::secret::Secret;

use super::AccountError;
use crate::auth::guesses::Who;
use crate::auth::totp::{self, SharedSecret};
use crate::domain::encryption::EncryptionContext;
use crate::domain::identity::Email;
use crate::state::AppState;
use crate::store::StoreError;
use crate::store::contract::{Account, AccountAct, MailKind};

/// Where a request comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    pub address: IpAddr,
    /// The client program as it names itself, shortened.
    pub user_agent: Option<String>,
    /// The cookie of a browser that logged in before; not verified yet.
    pub device: Option<String>,
}

/// Credentials offered for a login.
#[derive(Debug)]
pub struct Offered {
    pub email: String,
    pub password: Secret,
    /// One-time code or recovery code.
    pub totp_code: Option<Secret>,
    /// Where it comes from.
    pub caller: Caller,
}

/// Credentials the owner repeats before an act that an intruder with their token must not do.
#[derive(Debug)]
pub struct Repeated {
    /// The account's current password.
    pub password: Secret,
    /// One-time code or recovery code, if the account requires one.
    pub totp_code: Option<Secret>,
}

/// Returns the account that the credentials prove. An unknown address takes as long as a wrong
/// password and gets the same answer.
pub async fn prove(state: &AppState, offered: Offered) -> Result<Account, AccountError> {
    let Offered { email, password, totp_code, caller } = offered;
    let email = Email::parse(&email).ok();
    let known = email.as_ref().zip(caller.device.as_ref());
    let device =
        known.and_then(|(email, text)| state.auth.devices.check(text, email, state.clock.now()));
    let who = Who::Stranger { email: email.as_ref(), from: caller.address, device };
    let attempt = state.auth.attempts.password(who)?;
    let checked = async {
        let account = match email {
            Some(email) => {
                let found: Result<_, StoreError> =
                    state.store.read(move |tables| tables.account_by_email(&email)).await;
                found?
            }
            None => None,
        };
        let stored = account.as_ref().map(|account| account.password.clone());
        let matches = state.auth.hasher.verify(password, stored).await?;
        Ok::<_, AccountError>(match account {
            Some(account) if matches => Ok(account),
            other => Err(other.map(|account| account.id)),
        })
    };
    match checked.await {
        Ok(Ok(account)) => {
            attempt.settle();
            noted(state, &account, second_factor(state, &account, totp_code).await)?;
            match account.suspended {
                Some(suspension) => Err(AccountError::Suspended(suspension.reason)),
                None => Ok(account),
            }
        }
        Ok(Err(whose)) => {
            state.auth.failures.note(whose);
            Err(AccountError::Credentials)
        }
        Err(error) => {
            attempt.undo();
            Err(error)
        }
    }
}

/// Whether `repeated` proves `account` again. Its attempts have their own counter: strangers
/// guessing at the login must not lock out the owner, who is logged in.
pub(super) async fn again(
    state: &AppState,
    account: &Account,
    repeated: Repeated,
) -> Result<(), AccountError> {
    let Repeated { password, totp_code } = repeated;
    let attempt = state.auth.attempts.password(Who::Session(account.id))?;
    match state.auth.hasher.verify(password, Some(account.password.clone())).await {
        Ok(true) => {
            attempt.settle();
            let proved = second_factor(state, account, totp_code).await;
            noted(state, account, proved).map_err(|error| match error {
                AccountError::TotpRequired => AccountError::CodeMissing,
                AccountError::TotpCode => AccountError::CodeWrong,
                error => error,
            })
        }
        Ok(false) => {
            state.auth.failures.note(Some(account.id));
            Err(AccountError::Reauthentication)
        }
        Err(error) => {
            attempt.undo();
            Err(error.into())
        }
    }
}

/// Proof that the owner of an account has just repeated password and code. Only [`prove_again`]
/// makes one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Proved(AccountId);

impl Proved {
    pub fn account(self) -> AccountId {
        self.0
    }
}

/// For acts whose result outlives the token used: requires password and code again.
pub async fn prove_again(
    state: &AppState,
    id: AccountId,
    repeated: Repeated,
) -> Result<Proved, AccountError> {
    let account: Result<_, StoreError> = state.store.read(move |tables| tables.account(id)).await;
    let account = account?.ok_or(AccountError::Void)?;
    again(state, &account, repeated).await?;
    Ok(Proved(id))
}

/// Counts a wrong code for the account's log.
fn noted(
    state: &AppState,
    account: &Account,
    proved: Result<(), AccountError>,
) -> Result<(), AccountError> {
    if matches!(proved, Err(AccountError::TotpCode)) {
        state.auth.failures.note(Some(account.id));
    }
    proved
}

/// Uses a one-time code or a recovery code, if the account requires one. Each works once.
async fn second_factor(
    state: &AppState,
    account: &Account,
    offered: Option<Secret>,
) -> Result<(), AccountError> {
    let id = account.id;
    let stored: Result<_, StoreError> = state.store.read(move |tables| tables.totp(id)).await;
    let Some(stored) = stored?.filter(|stored| stored.enabled_at.is_some()) else { return Ok(()) };
    let offered = offered.filter(|offered| !offered.expose().trim().is_empty());
    let offered = offered.ok_or(AccountError::TotpRequired)?;
    state.auth.attempts.code(id)?;
    let secret = open(state, id, &stored.sealed)?;
    let now = state.clock.now();
    let used = match (secret.step_of(&offered, now), totp::recovery_hash(id, &offered)) {
        (Some(step), _) => {
            let used: Result<bool, StoreError> =
                state.store.write(move |tables| tables.use_totp_step(id, step)).await;
            used?
        }
        (None, Some(hash)) => {
            let used: Result<bool, StoreError> = state
                .store
                .write(move |tables| {
                    let used = tables.use_recovery_code(id, &hash)?;
                    if used {
                        tables.insert_account_act(id, AccountAct::RecoveryCodeUsed, now, None)?;
                        tables.queue_mail(id, MailKind::RecoveryCodeUsed, None, now)?;
                    }
                    Ok(used)
                })
                .await;
            let used = used?;
            state.mail_due.notify_one();
            used
        }
        (None, None) => false,
    };
    if used {
        state.auth.attempts.code_was_right(id);
        Ok(())
    } else {
        Err(AccountError::TotpCode)
    }
}

/// Decrypts an account's TOTP secret.
pub(super) fn open(
    state: &AppState,
    id: AccountId,
    sealed: &[u8],
) -> Result<SharedSecret, AccountError> {
    let text = state.vault.open_sealed(EncryptionContext::TotpSecret(id), sealed)?;
    Ok(SharedSecret::from_base32(&text)?)
}
