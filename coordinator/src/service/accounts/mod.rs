//! Accounts: register, log in, confirm the mail address.

mod error;
mod login;
mod register;
mod verify;

pub use error::AccountError;
pub use login::{Offered, account_of_login, log_in, prove};
pub use register::register;
pub use verify::{send_verification, verify_email};

use buddo_shared::api::auth::User;

use crate::store::contract::Account;

/// An account as its owner sees it.
pub fn user(account: &Account) -> User {
    User {
        id: account.id.to_string(),
        email: account.email.to_string(),
        username: account.username.to_string(),
        tier: account.tier.clone(),
        is_admin: account.is_admin,
        email_verified: account.email_verified_at.is_some(),
        totp_enabled: false,
    }
}
