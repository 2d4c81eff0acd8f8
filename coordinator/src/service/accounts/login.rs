//! Log in, and what a login's token stands for afterwards.

use buddo_shared::api::auth::LoggedIn;
use buddo_shared::secret::Secret;

use super::{AccountError, user};
use crate::identity::Email;
use crate::state::AppState;
use crate::store::StoreError;
use crate::store::contract::Account;
use crate::token::jwt::{JwtError, Login};

/// What somebody offers to prove who they are.
#[derive(Debug)]
pub struct Offered {
    /// Mail address.
    pub email: String,
    /// Password.
    pub password: Secret,
}

/// The account that the credentials prove. An unknown address takes as long as a wrong password
/// and is answered alike.
pub async fn prove(state: &AppState, offered: Offered) -> Result<Account, AccountError> {
    let Offered { email, password } = offered;
    let account = match Email::parse(&email) {
        Ok(email) => {
            let found = state.store.read(move |tables| tables.account_by_email(&email)).await;
            found.map_err(|error: StoreError| error)?
        }
        Err(_) => None,
    };
    let stored = account.as_ref().map(|account| account.password.clone());
    let matches = state.door.hasher.verify(password, stored).await?;
    account.filter(|_| matches).ok_or(AccountError::Credentials)
}

/// Logs in: a token for the account's own endpoints.
pub async fn log_in(state: &AppState, offered: Offered) -> Result<LoggedIn, AccountError> {
    let account = prove(state, offered).await?;
    let login = Login { account: account.id, epoch: account.token_epoch };
    let token = state.door.jwt.issue(login, state.clock.now())?;
    Ok(LoggedIn { token, user: user(&account) })
}

/// The account that a login's token stands for, if it still does.
pub async fn account_of_login(state: &AppState, token: &str) -> Result<Account, AccountError> {
    let login = state.door.jwt.check(token, state.clock.now()).map_err(|error| match error {
        JwtError::Sign(_) => AccountError::Token(error),
        JwtError::Invalid | JwtError::Expired => AccountError::Void,
    })?;
    let account: Result<_, StoreError> =
        state.store.read(move |tables| tables.account(login.account)).await;
    account?.filter(|account| account.token_epoch == login.epoch).ok_or(AccountError::Void)
}
