//! Log in, and what a login's token stands for afterwards.

use buddo_shared::api::auth::LoggedIn;
use jiff::SignedDuration;
use serde_json::json;
use uuid::Uuid;

use super::proof::{Caller, Offered, prove};
use super::{AccountError, user};
use crate::http::problem::chain;
use crate::random;
use crate::state::AppState;
use crate::store::contract::{Account, AccountAct, LoginRow};
use crate::store::{StoreError, Tables};
use crate::token::PlainToken;
use crate::token::jwt::{JwtError, LIFETIME, Login};

/// Logins that an account may have at once; a further one ends the longest unused.
const KEPT: u32 = 100;
/// How exactly it is known when a login was last used: each note is a write.
const NOTED_EACH: SignedDuration = SignedDuration::from_mins(10);

/// A login that holds: whose it is, and which of theirs. Only this file makes one.
#[derive(Debug, Clone)]
pub struct Session {
    /// Who logged in.
    pub account: Account,
    /// The login.
    pub id: Uuid,
    _looked_up: LookedUp,
}

/// What keeps others from making a [`Session`].
#[derive(Debug, Clone, Copy)]
struct LookedUp;

/// Logs in: a token for the account's own endpoints.
pub async fn log_in(state: &AppState, offered: Offered) -> Result<LoggedIn, AccountError> {
    let caller = offered.caller.clone();
    let account = prove(state, offered).await?;
    let row = row(state, &account, caller);
    let login = Login { account: account.id, epoch: account.token_epoch, session: row.id };
    let token = state.door.jwt.issue(login, row.created_at)?;
    let shown = user(&account);
    state.store.write(move |tables| open(tables, &account, &row)).await?;
    Ok(LoggedIn { token, user: shown })
}

/// Logs a browser in: the cookie's token stands for a login from now on.
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

/// Whether the account is as it was when its password was checked: a password that changes
/// meanwhile ends also the logins that are under way.
pub fn unchanged(tables: &dyn Tables, proved: &Account) -> Result<(), AccountError> {
    let current = tables.account(proved.id)?;
    let same = current.is_some_and(|current| {
        current.token_epoch == proved.token_epoch && current.password == proved.password
    });
    if same { Ok(()) } else { Err(AccountError::Void) }
}

/// The login that a token stands for, if it still does.
pub async fn session_of(state: &AppState, token: &str) -> Result<Session, AccountError> {
    let now = state.clock.now();
    let login = state.door.jwt.check(token, now).map_err(|error| match error {
        JwtError::Sign(_) => AccountError::Token(error),
        JwtError::Invalid | JwtError::Expired => AccountError::Void,
    })?;
    let found: Result<_, StoreError> = state
        .store
        .read(move |tables| Ok(tables.login(login.session)?.zip(tables.account(login.account)?)))
        .await;
    let (row, account) = found?.ok_or(AccountError::Void)?;
    let holds = row.account == account.id
        && account.id == login.account
        && account.token_epoch == login.epoch
        && now < row.expires_at;
    if !holds {
        return Err(AccountError::Void);
    }
    used(state, row, account).await
}

/// The login that a browser's cookie stands for, if it still does.
pub async fn session_of_browser(
    state: &AppState,
    cookie: &PlainToken,
) -> Result<Session, AccountError> {
    let (hash, now) = (cookie.hashed(), state.clock.now());
    let found: Result<_, StoreError> = state
        .store
        .read(move |tables| {
            let Some(row) = tables.web_session(&hash)? else { return Ok(None) };
            Ok(tables.account(row.account)?.map(|account| (row, account)))
        })
        .await;
    let (row, account) =
        found?.filter(|(row, _)| now < row.expires_at).ok_or(AccountError::Void)?;
    used(state, row, account).await
}

/// The session of a login that holds, unless its account may not act. Notes, from time to time,
/// that it was used.
async fn used(state: &AppState, row: LoginRow, account: Account) -> Result<Session, AccountError> {
    if let Some(suspension) = account.suspended {
        return Err(AccountError::Suspended(suspension.reason));
    }
    let now = state.clock.now();
    if now.duration_since(row.last_used_at) >= NOTED_EACH {
        let noted: Result<(), StoreError> =
            state.store.write(move |tables| tables.touch_login(row.id, now)).await;
        // What is read must not fail because this cannot be written.
        if let Err(error) = noted {
            tracing::warn!(error = %chain(&error), "cannot note that a login was used");
        }
    }
    Ok(Session { account, id: row.id, _looked_up: LookedUp })
}
