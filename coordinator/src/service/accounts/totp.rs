//! The second factor: enrol, confirm, disable, recovery codes.
//!
//! ```text
//! none ─ enroll (password) ─► proposed ─ confirm (with a code) ─► enabled ─ disable ─► none
//!                                                                   └─ both factors ─┘
//! ```

use std::sync::Arc;

use buddo_shared::model::id::AccountId;
use buddo_shared::model::secret::Secret;

use super::AccountError;
use super::proof::{self, Repeated};
use crate::auth::session::Session;
use crate::auth::totp::{self, SharedSecret};
use crate::domain::encryption::EncryptionContext;
use crate::domain::identity::HashedToken;
use crate::state::AppState;
use crate::store::StoreError;
use crate::store::contract::{AccountAct, MailKind};

/// A proposed secret, to be put into an app.
#[derive(Debug)]
pub struct Enrolment {
    /// In base32, to be typed.
    pub secret: Secret,
    /// As an `otpauth:` URI.
    pub uri: Secret,
    /// The URI as a QR code, in SVG.
    pub picture: Secret,
}

/// Proposes a secret, which is shown only once. It has no effect until a code confirms it. Requires
/// a confirmed address, so that nobody can lock the address's real owner out.
pub async fn enroll_totp(
    state: &AppState,
    session: Session,
    repeated: Repeated,
) -> Result<Enrolment, AccountError> {
    let account = session.account;
    if account.email_verified_at.is_none() {
        return Err(AccountError::EmailUnverified);
    }
    if account.totp_enabled {
        return Err(AccountError::TotpEnabled);
    }
    proof::again(state, &account, repeated).await?;
    let secret = SharedSecret::generate(&*state.random, &account.email)?;
    let shown = secret.to_base32();
    let (id, services, plain) = (account.id, Arc::clone(state), shown.clone());
    state
        .store
        .write(move |tables| {
            let sealed = services.vault.seal(EncryptionContext::TotpSecret(id), &plain)?;
            Ok::<_, AccountError>(tables.propose_totp(id, &sealed)?)
        })
        .await?;
    Ok(Enrolment { secret: shown, uri: secret.uri()?, picture: secret.picture()? })
}

/// Enables the proposed secret with a code. The recovery codes are shown only once.
pub async fn confirm_totp(
    state: &AppState,
    session: Session,
    code: Secret,
) -> Result<Vec<Secret>, AccountError> {
    let id = session.account.id;
    let stored: Result<_, StoreError> = state.store.read(move |tables| tables.totp(id)).await;
    let stored = stored?.ok_or(AccountError::TotpMissing)?;
    if stored.enabled_at.is_some() {
        return Err(AccountError::TotpEnabled);
    }
    state.auth.attempts.code(id)?;
    let secret = proof::open(state, id, &stored.sealed)?;
    let now = state.clock.now();
    let wrong = || AccountError::field("/code", "is not the app's current code; type its next one");
    let step = secret.step_of(&code, now).ok_or_else(wrong)?;
    let (codes, hashes) = new_codes(state, id);
    state
        .store
        .write(move |tables| {
            let current = tables.totp(id)?.ok_or(AccountError::TotpMissing)?;
            if current.enabled_at.is_some() {
                return Err(AccountError::TotpEnabled);
            }
            // Another secret may have been proposed meanwhile.
            if current.sealed != stored.sealed || !tables.use_totp_step(id, step)? {
                return Err(wrong());
            }
            tables.enable_totp(id, now)?;
            tables.set_recovery_codes(id, &hashes)?;
            tables.queue_mail(id, MailKind::TotpEnabled, None, now)?;
            tables.insert_account_act(id, AccountAct::TotpEnabled, now, None)?;
            Ok(())
        })
        .await?;
    state.auth.attempts.code_was_right(id);
    state.mail_due.notify_one();
    Ok(codes)
}

/// Disables one-time codes: with password and code, or a recovery code.
pub async fn disable_totp(
    state: &AppState,
    session: Session,
    repeated: Repeated,
) -> Result<(), AccountError> {
    let account = session.account;
    if !account.totp_enabled {
        return Err(AccountError::TotpMissing);
    }
    proof::again(state, &account, repeated).await?;
    let (id, now) = (account.id, state.clock.now());
    let done: Result<(), StoreError> = state
        .store
        .write(move |tables| {
            tables.clear_totp(id)?;
            tables.queue_mail(id, MailKind::TotpDisabled, None, now)?;
            tables.insert_account_act(id, AccountAct::TotpDisabled, now, None)
        })
        .await;
    done?;
    state.mail_due.notify_one();
    Ok(())
}

/// Makes new recovery codes; the old ones become void.
pub async fn renew_recovery_codes(
    state: &AppState,
    session: Session,
    repeated: Repeated,
) -> Result<Vec<Secret>, AccountError> {
    let account = session.account;
    if !account.totp_enabled {
        return Err(AccountError::TotpMissing);
    }
    proof::again(state, &account, repeated).await?;
    let (id, now) = (account.id, state.clock.now());
    let (codes, hashes) = new_codes(state, id);
    state
        .store
        .write(move |tables| {
            // It may have been disabled meanwhile.
            let enabled = tables.totp(id)?.is_some_and(|totp| totp.enabled_at.is_some());
            if !enabled {
                return Err(AccountError::TotpMissing);
            }
            tables.set_recovery_codes(id, &hashes)?;
            tables.insert_account_act(id, AccountAct::RecoveryCodesReplaced, now, None)?;
            Ok(())
        })
        .await?;
    Ok(codes)
}

fn new_codes(state: &AppState, id: AccountId) -> (Vec<Secret>, Vec<HashedToken>) {
    let codes = totp::recovery_codes(&*state.random);
    let hashes = codes.iter().filter_map(|code| totp::recovery_hash(id, code)).collect();
    (codes, hashes)
}
