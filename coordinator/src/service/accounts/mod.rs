//! Accounts: registration, login, mail address, password, second factor, deletion.

mod delete;
mod email;
mod error;
mod login;
mod password;
mod proof;
mod register;
mod sessions;
mod totp;
mod verify;

pub use delete::delete_account;
pub use email::{change_email, confirm_email_change};
pub use error::AccountError;
pub(crate) use error::seconds;
pub use login::{LoggedIn, log_in, log_in_browser, unchanged};
pub use password::{Others, admit_requests, change_password, forgot_password, reset_password};
pub use proof::{Caller, Offered, Proved, Repeated, prove, prove_again};
pub use register::{Registered, Registration, register};
pub use sessions::{activity, revoke_other_sessions, revoke_session, sessions};
pub use totp::{Enrolment, confirm_totp, disable_totp, enroll_totp, renew_recovery_codes};
pub use verify::{send_verification, verify_email};

use crate::domain::identity::{Email, Username};
use crate::state::AppState;
use crate::store::StoreError;
use crate::store::contract::Account;

/// An account as its owner sees it.
#[derive(Debug)]
pub struct Me {
    pub account: Account,
    /// Accounts that registered with its referral code.
    pub referrals: i64,
    /// `None`: it has no one-time codes.
    pub recovery_codes_left: Option<u32>,
}

pub async fn me(state: &AppState, account: Account) -> Result<Me, AccountError> {
    let id = account.id;
    let counts: Result<(i64, u32), StoreError> = state
        .store
        .read(move |tables| Ok((tables.referrals_of(id)?, tables.recovery_codes_left(id)?)))
        .await;
    let (referrals, codes) = counts?;
    let recovery_codes_left = account.totp_enabled.then_some(codes);
    Ok(Me { account, referrals, recovery_codes_left })
}

/// Words an attacker would try first as this account's password.
fn hints(email: &Email, username: &Username) -> Vec<String> {
    let (local, domain) = email.as_str().split_once('@').unwrap_or((email.as_str(), ""));
    [username.as_str(), email.as_str(), local, domain, "buddo"].map(str::to_owned).to_vec()
}
