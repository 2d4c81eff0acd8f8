//! Log in.

use buddo_shared::model::secret::Secret;
use serde_json::json;

use super::AccountError;
use super::proof::{Caller, Offered, prove};
use crate::auth::token::PlainToken;
use crate::auth::token::jwt::{LIFETIME, Login};
use crate::crypto::random;
use crate::state::AppState;
use crate::store::Tables;
use crate::store::contract::{Account, AccountAct, LoginRow};

/// Maximum logins of an account; a further one ends the one unused for longest.
const KEPT: u32 = 100;

/// A login that was made.
#[derive(Debug)]
pub struct LoggedIn {
    /// The JWT for the account endpoints.
    pub token: Secret,
    pub account: Account,
}

/// Logs in; returns a token for the account endpoints.
pub async fn log_in(state: &AppState, offered: Offered) -> Result<LoggedIn, AccountError> {
    let caller = offered.caller.clone();
    let account = prove(state, offered).await?;
    let row = row(state, &account, caller);
    let login = Login { account: account.id, epoch: account.token_epoch, session: row.id };
    let token = state.auth.jwt.issue(login, row.created_at)?;
    let shown = account.clone();
    state.store.write(move |tables| open(tables, &account, &row)).await?;
    Ok(LoggedIn { token, account: shown })
}

/// Logs a browser in; the cookie's token refers to the new login.
pub async fn log_in_browser(
    state: &AppState,
    account: &Account,
    caller: Caller,
    cookie: &PlainToken,
) -> Result<(), AccountError> {
    let (account, row, hash) = (account.clone(), row(state, account, caller), cookie.hashed());
    state
        .store
        .write(move |tables| {
            open(tables, &account, &row)?;
            Ok(tables.insert_web_session(&hash, row.id)?)
        })
        .await
}

fn row(state: &AppState, account: &Account, caller: Caller) -> LoginRow {
    let now = state.clock.now();
    LoginRow {
        id: random::uuid(&*state.random),
        account: account.id,
        created_at: now,
        last_used_at: now,
        expires_at: now + LIFETIME,
        address: caller.address.to_string(),
        user_agent: caller.user_agent,
    }
}

fn open(tables: &mut dyn Tables, account: &Account, row: &LoginRow) -> Result<(), AccountError> {
    unchanged(tables, account)?;
    tables.insert_login(row, KEPT)?;
    let details = json!({ "session": row.id });
    tables.insert_account_act(account.id, AccountAct::LoggedIn, row.created_at, Some(&details))?;
    Ok(())
}

/// Whether the account is unchanged since its password was checked: a password change must also end
/// logins in progress.
pub fn unchanged(tables: &dyn Tables, proved: &Account) -> Result<(), AccountError> {
    let current = tables.account(proved.id)?;
    let same = current.is_some_and(|current| {
        current.token_epoch == proved.token_epoch && current.password == proved.password
    });
    if same { Ok(()) } else { Err(AccountError::Void) }
}
