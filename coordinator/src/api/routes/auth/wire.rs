//! Accounts: from a registration of the published API to domain values, and from those to its
//! answers.

use buddo_shared::api::auth::{LoggedIn, Me, Profile, Register, Registered, RegisteredUser, User};

use crate::api::problem::ApiError;
use crate::auth::password::Password;
use crate::domain::field_error::FieldError;
use crate::domain::identity::{Email, Username};
use crate::service::accounts::{self, Registration};
use crate::store::contract::Account;

/// The registration that is asked for, or every bad field.
pub(super) fn registration(request: Register) -> Result<Registration, ApiError> {
    let Register { email, username, password, referral_code } = request;
    let email = Email::parse(&email).map_err(|error| FieldError::new("/email", error));
    let username = Username::parse(&username).map_err(|error| FieldError::new("/username", error));
    let password = Password::parse(password).map_err(|error| FieldError::new("/password", error));
    match (email, username, password) {
        (Ok(email), Ok(username), Ok(password)) => {
            Ok(Registration { email, username, password, referral_code })
        }
        (email, username, password) => {
            let errors = [email.err(), username.err(), password.err()];
            Err(ApiError::invalid(errors.into_iter().flatten()))
        }
    }
}

pub(super) fn registered(registered: accounts::Registered) -> Registered {
    Registered {
        user: RegisteredUser {
            id: registered.id.to_string(),
            email: registered.email.to_string(),
            username: registered.username.to_string(),
            tier: "free".to_owned(),
            points: 0,
            referral_code: registered.referral_code,
            email_verified: false,
            registration_number: registered.number,
        },
    }
}

pub(super) fn logged_in(logged_in: accounts::LoggedIn) -> LoggedIn {
    LoggedIn { token: logged_in.token, user: user(&logged_in.account) }
}

pub(super) fn me(me: accounts::Me) -> Me {
    let accounts::Me { account, referrals, recovery_codes_left } = me;
    Me {
        user: Profile {
            user: user(&account),
            points: account.points,
            referral_code: account.referral_code,
            referrals,
            recovery_codes_left,
            registration_number: account.registration_number,
            inserted_at: account.created_at,
        },
    }
}

/// An account as login shows it.
fn user(account: &Account) -> User {
    User {
        id: account.id.to_string(),
        email: account.email.to_string(),
        username: account.username.to_string(),
        tier: account.tier.clone(),
        is_admin: account.is_admin,
        email_verified: account.email_verified_at.is_some(),
        totp_enabled: account.totp_enabled,
    }
}
