//! The session that a login token stands for.

use buddo_runtime::error_chain::chain;
use jiff::SignedDuration;
use uuid::Uuid;

use crate::auth::authentication::Authentication;
use crate::auth::token::PlainToken;
use crate::auth::token::jwt::JwtError;
use crate::store::StoreError;
use crate::store::contract::{Account, LoginRow};

/// A token or cookie does not stand for a login that may act.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// The login was voided, or its account is gone.
    #[error("the login is no longer valid; log in again")]
    Void,
    /// An administrator suspended the account, for this reason.
    #[error("{}", suspended(.0.as_deref()))]
    Suspended(Option<String>),
    /// The token could not be checked.
    #[error("cannot check a login")]
    Token(#[from] JwtError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What the owner of a suspended account is told.
pub(crate) fn suspended(reason: Option<&str>) -> String {
    let reason = reason.map(|reason| format!(": {reason}")).unwrap_or_default();
    format!("the account is suspended{reason}; its apps are stopped. Ask the platform's operator")
}

/// Resolution of a login's last-used time: each update is a write.
const NOTED_EACH: SignedDuration = SignedDuration::from_mins(10);

/// A valid login: whose it is, and which of theirs. Only this file makes one.
#[derive(Debug, Clone)]
pub struct Session {
    pub account: Account,
    pub id: Uuid,
    _looked_up: LookedUp,
}

/// Keeps other modules from constructing a [`Session`].
#[derive(Debug, Clone, Copy)]
struct LookedUp;

/// The session of a login token, if it is still valid.
pub async fn session_of(auth: &Authentication, token: &str) -> Result<Session, SessionError> {
    let now = auth.clock.now();
    let login = auth.jwt.check(token, now).map_err(|error| match error {
        JwtError::Sign(_) => SessionError::Token(error),
        JwtError::Invalid | JwtError::Expired => SessionError::Void,
    })?;
    let found: Result<_, StoreError> = auth
        .store
        .read(move |tables| Ok(tables.login(login.session)?.zip(tables.account(login.account)?)))
        .await;
    let (row, account) = found?.ok_or(SessionError::Void)?;
    let holds = row.account == account.id
        && account.id == login.account
        && account.token_epoch == login.epoch
        && now < row.expires_at;
    if !holds {
        return Err(SessionError::Void);
    }
    used(auth, row, account).await
}

/// The session of a browser's cookie, if it is still valid.
pub async fn session_of_browser(
    auth: &Authentication,
    cookie: &PlainToken,
) -> Result<Session, SessionError> {
    let (hash, now) = (cookie.hashed(), auth.clock.now());
    let found: Result<_, StoreError> = auth
        .store
        .read(move |tables| {
            let Some(row) = tables.web_session(&hash)? else { return Ok(None) };
            Ok(tables.account(row.account)?.map(|account| (row, account)))
        })
        .await;
    let (row, account) =
        found?.filter(|(row, _)| now < row.expires_at).ok_or(SessionError::Void)?;
    used(auth, row, account).await
}

/// The session of a valid login, unless its account may not act. Records now and then that it was
/// used.
async fn used(
    auth: &Authentication,
    row: LoginRow,
    account: Account,
) -> Result<Session, SessionError> {
    if let Some(suspension) = account.suspended {
        return Err(SessionError::Suspended(suspension.reason));
    }
    let now = auth.clock.now();
    if now.duration_since(row.last_used_at) >= NOTED_EACH {
        let noted: Result<(), StoreError> =
            auth.store.write(move |tables| tables.touch_login(row.id, now)).await;
        // A failed write must not fail the read.
        if let Err(error) = noted {
            tracing::warn!(error = %chain(&error), "cannot record the use of a login");
        }
    }
    Ok(Session { account, id: row.id, _looked_up: LookedUp })
}
