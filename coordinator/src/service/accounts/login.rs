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
use crate::store::StoreError;
use crate::store::contract::{Account, AccountAct, LoginRow};
use crate::token::jwt::{JwtError, LIFETIME, Login};

/// Logins that an account may have at once; a further one ends the longest unused.
const KEPT: u32 = 100;
/// How exactly it is known when a login was last used: each note is a write.
const NOTED_EACH: SignedDuration = SignedDuration::from_mins(10);

/// A login that holds: whose it is, and which of theirs.
#[derive(Debug, Clone)]
pub struct Session {
    /// Who logged in.
    pub account: Account,
    /// The login.
    pub id: Uuid,
}

/// Logs in: a token for the account's own endpoints.
pub async fn log_in(state: &AppState, offered: Offered) -> Result<LoggedIn, AccountError> {
    let Caller { address, user_agent } = offered.caller.clone();
    let account = prove(state, offered).await?;
    let now = state.clock.now();
    let row = LoginRow {
        id: random::uuid(&*state.random),
        account: account.id,
        created_at: now,
        last_used_at: now,
        expires_at: now + LIFETIME,
        address: address.to_string(),
        user_agent,
    };
    let login = Login { account: account.id, epoch: account.token_epoch, session: row.id };
    let token = state.door.jwt.issue(login, now)?;
    let shown = user(&account);
    state
        .store
        .write(move |tables| {
            // The account may have changed since its password was checked.
            let current = tables.account(row.account)?;
            let same = current.is_some_and(|current| {
                current.token_epoch == login.epoch && current.password == account.password
            });
            if !same {
                return Err(AccountError::Void);
            }
            tables.insert_login(&row, KEPT)?;
            let details = json!({ "session": row.id });
            tables.insert_account_act(row.account, AccountAct::LoggedIn, now, Some(&details))?;
            Ok(())
        })
        .await?;
    Ok(LoggedIn { token, user: shown })
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
    if let Some(suspension) = account.suspended {
        return Err(AccountError::Suspended(suspension.reason));
    }
    if now.duration_since(row.last_used_at) >= NOTED_EACH {
        let noted: Result<(), StoreError> =
            state.store.write(move |tables| tables.touch_login(row.id, now)).await;
        // What is read must not fail because this cannot be written.
        if let Err(error) = noted {
            tracing::warn!(error = %chain(&error), "cannot note that a login was used");
        }
    }
    Ok(Session { account, id: row.id })
}
